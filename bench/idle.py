"""What the daemon costs while nothing happens: 10 policies of 10 instances at a 15 s interval; BENCH_ADAPTIVE=1 adds the inner loop.

Everything around it is real: Prometheus scraping 100 targets, Redis, and a control plane with 10 Deployments of 10 pods
and the HPAs that the daemon makes. Only the daemon's own processor time and memory are counted, from /proc.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.report import Report
from controller.lab.cluster.binaries import find_binaries
from controller.lab.cluster.control_plane import Cluster
from controller.lab.emulator.emulator import Emulator
from controller.lab.ports import free_port
from controller.lab.process import Process, http_ready, wait_until
from controller.lab.prometheus import PrometheusServer, Target
from controller.lab.redis import RedisServer
from trimtab import RequestQueue

POLICIES, INSTANCES = 10, 10
INTERVAL_SECONDS = 15
ADAPTIVE = os.environ.get("BENCH_ADAPTIVE", "0") == "1"
"""With the limit's inner loop, which turns every second, over queues that have been used."""
MEASURED_SECONDS = float(os.environ.get("BENCH_SECONDS", "120"))
MEMORY_LIMIT_MB, CPU_LIMIT_PERCENT = 150.0, 2.0
NAMESPACE = "models"

POLICY = """\
apiVersion: trimtab/v1
kind: LoadPolicy
metadata: {{name: service-{n}, namespace: models}}
spec:
  interval: {interval}s
  instances:
    selector: {{namespace: models, service: service-{n}}}
  signals:
    preset: fastapi
    cpu: {{query: "max by ($by) (model_slots_busy_ratio{{$selector}})"}}
  routing:
  concurrency: {{queue: queue-{n}, adaptive: {adaptive}}}
  scaling:
    hpa: service-{n}
    target: {{kind: Deployment, name: service-{n}}}
    min: {{floor: 10, ceiling: 12}}
    max: {{floor: 20, ceiling: 30}}
"""


