"""A fleet of replicas under a trace: what it costs and how many requests miss the SLO.

Fluid, in steps of one HPA sync. A replica serves CAPACITY requests/s at 100 % CPU and keeps the SLO up to KNEE of that;
all requests of a step in which the ready replicas are fuller than KNEE miss it. Arrivals are Poisson, the work of a
request varies from step to step, both seeded and the same for every scaler. No scaler is told CAPACITY or KNEE.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.scaling.traces import Trace
from controller.replay.behavior import History
from controller.replay.hpa import Controller, Hpa, Seen, sync
from controller.replay.replicas import Pod, PodMetric, Replicas, Utilization

STEP_SECONDS = 15.0
CAPACITY = float(os.environ.get("BENCH_CAPACITY", "5"))
KNEE = float(os.environ.get("BENCH_KNEE", "0.85"))
SLO_SECONDS = 0.5
WARM_SECONDS = 180.0
WORK_NOISE = 0.03
METRIC_STEPS = 2
"""The metrics API shows a mean over so many steps."""
MOST = 1000


@dataclass(frozen=True, slots=True)
class Step:
    """What may be seen after one step: requests/s served, mean CPU of the ready replicas, 0..1, and response time."""

    at: float
    rate: float
    cpu: float
    latency: float
    ready: int
    asked: int


@dataclass
class Outcome:
    """Replica-hours (asked for, so warming ones cost too), share of requests over SLO, changes of direction."""

    hours: float = 0.0
    share: float = 0.0
    turns: int = 0


Scaler = Callable[[Step], tuple[int, int]]
"""The HPA's bounds for the next sync."""


@dataclass
class Fleet:
    """Start instants of the replicas, oldest first; the youngest goes first, as a ReplicaSet has it."""

    started: list[float] = field(default_factory=list)
    _pods: tuple[Pod, ...] = ()
    _of: tuple[int, int] = (-1, -1)

    def resize(self, count: int, at: float) -> None:
        del self.started[count:]
        self.started += [at] * (count - len(self.started))
        self._of = (-1, -1)

    def ready(self, at: float) -> int:
        """How many serve; they come in the order in which they started."""
        count = len(self.started)
        while count and at - self.started[count - 1] < WARM_SECONDS:
            count -= 1
        return count

    def pods(self, at: float) -> tuple[Pod, ...]:
        """As the HPA's controller finds them; the same until one comes, goes or gets ready."""
        ready = self.ready(at)
        if self._of != (len(self.started), ready):
            self._of = (len(self.started), ready)
            self._pods = tuple(
                Pod(f"{n}", ready=n < ready, started_at=s, ready_changed_at=s + (n < ready) * WARM_SECONDS)
                for n, s in enumerate(self.started)
            )
        return self._pods


def arrivals(trace: Trace, seed: int) -> list[tuple[float, float]]:
    """(requests/s, work per request) of each step."""
    rng = random.Random(seed)
    steps = []
    for n in range(int(trace.seconds / STEP_SECONDS)):
        mean = trace((n + 0.5) * STEP_SECONDS) * STEP_SECONDS
        count = max(0.0, rng.gauss(mean, mean**0.5))
        steps.append((count / STEP_SECONDS, max(0.5, rng.gauss(1.0, WORK_NOISE))))
    return steps


def response_time(full: float) -> float:
    """Seconds at that utilisation: rises as 1 ÷ (1 − utilisation) and reaches the SLO at KNEE."""
    return min(10.0 * SLO_SECONDS, SLO_SECONDS * (1.0 - KNEE) / max(1.0 - full, 0.015))


def run(steps: list[tuple[float, float]], target: int, scaler: Scaler) -> Outcome:
    """One scaler's outcome: it moves the bounds of an HPA with that CPU target."""
    outcome, fleet, history, controller = Outcome(), Fleet(), History(), Controller()
    fleet.resize(max(2, round(steps[0][0] / CAPACITY / 0.6)), -WARM_SECONDS)
    metrics = (Utilization(target),)
    seen: list[float] = []
    missed, total, last = 0.0, 0.0, 0
    for n, (rate, work) in enumerate(steps):
        at = n * STEP_SECONDS
        ready = fleet.ready(at)
        full = rate * work / CAPACITY / max(ready, 1)
        total += rate
        missed += rate if full > KNEE else 0.0
        asked = len(fleet.started)
        outcome.hours += asked * STEP_SECONDS / 3600.0
        seen = [*seen[1 - METRIC_STEPS :], min(full, 1.0)]
        served = min(rate, CAPACITY * ready / work)
        after = at + STEP_SECONDS
        low, high = scaler(Step(after, served, min(full, 1.0), response_time(full), ready, asked))
        pods = fleet.pods(at)
        metric = PodMetric(round(1000 * sum(seen) / len(seen)), after, 30.0)
        found = Seen(Replicas(asked, asked), pods, (dict.fromkeys((p.name for p in pods), metric),))
        done, history = sync(Hpa(metrics, low, high), found, history, at=after, controller=controller)
        if done.desired != asked:
            turn = 1 if done.desired > asked else -1
            outcome.turns += turn == -last
            last = turn
            fleet.resize(done.desired, after)
    outcome.share = missed / total if total > 0.0 else 0.0
    return outcome
