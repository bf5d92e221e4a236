"""Both loops on one limit, with everything that may be wrong in what they are told: held, then the default, never the maximum."""

from dataclasses import replace
from math import nan

import pytest
from decide_world import instance, snapshot
from inner_world import POLICY, Queue

from controller.decide.decide import decide
from controller.decide.inner import decide_limit, outlook
from controller.model.inner import InnerMemory, LimitView
from controller.model.memory import Memory
from controller.model.sample import Absent, Invalid, Stale
from controller.model.snapshot import Known, Published, QueueView

INTERVAL = 5
MAXIMUM = POLICY.spec.concurrency.max
DEFAULT = 20


class Chain:
    """A second at a time; Redis is what stands, and for how long the limit is still the inner loop's."""

    def __init__(self):
        self.world = Queue(limit=DEFAULT, knee=60.0)
        self.inner, self.outer, self.said = InnerMemory(), Memory(), None
        self.claimed, self.why, self.limits = 0, "", []

    def second(self, at, *, instances, view, outer=True, counted=lambda c: c):
        world = self.world
        world.turn_on(1.0)
        if outer and at % INTERVAL == 0:
            stands = Published(1, 1, world.limit, limit_reason=self.why if self.claimed > 0 else None)
            service = snapshot(
                instances, at=1000.0 + at, published=Known(stands), queue=Known(QueueView(500, world.limit))
            )
            service = view(service)
            self.said = outlook(POLICY, service, float(at))
            plan, self.outer = decide(POLICY, service, self.outer)
            if not plan.publish.limit_carried and plan.publish.limit is not None:
                world.limit = plan.publish.limit
        self.claimed -= 1
        count = counted(world.count())
        if count is not None:
            plan, self.inner = decide_limit(POLICY, LimitView(world.limit, count), self.said, self.inner, float(at))
            if plan is not None:
                world.limit, self.why, self.claimed = plan.after, plan.why, 5
        self.limits.append(world.limit)


def fleet(**more):
    return [instance(n, latency=0.3, **more) for n in "abcd"]


def same(service):
    return service


FAULTS = [
    pytest.param({"instances": [instance(n, latency=None, rate=None) for n in "abcd"]}, id="no data"),
    pytest.param({"instances": [instance(n, latency=Invalid("NaN"), rate=Invalid("NaN")) for n in "abcd"]}, id="NaN"),
    pytest.param({"instances": [instance(n, latency=Invalid("-1"), rate=Invalid("-1")) for n in "abcd"]}, id="negative"),
    pytest.param({"instances": [instance(n, latency=Stale(0.3, 150.0), rate=Stale(10.0, 150.0)) for n in "abcd"]}, id="stale by two periods"),
    pytest.param({"instances": [*fleet()[:3], instance("d", latency=Absent("gone"))]}, id="one instance missing"),
    pytest.param({"view": lambda s: replace(s, metrics_problem="refused")}, id="Prometheus down"),
    pytest.param({"view": lambda s: replace(s, instances_complete=False)}, id="Kubernetes down"),
    pytest.param({"outer": False}, id="the outer loop hangs"),
    pytest.param({"counted": lambda c: replace(c, completions=-c.completions)}, id="the counters run backwards"),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_wrong_it_is_held_then_led_to_the_default(fault):
    chain, healthy = Chain(), {"instances": fleet(), "view": same}
    for at in range(60):
        chain.second(at, **healthy)
    stood = max(chain.limits[-20:])
    assert stood > 1.5 * DEFAULT
    for at in range(60, 500):
        chain.second(at, **{**healthy, **fault})
    after = chain.limits[60:]
    assert max(after) <= stood * 1.01 + 1
    assert max(after) < MAXIMUM
    assert after[0] >= 0.8 * chain.limits[59] - 1  # no leap on the first bad look
    assert after[-1] == DEFAULT


def test_without_counters_the_outer_loop_takes_over_from_what_stands():
    chain, healthy = Chain(), {"instances": fleet(), "view": same}
    for at in range(60):
        chain.second(at, **healthy)
    stood = chain.world.limit
    for at in range(60, 200):
        chain.second(at, **healthy, counted=lambda _: None)
        assert chain.world.limit >= 0.5 * stood
    assert chain.claimed < 0
    assert chain.outer.limiter is not None


def test_an_outage_that_ends_is_got_over():
    chain, healthy = Chain(), {"instances": fleet(), "view": same}
    for at in range(60):
        chain.second(at, **healthy)
    for at in range(60, 100):
        chain.second(at, **healthy, outer=False)
    for at in range(100, 160):
        chain.second(at, **healthy)
    assert chain.world.limit >= 0.8 * 60


def test_nothing_that_is_no_number_reaches_the_limit():
    chain, healthy = Chain(), {"instances": fleet(), "view": same}
    for at in range(60):
        chain.second(at, **healthy)
    for at in range(60, 120):
        chain.second(at, **healthy, counted=lambda c: replace(c, slots_seconds=nan))
    assert all(isinstance(limit, int) and 1 <= limit < MAXIMUM for limit in chain.limits)
