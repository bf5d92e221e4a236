"""One limiter, one plant, one scenario, one seed: the limit, the knee and the goodput of every period."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.limit.peers.aimd import Aimd
from bench.limit.peers.envoy import Envoy
from bench.limit.peers.gradient2 import Gradient2
from bench.limit.peers.vegas import Vegas
from bench.limit.plant import SLO_SECONDS, Observed, Plant
from controller.decide.limiter.limiter import update
from controller.decide.limiter.sample import LimiterRules, LimiterSample
from controller.model.limiter import LimiterMemory

LEAST, MOST = 2, 1000
RULES = LimiterRules(per_instance=5, least=LEAST, most=MOST, slo_seconds=SLO_SECONDS)


class Ours:
    def __init__(self, initial: float, seed: int) -> None:  # noqa: ARG002 - one signature for all
        self.rules = RULES
        self.state = LimiterMemory(initial, ready=4)
        self.limit, self.why = initial, ""

    def update(self, seen: Observed) -> float:
        sample = LimiterSample(seen.in_flight, seen.throughput, latency=seen.p95, ready=4)
        self.state, limit, self.why = update(self.rules, self.state, sample)
        self.limit = float(limit)
        return self.limit


ALGORITHMS: dict[str, Callable[[float, int], Ours | Vegas | Gradient2 | Aimd | Envoy]] = {
    "ours": Ours,
    "vegas": Vegas,
    "gradient2": Gradient2,
    "aimd": Aimd,
    "envoy": Envoy,
}


@dataclass(frozen=True)
class Scenario:
    """`knee` and `demand` by period; `stuck` from which period on every request ends at the timeout.

    `default`: where ours goes without data, and what it may know that nobody found; 20 for none.
    """

    periods: int
    knee: Callable[[int], float]
    start: float = 5.0
    noise: float = 0.05
    demand: Callable[[int], float | None] = lambda _: None
    stuck: int | None = None
    default: int = 20


@dataclass(frozen=True)
class Run:
    limits: list[float]
    knees: list[float]
    goods: list[float]


def run(name: str, scenario: Scenario, seed: int) -> Run:
    limiter = ALGORITHMS[name](scenario.start, seed)
    if isinstance(limiter, Ours):
        limiter.rules = replace(RULES, per_instance=scenario.default // 4)
    plant = Plant(seed, scenario.noise)
    limits, knees, goods = [], [], []
    limit = scenario.start
    for period in range(scenario.periods):
        knee = scenario.knee(period)
        stuck = scenario.stuck is not None and period >= scenario.stuck
        seen = plant.period(limit, knee, scenario.demand(period), stuck=stuck)
        limits.append(limit)
        knees.append(knee)
        goods.append(seen.good)
        limit = max(limiter.update(seen), 1.0)
    return Run(limits, knees, goods)


def static(limit: float, scenario: Scenario, seed: int) -> float:
    """Mean goodput of a limit that never moves."""
    plant = Plant(seed, scenario.noise)
    goods = [plant.period(limit, scenario.knee(p), scenario.demand(p)).good for p in range(scenario.periods)]
    return sum(goods) / len(goods)
