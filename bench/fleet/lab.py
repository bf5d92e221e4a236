"""One run: three fleets of equal servers, three clients, the same arrivals, one server of each fleet slowed on the way."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.demo import script
from controller.demo.tally import Tail
from controller.lab.fleet import Fleet, Make, free_network
from controller.lab.load import LEAST_IN_FLIGHT, ROUND_ROBIN, TRIMTAB, Phase, Plan
from controller.lab.ports import free_port
from controller.lab.process import LabError, Process, http_ready, wait_until
from controller.lab.prometheus import PrometheusServer, Target
from controller.lab.redis import RedisServer

SIDES = (ROUND_ROBIN, LEAST_IN_FLIGHT, TRIMTAB)
WARM_UP, BEFORE, AFTER = "warm-up", "before", "after"
LABELS = {"namespace": "models", "service": "model-service"}
POLICY_KEY = "models/model-service"
POLICY = """\
apiVersion: trimtab/v1
kind: LoadPolicy
metadata: {name: model-service, namespace: models}
spec:
  interval: 5s                      # a third of the default, for a story of a minute instead of several
  instances:
    selector: {namespace: models, service: model-service}
    endpoint: "http://{instance}"
  signals:
    preset: fastapi
    window: 10s
    freshFor: 20s
    utilisation:
      query: "sum by ($by) (rate(model_slot_busy_seconds_total{$selector}[$window])) / sum by ($by) (model_slots{$selector})"
  slo: {latency: 1s, quantile: 0.95, errors: 1%}
  routing: {}
"""


@dataclass(frozen=True, slots=True)
class Story:
    """What one run plays.

    Args:
        makes: the servers of each fleet; the first is slowed.
        rate: requests/s to each side, all the time.
        seconds: of the warm-up, before and after the slowdown.
        times: how many times slower the first becomes.
    """

    makes: tuple[Make, ...]
    rate: float
    seconds: tuple[float, float, float] = (15.0, 20.0, 40.0)
    times: float = script.SLOWDOWN

    def phases(self) -> tuple[Phase, ...]:
        """For the load generator."""
        names = (WARM_UP, BEFORE, AFTER)
        return tuple(Phase(name, seconds, self.rate) for name, seconds in zip(names, self.seconds, strict=True))


def play(story: Story, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Play it; the rows of the load generator.

    Raises:
        LabError: a part did not start, or the load generator failed.
    """
    folder.mkdir()
    with _running(story, folder) as (fleets, redis_url):
        plan = Plan(
            phases=story.phases(),
            contestants={side: str(folder / f"{side}.json") for side in SIDES},
            redis_url=redis_url,
            policy=POLICY_KEY,
            seed=seed,
        )
        plan.write(folder / "plan.json")
        rows = folder / "rows.jsonl"
        command = [sys.executable, "-m", "controller.lab.load", str(folder / "plan.json")]
        with Process.start("the load generator", command, log=folder / "load.log", stdout=rows) as load:
            _slow_down(fleets, story, Tail(rows), load)
            if load.wait(sum(story.seconds) + 60.0) != 0:
                raise LabError("the load generator failed: " + " ".join(load.last_lines()))
        return [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]


def _slow_down(fleets: Sequence[Fleet], story: Story, tail: Tail, load: Process) -> None:
    """Wait for the moment, counted from the load's own start, then slow the first server of each fleet."""
    began: list[float] = []

    def started() -> bool:
        began.extend(row["at"] for row in tail.read() if row["kind"] == "start")
        return bool(began) or not load.running()

    wait_until(started, 30.0, "the load")
    if began:
        load.wait(max(0.0, began[0] + story.seconds[0] + story.seconds[1] - time.time()))
    for fleet in fleets:
        first = fleet.servers()[0]
        first.lab(speed=first.make.speed / story.times)


@contextmanager
def _running(story: Story, folder: Path) -> Iterator[tuple[list[Fleet], str]]:
    """Everything but the load: the fleets, Prometheus, Redis and the daemon, without Kubernetes."""
    with ExitStack() as stack:
        port = free_port()
        network = free_network(port, fleets=len(SIDES))
        fleets = []
        for number, side in enumerate(SIDES):
            fleet = stack.enter_context(Fleet(folder / side, f"{network}.{number}", port, story.makes))
            fleets.append(fleet)
            servers = [fleet.start(f"server-{i}") for i in range(len(story.makes))]
            (folder / f"{side}.json").write_text(json.dumps([server.endpoint for server in servers]), encoding="utf-8")
        # Only the last fleet is scraped: the other two clients look at nothing.
        targets = [Target(server.address, {"pod": server.name, **LABELS}) for server in fleets[-1].servers()]
        prometheus = stack.enter_context(PrometheusServer.start(folder / "prometheus", targets=targets))
        redis = stack.enter_context(RedisServer.start(folder / "redis"))
        policies = folder / "policies"
        policies.mkdir()
        (policies / "policy.yaml").write_text(POLICY, encoding="utf-8")
        listen = f"127.0.0.1:{free_port()}"
        flags = [f"--policies={policies}", f"--prometheus-url={prometheus.url}", f"--redis-url={redis.url}"]
        flags += ["--kubernetes=off", f"--listen={listen}", "--log-format=json", f"--journal={folder / 'journal'}"]
        # No ranking yet: servers without traffic have no series. Until there is one, the balancer uses its fallback.
        stack.enter_context(
            Process.start(
                "the controller",
                [sys.executable, "-m", "controller", "run", *flags],
                log=folder / "controller.log",
                ready=http_ready(f"http://{listen}/healthz"),
                ready_within_seconds=30.0,
            )
        )
        yield fleets, redis.url
