"""`trimtab explain` against the journal of a daemon that has seen an instance become slow."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from support.daemon import Daemon, trimtab
from support.eventually import eventually

from controller.lab.prometheus import PrometheusServer, Target
from controller.lab.redis import RedisServer

pytestmark = pytest.mark.integration
NAMES = ("a", "b", "c")
POLICY = {
    "apiVersion": "trimtab/v1",
    "kind": "LoadPolicy",
    "metadata": {"name": "chat", "namespace": "models"},
    "spec": {
        "interval": "1s",
        "instances": {"selector": {"service": "chat"}, "key": "replica", "endpoint": "http://{replica}:8000"},
        "signals": {
            "freshFor": "5s",
            **{
                name: {"query": f"max by ($by) (lab_{name}{{$selector}})"}
                for name in ("rate", "latency", "errors", "cpu")
            },
        },
        "routing": {"after": "2s"},
    },
}


class Exporter(BaseHTTPRequestHandler):
    """What three model servers say of themselves; `slow` are slow."""

    slow: set = set()  # noqa: RUF012  one test, one exporter

    def do_GET(self):
        latency = 3.0 if self.path.strip("/") in self.slow else 0.1
        said = {"lab_rate": 10.0, "lab_latency": latency, "lab_errors": 0.0, "lab_cpu": 0.3}
        self.send_response(200)
        self.end_headers()
        self.wfile.write("".join(f"{name} {value}\n" for name, value in said.items()).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def daemon(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}"
    targets = [Target(address, {"service": "chat", "replica": n, "__metrics_path__": f"/{n}"}) for n in NAMES]
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/chat.yaml").write_text(yaml.safe_dump(POLICY))
    with (
        PrometheusServer.start(tmp_path / "prometheus", targets=targets) as prometheus,
        RedisServer.start(tmp_path / "redis") as redis,
    ):
        flags = [
            f"--policies={tmp_path / 'policies'}",
            f"--prometheus-url={prometheus.url}",
            f"--redis-url=redis://{redis.host}:{redis.port}/0",
            "--kubernetes=off",
            f"--journal={tmp_path / 'journal'}",
        ]
        with Daemon(tmp_path, *flags) as running:
            running.flags = flags
            yield running
    server.shutdown()
    server.server_close()


def test_explain_names_the_slow_instance_and_why_its_weight_fell(daemon):
    def told(*more):
        done = trimtab("explain", "chat", *more, *daemon.flags)
        assert done.returncode == 0, done.stderr
        return done.stdout

    eventually(lambda: daemon.metrics().get('trimtab_endpoint_weight_ratio{instance="a",policy="models/chat"}'), 30)
    Exporter.slow = {"a"}
    eventually(
        lambda: any(
            c["field"] == "weight a" and "shed" in c["reason"] for d in daemon.lines("decision") for c in d["changes"]
        ),
        40,
    )
    shown = json.loads(told("-o", "json"))
    assert shown["source"] == "journal"
    rows = {row["instance"]: row for row in shown["record"]["endpoints"]}
    assert rows["a"]["why"].startswith("shed: 3 s > 0.5 s")
    assert rows["a"]["weight"] == pytest.approx(rows["a"]["floor"])
    assert shown["record"]["inputs"]["instances"]["a"]["signals"]["latency"]["value"] == 3.0
    assert [o["result"] for o in shown["record"]["outcomes"]] == ["done"]
    text = told()
    assert "a: shed: 3 s > 0.5 s" in text
    assert "from the journal" in text
    # Without the journal the present is recomputed: nothing is remembered, so nothing is shed yet.
    live = trimtab("explain", "models/chat", *daemon.flags[:-1])
    assert live.returncode == 0, live.stderr
    assert "recomputed now" in live.stdout
    assert "3 s" in live.stdout
    missing = trimtab("explain", "nope", *daemon.flags)
    assert (missing.returncode, missing.stderr) == (2, "trimtab: nope: no such policy; known are models/chat\n")
    early = trimtab("explain", "chat", "--at", "1d ago", *daemon.flags)
    assert early.returncode == 1
    assert "the first record of models/chat is of" in early.stderr
