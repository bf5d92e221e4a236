"""`make bench-limit-real`: the adaptive limit on real processes, beside every static one worth trying.

A real Redis and Prometheus, the queue, two worker processes, four model servers whose knee is known (their slots), and the
daemon. A backlog never ends. Half-way each server loses half of its slots. Goodput and response times are read from the
queue's own counters: completions/s within the SLO, and the 95th percentile.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from redis import Redis

from bench.report import Report
from controller.decide.limiter.period import between, quantile
from controller.lab.fleet import Fleet, Make, free_network
from controller.lab.ports import free_port
from controller.lab.process import Process, http_ready, wait_until
from controller.lab.prometheus import PrometheusServer, Target
from controller.lab.redis import RedisServer
from controller.model.inner import QueueCount
from controller.model.snapshot import Known
from controller.observe.counters import read_counters
from controller.policy.schema import LoadPolicy
from trimtab import RequestQueue
from trimtab.contract import Keys
from trimtab.queue.counters import bucket_bound_seconds

SERVERS, SLOTS, SERVICE_SECONDS, WORKERS = 4, 6, 0.2, 2
KNEE = SERVERS * SLOTS
SLO_BUCKET = 37
SLO_SECONDS = bucket_bound_seconds(SLO_BUCKET)
"""0.61 s: three times the mean, and a bound of the queue's histogram, so that goodput is counted and not guessed."""
BACKLOG = 2000
STATICS = (16, 20, 24, 28, 32, 40)
STATICS_HALVED = (8, 12, 16, 20)
SETTLE_SECONDS, STATIC_SECONDS, OURS_SECONDS = 3.0, 9.0, 40.0
REACH_SECONDS, REACT_SECONDS = 30.0, 15.0
KEY, QUEUE = "models/model-service", "requests"
LABELS = {"namespace": "models", "service": "model-service"}
POLICY = {
    "apiVersion": "trimtab/v1",
    "kind": "LoadPolicy",
    "metadata": {"name": "model-service", "namespace": "models"},
    "spec": {
        "interval": "5s",
        "instances": {"selector": LABELS, "endpoint": "http://{instance}"},
        "signals": {"preset": "fastapi", "window": "10s", "freshFor": "20s"},
        "slo": {"latency": f"{SLO_SECONDS:.4f}s", "quantile": 0.95, "errors": "5%"},
        "concurrency": {"queue": QUEUE, "perInstance": 2, "min": 2, "max": 1000, "adaptive": True},
    },
}


@dataclass(frozen=True)
class Result:
    goodput: float
    throughput: float
    p95: float
    limit: float


