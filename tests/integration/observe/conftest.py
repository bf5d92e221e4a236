"""Real Prometheus and Redis, a small exporter, and small servers that misbehave. All on free loopback ports."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import pytest
import redis
from support import past
from support.redis_lab import free_cluster_port

from controller.policy.schema import LoadPolicy


def make_policy(name="svc", *, selector=None, key="pod", endpoint="http://{pod}:8000", signals=None, **spec):
    return LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": name, "namespace": "models"},
            "spec": {
                "instances": {"selector": selector or {"service": name}, "key": key, "endpoint": endpoint},
                "signals": signals or {"rate": {"query": "sum by ($by) (demo_rate{$selector})"}},
                **spec,
            },
        }
    )


@pytest.fixture
def policy():
    return make_policy


def wait_until(condition, timeout=20.0):
    """Polls a condition of another process, which nothing else announces."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        with contextlib.suppress(OSError, redis.RedisError):
            found = condition()
            if found:
                return found
        time.sleep(0.05)
    raise AssertionError("the condition did not come true")


@pytest.fixture(name="wait_until", scope="session")
def wait_until_fixture():
    return wait_until


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        self.server.behave(self)

    def reply(self, body, status=200, content_type="application/json", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, behave, context=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave, self.requests, self.released = behave, [], threading.Event()
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https" if context else "http"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_):
        """A client that hangs up is the point of half of these tests."""

    def stop(self):
        self.released.set()
        self.shutdown()
        self.server_close()


@pytest.fixture
def serve():
    """Starts a server whose every reply is made by `behave(handler)`."""
    servers = []

    def start(behave, context=None):
        servers.append(Server(behave, context))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@contextlib.contextmanager
def process(*command, cwd):
    with (cwd / "output.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, cwd=cwd)
        try:
            yield running
        finally:
            running.kill()
            running.wait()


class Exporter(Server):
    """Exports whatever `text` holds."""

    def __init__(self):
        self.text = ""
        super().__init__(lambda handler: handler.reply(self.text.encode(), content_type="text/plain; version=0.0.4"))


@pytest.fixture(scope="module")
def exporters():
    """Starts exporters."""
    started = []

    def start(text=""):
        started.append(Exporter())
        started[-1].text = text
        return started[-1]

    yield start
    for exporter in started:
        exporter.stop()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """Starts a real Prometheus that scrapes (url, labels) pairs once a second; returns its URL."""
    if shutil.which("prometheus") is None:
        pytest.fail("prometheus is not installed: make tools")
    with contextlib.ExitStack() as stack:

        def start(*targets):
            tmp_path = tmp_path_factory.mktemp("prometheus")
            port = free_port()
            statics = [
                {"targets": [exporter.url.removeprefix("http://")], "labels": labels} for exporter, labels in targets
            ]
            config = {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [{"job_name": "demo", "static_configs": statics}],
            }
            (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
            stack.enter_context(
                process(
                    "prometheus",
                    f"--config.file={tmp_path}/prometheus.yml",
                    f"--storage.tsdb.path={tmp_path}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                    cwd=tmp_path,
                )
            )
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: urllib.request.urlopen(f"{url}/-/ready", timeout=2).status == 200)
            return url

        yield start


@pytest.fixture(scope="module")
def backfilled_prometheus(tmp_path_factory):
    """Starts a real Prometheus that scrapes nothing and holds a past, given as OpenMetrics text; returns its URL."""
    if shutil.which("prometheus") is None:
        pytest.fail("prometheus is not installed: make tools")
    with contextlib.ExitStack() as stack:

        def start(text):
            folder, port = tmp_path_factory.mktemp("backfilled"), free_port()
            past.fill(folder, text)
            (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": []}))
            flags = (
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{port}",
            )
            stack.enter_context(process("prometheus", *flags, cwd=folder))
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: urllib.request.urlopen(f"{url}/-/ready", timeout=2).status == 200)
            return url

        yield start


@pytest.fixture
def redis_server(tmp_path):
    """Starts a real redis-server with extra flags; returns its port."""
    if shutil.which("redis-server") is None:
        pytest.fail("redis-server is not installed: make tools")
    with contextlib.ExitStack() as stack:

        def start(*flags):
            port = free_cluster_port() if "--cluster-enabled" in flags else free_port()
            flags = ("--save", "", "--bind", "127.0.0.1", "--port", str(port), *flags)
            stack.enter_context(process("redis-server", *flags, cwd=tmp_path))
            with redis.Redis(port=port, socket_timeout=1) as client:
                wait_until(client.ping)
            return port

        yield start


@pytest.fixture
def redis_client(redis_server):
    with redis.Redis(port=redis_server(), decode_responses=True, socket_timeout=1) as client:
        yield client
