"""decide() in a closed loop with a toy fleet: processor sharing in a few slots, an HPA that follows utilisation."""

from dataclasses import dataclass, field, replace
from math import ceil

import pytest
from decide_world import TARGETS, policy, published, queue, snapshot

from controller.decide.decide import decide
from controller.model.memory import Memory
from controller.model.sample import Absent, Fresh, Signal
from controller.model.snapshot import HpaSpec, HpaView, Instance, Known, ScaleView

SLOTS = 4
EVERY = 15.0


@dataclass
class Fleet:
    """Servers with `SLOTS` slots; `speed` is requests/s of one slot. Latency grows with utilisation as 1/(1 - u)."""

    rules: object
    demand: float
    speeds: dict[str, float]
    memory: Memory = field(default_factory=Memory)
    shares: dict[str, float] = field(default_factory=dict)
    limit: int | None = None
    spec: HpaSpec = field(default_factory=lambda: HpaSpec("Deployment", "m", 2, 10, TARGETS))
    now: float = 1000.0
    dark: bool = False
    plans: list = field(default_factory=list)

    def tick(self):
        names = sorted(self.speeds)
        seen = []
        for name in names:
            share = self.shares.get(name, 0.0 if self.shares else 1 / len(names))
            arriving, capacity = self.demand * share, SLOTS * self.speeds[name]
            full = min(arriving / capacity, 0.95)
            latency = 1 / self.speeds[name] / (1 - full)
            idle = Absent("idle")
            samples = {
                Signal.RATE: Fresh(min(arriving, capacity), 1.0),
                Signal.UTILISATION: Fresh(full, 1.0),
                Signal.LATENCY: Fresh(latency, 1.0) if arriving > 0 else idle,
                Signal.ERRORS: Fresh(0.0, 1.0),
            }
            seen.append(Instance(name, f"http://{name}", {} if self.dark else samples, ready=True, uid=name))
        running = max(self.spec.min_replicas, min(len(names), self.spec.max_replicas))
        in_flight = min(sum(i.signals[Signal.UTILISATION].value * SLOTS for i in seen) if not self.dark else 0, 1e6)
        service = snapshot(
            seen,
            at=self.now,
            metrics_problem="refused" if self.dark else None,
            published=published(self.limit, self.shares),
            queue=queue(0, ceil(in_flight)),
            hpa=Known(HpaView(self.spec, adopted=True, current_replicas=len(names), desired_replicas=running)),
            scale=Known(ScaleView(running, len(names))),
        )
        plan, self.memory = decide(self.rules, service, self.memory)
        if plan.publish.endpoints is not None:
            self.shares = {e.instance: e.weight for e in plan.publish.endpoints}
        self.limit = plan.publish.limit
        if plan.hpa is not None:
            self.spec = plan.hpa.after
        for number in range(len(names), self.spec.min_replicas):
            self.speeds[f"new-{number}"] = 5.0
        self.plans.append(plan)
        self.now += EVERY
        return plan

    def run(self, ticks):
        for _ in range(ticks):
            self.tick()
        return self


def world(**fields):
    rules = policy(
        slo={"latency": "600ms"},
        routing={},
        concurrency={"perInstance": SLOTS, "max": 100},
        scaling={
            "hpa": "h",
            "target": {"name": "m"},
            "min": {"floor": 2, "ceiling": 8},
            "max": {"floor": 10, "ceiling": 10},
        },
    )
    return Fleet(rules, **{"demand": 30.0, "speeds": dict.fromkeys("abcd", 5.0), **fields})


def test_unequal_servers_get_unequal_shares_and_stay_there():
    fleet = world(speeds={"a": 10.0, "b": 5.0, "c": 5.0}).run(30)
    assert fleet.shares == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25}, rel=0.02)
    fleet.plans.clear()
    assert {p.sentence() for p in fleet.run(50).plans} == {"no change"}


def test_a_slowed_instance_is_relieved_and_comes_back():
    fleet = world().run(10)
    fleet.speeds["a"] = 1.0
    fleet.run(12)
    assert fleet.shares["a"] == pytest.approx(0.025)
    assert any("shed" in c.reason for p in fleet.plans for c in p.changes)
    fleet.speeds["a"] = 5.0
    fleet.run(40)
    assert fleet.shares == pytest.approx(dict.fromkeys("abcd", 0.25), rel=0.05)


def test_double_load_lowers_the_limit_raises_min_and_all_comes_back():
    fleet = world().run(10)
    assert (fleet.limit, fleet.spec.min_replicas) == (16, 2)
    fleet.demand = 76.0
    seen = [(fleet.tick().publish.limit, fleet.spec.min_replicas) for _ in range(16)]
    assert min(limit for limit, _ in seen) < 16
    assert fleet.spec.min_replicas > 4
    fleet.demand = 30.0
    fleet.run(150)
    assert fleet.limit == SLOTS * len(fleet.speeds)
    assert fleet.spec.min_replicas == 2
    moves = [c for p in fleet.plans for c in p.changes if c.field == "minReplicas"]
    assert all(abs(c.after - c.before) <= 2 and c.reason for c in moves)
    directions = [c.after > c.before for c in moves]
    assert directions == sorted(directions, reverse=True), "up, then down, and no flapping"


def test_an_outage_moves_nothing_and_recovers_within_two_ticks():
    fleet = world(speeds={"a": 10.0, "b": 5.0, "c": 5.0}).run(20)
    before = (fleet.shares, fleet.limit, fleet.spec)
    fleet.dark = True
    fleet.run(40)
    assert fleet.shares == pytest.approx(before[0])
    assert (fleet.limit, fleet.spec) == before[1:]
    fleet.dark = False
    fleet.run(2)
    assert not fleet.plans[-1].holds


@pytest.mark.parametrize("at", [3, 12, 14, 18, 25])
def test_a_restart_never_lowers_a_bound_earlier(at):
    on, again = world().run(10), world().run(10)
    for fleet in (on, again):
        fleet.demand = 76.0
    for tick in range(40):
        if tick == at:
            again.memory = Memory()
        if tick == 20:
            on.demand = again.demand = 30.0
        on.tick()
        before = again.spec
        again.tick()
        if tick == at:
            assert again.spec.min_replicas >= before.min_replicas
            assert again.spec.max_replicas >= before.max_replicas
            assert abs(again.limit - (on.plans[-1].publish.limit or 0)) <= 0.2 * on.limit + 1
    first_lowering = [
        next(
            (i for i, p in enumerate(f.plans) for c in p.changes if c.field == "minReplicas" and c.after < c.before),
            999,
        )
        for f in (on, again)
    ]
    assert first_lowering[1] >= first_lowering[0]


def test_a_plan_that_is_never_carried_out_is_the_same_plan_again():
    fleet = world().run(10)
    frozen = replace(fleet, speeds=dict(fleet.speeds))
    frozen.demand, frozen.plans = 76.0, []
    shares, limit, spec = frozen.shares, frozen.limit, frozen.spec
    for _ in range(12):
        frozen.tick()
        frozen.shares, frozen.limit, frozen.spec, frozen.speeds = shares, limit, spec, dict(fleet.speeds)
    moved = [c for c in frozen.plans[-1].changes if c.field in {"limit", "minReplicas"}]
    assert [(c.field, c.before, c.after) for c in moved] == [("limit", 16, 12), ("minReplicas", 2, 4)]