class World:
    """Everything but the daemon, which runs only while `adaptive()` is open."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        port = free_port()
        make = Make(slots=SLOTS, service_seconds=SERVICE_SECONDS)
        self.fleet = stack.enter_context(Fleet(folder, f"{free_network(port)}.0", port, (make,)))
        servers = [self.fleet.start(f"server-{i}") for i in range(SERVERS)]
        self.redis = stack.enter_context(RedisServer.start(folder / "redis"))
        targets = [Target(s.address, {"pod": s.name, **LABELS}) for s in servers]
        self.prometheus = stack.enter_context(PrometheusServer.start(folder / "prometheus", targets=targets))
        self.client = Redis.from_url(self.redis.url)
        self.queue = RequestQueue(KEY, name=QUEUE, redis=self.redis.url, max_length=100_000)
        stack.callback(self.queue.close)
        self.policy = LoadPolicy.model_validate(POLICY)
        for n in range(WORKERS):
            command = [sys.executable, "-m", "bench.limit.worker", KEY, QUEUE, self.redis.url]
            command += [s.endpoint for s in servers]
            stack.enter_context(Process.start(f"worker {n}", command, log=folder / f"worker-{n}.log"))
        stop = threading.Event()
        producer = threading.Thread(target=self._produce, args=(stop,), daemon=True)
        producer.start()
        stack.callback(producer.join)
        stack.callback(stop.set)

    def _produce(self, stop: threading.Event) -> None:
        while not stop.wait(0.2):
            missing = BACKLOG - self.queue.inspect().waiting
            for _ in range(0, max(missing, 0), 500):
                self.queue.enqueue_many([b""] * 500)

    def count(self) -> QueueCount:
        view = read_counters(self.client, [self.policy])[KEY]
        assert isinstance(view, Known), view
        assert view.value.count is not None
        return view.value.count

    def limit(self) -> int:
        return int(self.client.get(Keys(KEY).limit) or 0)

    def measure(self, seconds: float) -> Result:
        start, end, limits = self.count(), time.monotonic() + seconds, []
        while time.monotonic() < end:
            time.sleep(0.25)
            limits.append(self.limit())
        last = self.count()
        period = between(start, last)
        assert period is not None
        good = sum(n - start.service.get(i, 0) for i, n in last.service.items() if i <= SLO_BUCKET)
        p95 = quantile(start, last, 0.95) or float("inf")
        return Result(good / period.seconds, period.throughput, p95, sum(limits) / len(limits))

    def static(self, limit: int) -> Result:
        self.queue.set_limit(limit)
        wait_until(lambda: self.count().in_flight <= limit, 60, "what is in flight to follow the limit")
        # One response time more, so that nothing from before the limit is measured.
        time.sleep(SETTLE_SECONDS + limit * SERVICE_SECONDS / KNEE)
        return self.measure(STATIC_SECONDS)

    def slots(self, slots: int) -> None:
        for server in self.fleet.servers():
            server.lab(slots=slots)

    @contextmanager
    def adaptive(self) -> Iterator[None]:
        """The daemon, from its default limit."""
        self.client.delete(Keys(KEY).limit)
        policies = self.folder / "policies"
        policies.mkdir()
        (policies / "policy.yaml").write_text(yaml.safe_dump(POLICY))
        listen = f"127.0.0.1:{free_port()}"
        flags = [f"--policies={policies}", f"--prometheus-url={self.prometheus.url}", f"--redis-url={self.redis.url}"]
        flags += ["--kubernetes=off", f"--listen={listen}", "--log-format=json", "--log-level=debug"]
        with Process.start(
            "the controller",
            [sys.executable, "-m", "controller", "run", *flags],
            log=self.folder / "controller.log",
            ready=http_ready(f"http://{listen}/healthz"),
            ready_within_seconds=60.0,
        ):
            wait_until(lambda: self.client.exists(Keys(KEY).limiter), 60, "the inner loop's first word")
            yield


def row(report: Report, name: str, result: Result, knee: int) -> None:
    report.row(
        limit=name,
        knee=knee,
        mean_limit=round(result.limit, 1),
        goodput_per_s=round(result.goodput, 1),
        throughput_per_s=round(result.throughput, 1),
        p95_s=round(result.p95, 3),
    )


def main() -> int:
    report = Report("limit-real")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trimtab-bench-")))
        world = World(folder, stack)
        wait_until(lambda: world.client.hexists(Keys(KEY).queue(QUEUE).counters, "totals"), 60, "the first requests")
        whole = {limit: world.static(limit) for limit in STATICS}
        few = world.static(5)
        world.slots(SLOTS // 2)
        half = {limit: world.static(limit) for limit in STATICS_HALVED}
        world.slots(SLOTS)
        world.queue.set_limit(SERVERS * 2)
        with world.adaptive():
            time.sleep(REACH_SECONDS)
            ours = world.measure(OURS_SECONDS)
            world.slots(SLOTS // 2)
            time.sleep(REACT_SECONDS)
            ours_half = world.measure(OURS_SECONDS)
        world.slots(SLOTS)
        many = world.static(1000)
        best = max(whole.values(), key=lambda r: r.goodput)
        best_half = max(half.values(), key=lambda r: r.goodput)
        for limit, result in whole.items():
            row(report, f"static {limit}", result, KNEE)
        row(report, "static 5", few, KNEE)
        row(report, "static 1000", many, KNEE)
        row(report, "adaptive", ours, KNEE)
        for limit, result in half.items():
            row(report, f"static {limit}, half of the slots", result, KNEE // 2)
        row(report, "adaptive, half of the slots", ours_half, KNEE // 2)
        for name, mine, theirs in (("", ours, best), (" after losing half", ours_half, best_half)):
            share, ratio = mine.goodput / theirs.goodput, mine.p95 / theirs.p95
            report.check(f"goodput{name}, of the best static limit", round(share, 3), ">= 0.95", share >= 0.95)
            report.check(f"p95{name}, of that at the best static limit", round(ratio, 2), "<= 1.5", ratio <= 1.5)
        for name, other in (("static 5", few), ("static 1000", many)):
            share = ours.goodput / max(other.goodput, 0.01)
            report.check(f"goodput against {name}", round(share, 2), "> 1", share > 1.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