class _Exporter(BaseHTTPRequestHandler):
    """Every path is an instance that serves 10 requests/s of 50 ms each, half busy."""

    def do_GET(self) -> None:
        served = time.time() % 1e6 * 10.0
        body = (
            f'http_request_duration_seconds_count{{handler="/predict",method="POST"}} {served:.1f}\n'
            f'http_request_duration_seconds_sum{{handler="/predict",method="POST"}} {served * 0.05:.3f}\n'
            f"http_request_duration_highr_seconds_count {served:.1f}\n"
            f'http_request_duration_highr_seconds_bucket{{le="0.1"}} {served:.1f}\n'
            f'http_request_duration_highr_seconds_bucket{{le="+Inf"}} {served:.1f}\n'
            f'http_requests_total{{handler="/predict",method="POST",status="2xx"}} {served:.1f}\n'
            "http_requests_inprogress 1\nmodel_slots_busy_ratio 0.5\n"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Quiet."""


@contextmanager
def exporter() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Exporter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def deployment(name: str) -> dict[str, Any]:
    container = {"name": "model", "image": "none", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": INSTANCES, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def plane_for(folder: Path) -> tuple[Cluster | Emulator, str]:
    found = find_binaries()
    if isinstance(found, str):
        print(f"bench-idle: {found}; using the emulator")
        return Emulator.start(folder), "emulated"
    return Cluster.start(folder, binaries=found, hpa_sync_seconds=15.0), "real"


def pods_of(plane: Cluster | Emulator) -> list[tuple[str, str]]:
    pods = plane.api().get(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
    return [(pod["metadata"]["labels"]["app"], pod["metadata"]["name"]) for pod in pods if _ready(pod)]


def _ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> dict[str, float]:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = {line.partition(":")[0]: int(line.split()[1]) for line in status if line.startswith(("VmRSS", "VmHWM"))}
    return {"now": kib["VmRSS"] / 1024, "peak": kib["VmHWM"] / 1024}


def metric(url: str, line: str) -> float:
    with urllib.request.urlopen(url, timeout=5) as answer:
        found = [text for text in answer.read().decode().splitlines() if text.startswith(line + " ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def scraped(url: str) -> int:
    with urllib.request.urlopen(f"{url}/api/v1/query?query=sum(up)", timeout=5) as answer:
        result = json.load(answer)["data"]["result"]
    return int(result[0]["value"][1]) if result else 0


def main() -> int:
    report = Report("idle")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trimtab-bench-")))
        policies = folder / "policies"
        policies.mkdir()
        for n in range(POLICIES):
            (policies / f"{n}.yaml").write_text(
                POLICY.format(n=n, interval=INTERVAL_SECONDS, adaptive=str(ADAPTIVE).lower())
            )
        plane, kind = plane_for(folder / "plane")
        stack.callback(plane.stop)
        api = plane.api()
        api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        plane.metrics.set(NAMESPACE, "*", 0.7, 5e8)
        for n in range(POLICIES):
            api.post(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", deployment(f"service-{n}"))
        wait_until(lambda: len(pods_of(plane)) == POLICIES * INSTANCES, 120, "100 ready pods")
        port = stack.enter_context(exporter())
        targets = [
            Target(
                f"127.0.0.1:{port}", {"__metrics_path__": f"/{pod}", "namespace": NAMESPACE, "service": app, "pod": pod}
            )
            for app, pod in pods_of(plane)
        ]
        prometheus = stack.enter_context(
            PrometheusServer.start(folder / "prometheus", targets=targets, scrape_interval="5s")
        )
        # A daemon that starts before the first scrape says, rightly, that the preset has no series.
        wait_until(lambda: scraped(prometheus.url) == POLICIES * INSTANCES, 60, "every target's first scrape")
        redis = stack.enter_context(RedisServer.start(folder / "redis"))
        for n in range(POLICIES if ADAPTIVE else 0):
            with RequestQueue(f"{NAMESPACE}/service-{n}", name=f"queue-{n}", redis=redis.url) as queue:
                queue.enqueue(b"")
                queue.complete(queue.take()[0])
        listen = free_port()
        url = f"http://127.0.0.1:{listen}/metrics"
        daemon = stack.enter_context(
            Process.start(
                "trimtab",
                [
                    sys.executable, "-m", "controller", "run", f"--policies={policies}", f"--prometheus-url={prometheus.url}",
                    f"--redis-url={redis.url}", f"--kubeconfig={plane.kubeconfig}", "--kubernetes=kubeconfig",
                    f"--listen=127.0.0.1:{listen}", "--log-format=json", f"--journal={folder / 'journal'}",
                ],
                log=folder / "daemon.log",
                ready=http_ready(f"http://127.0.0.1:{listen}/readyz"),
                ready_within_seconds=60,
            )
        )  # fmt: skip
        # The first publishes and the making of ten HPAs are changes, not idling: wait for them and the window to fill.
        wait_until(lambda: metric(url, 'trimtab_ticks_total{result="ok"}') >= 6, 240, "six quiet ticks")
        started, cpu, ticks = time.monotonic(), cpu_seconds(daemon.pid), metric(url, 'trimtab_ticks_total{result="ok"}')
        time.sleep(MEASURED_SECONDS)
        elapsed = time.monotonic() - started
        percent = 100.0 * (cpu_seconds(daemon.pid) - cpu) / elapsed
        memory = memory_mb(daemon.pid)
        done = metric(url, 'trimtab_ticks_total{result="ok"}') - ticks
        requests = int(metric(url, 'trimtab_actions_total{actuator="hpa",result="done"}'))
        log = [json.loads(line) for line in (folder / "daemon.log").read_text().splitlines() if line.startswith("{")]
        late = [line for line in log if line["event"] in ("tick missed", "problem", "bug")]
        report.row(
            kubernetes=kind, inner_loop="on" if ADAPTIVE else "off", policies=POLICIES, instances=POLICIES * INSTANCES, seconds=round(elapsed), ticks=done,
            cpu_percent=round(percent, 2), ms_cpu_per_tick=round(10 * percent * elapsed / max(done, 1.0), 1),
            memory_mb=round(memory["now"], 1), peak_mb=round(memory["peak"], 1), hpa_writes=requests,
            limit_writes=int(metric(url, 'trimtab_actions_total{actuator="limit",result="done"}')),
        )  # fmt: skip
        expected = int(elapsed / INTERVAL_SECONDS)
        report.check("quiet ticks while measured", done, f">= {expected - 1}", done >= expected - 1)
        report.check("problems and missed ticks", len(late), "0", not late)
        report.check(
            "peak memory, MB", round(memory["peak"], 1), f"<= {MEMORY_LIMIT_MB:.0f}", memory["peak"] <= MEMORY_LIMIT_MB
        )
        report.check(
            "processor, % of a core", round(percent, 2), f"<= {CPU_LIMIT_PERCENT:.0f}", percent <= CPU_LIMIT_PERCENT
        )
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
