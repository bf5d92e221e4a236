import http.server
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

from controller.lab.cluster.certificates import Authority
from controller.lab.process import LabError, wait_until
from controller.lab.prometheus import PrometheusServer, Target
from controller.lab.redis import RedisServer, TlsFiles

pytestmark = pytest.mark.integration


class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"demo_value 42\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def exporter():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def query(prometheus, promql):
    url = f"{prometheus.url}/api/v1/query?" + urllib.parse.urlencode({"query": promql})
    with urllib.request.urlopen(url, timeout=5) as reply:
        return json.load(reply)["data"]["result"]


def test_prometheus_scrapes_targets_that_change_at_run_time(tmp_path, exporter):
    with PrometheusServer.start(tmp_path, targets=[Target(exporter, {"pod": "a"})]) as prometheus:
        wait_until(lambda: query(prometheus, 'demo_value{pod="a"}'), 15, "the first scrape")
        prometheus.set_targets([Target(exporter, {"pod": "b"})])
        wait_until(lambda: query(prometheus, 'demo_value{pod="b"}'), 15, "the second target")
        wait_until(lambda: not query(prometheus, 'demo_value{pod="a"}'), 15, "the first target's end")
        prometheus.process.kill()
        prometheus.restart()
        wait_until(lambda: query(prometheus, 'demo_value{pod="b"}'), 15, "a scrape after the restart")


def test_prometheus_with_a_wrong_configuration_says_why(tmp_path):
    with pytest.raises(LabError, match="bogus"):
        PrometheusServer.start(tmp_path, scrape_config={"bogus": 1})


def test_redis_comes_back_empty_or_full_on_the_same_port(tmp_path):
    for persistent in (False, True):
        with RedisServer.start(tmp_path / str(persistent), persistent=persistent, password="s3cret word") as redis:
            with redis.client() as client:
                client.set("key", "value")
            redis.process.kill()
            redis.restart()
            with redis.client() as client:
                assert client.get("key") == ("value" if persistent else None)


def test_a_paused_redis_hangs_and_goes_on(tmp_path):
    with RedisServer.start(tmp_path) as redis, redis.client(socket_connect_timeout=1) as client:
        client.set("key", "value")
        redis.process.pause()
        before = time.monotonic()
        assert not redis._answers()
        assert time.monotonic() - before >= 0.9
        redis.process.resume()
        assert client.get("key") == "value"


@pytest.fixture
def tls(tmp_path):
    folder = tmp_path / "pki"
    folder.mkdir()
    Authority.create(folder, "ca").issue("server", "localhost", hosts=("127.0.0.1",))
    return TlsFiles(folder / "server.crt", folder / "server.key", folder / "ca.crt")


def test_redis_speaks_tls_only_when_asked(tmp_path, tls):
    with RedisServer.start(tmp_path / "redis", tls=tls, password="word") as redis, redis.client() as client:
        assert redis.url.startswith("rediss://")
        assert client.ping()


def test_prometheus_with_tls_and_a_password(tmp_path, tls):
    # The hash of the password "test", as Prometheus' own documentation gives it.
    users = {"admin": "$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay"}
    web = {"tls_server_config": {"cert_file": str(tls.cert), "key_file": str(tls.key)}, "basic_auth_users": users}
    trusting = ssl.create_default_context(cafile=tls.ca)
    with PrometheusServer.start(tmp_path / "prometheus", web_config=web) as prometheus:
        request = urllib.request.Request(f"{prometheus.url}/api/v1/query?query=1")
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(request, timeout=5, context=trusting)
        refused.value.close()
        request.add_header("Authorization", "Basic YWRtaW46dGVzdA==")
        with urllib.request.urlopen(request, timeout=5, context=trusting) as reply:
            assert reply.status == 200
