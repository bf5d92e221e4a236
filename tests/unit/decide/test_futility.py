"""Raises that change nothing are not repeated; those that help are."""

from dataclasses import replace

import pytest
from decide_world import change, hold, hpa, instance, policy, queue, scale, snapshot
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.decide.futility import COOL_DOWN_SECONDS, Seen, lasting, observe, verdict
from controller.model.memory import Futility, Memory, Trial
from controller.model.sample import Signal, Stale
from controller.replay.behavior import History
from controller.replay.hpa import Hpa, sync
from controller.replay.hpa import Seen as HpaSeen
from controller.replay.replicas import Pod, PodMetric, Replicas, Utilization

SETTLE = 90.0
SLOW = Seen(at=0.0, ready=4, latency=1.0, rate=40.0, full=0.8, slo_seconds=0.5, whole=True)


def run(*ticks, memory=None, every=15.0, pressed=True):
    """The memory after ticks of (how many, fields of Seen)."""
    found, at = memory or Futility(), 0.0
    for count, fields in ticks:
        for _ in range(count):
            seen = replace(SLOW, at=at, **{k: v for k, v in fields.items() if k != "pressed"})
            found = observe(found, seen, pressed=fields.get("pressed", pressed), step=2, settle_seconds=SETTLE)
            at += every
    return found


@pytest.mark.parametrize(
    ("ticks", "futile"),
    [
        pytest.param([(50, {})], False, id="nothing was tried"),
        pytest.param([(3, {}), (20, {"ready": 6})], True, id="half more, and all as before"),
        pytest.param([(3, {}), (9, {"ready": 6})], False, id="too early to say"),
        pytest.param([(3, {}), (40, {"ready": 5})], False, id="one more of four is no trial"),
        pytest.param([(3, {}), (20, {"ready": 6, "latency": 0.85})], False, id="faster: it helped"),
        pytest.param([(3, {}), (20, {"ready": 6, "latency": 0.95})], True, id="hardly faster"),
        pytest.param([(3, {}), (20, {"ready": 6, "latency": 1.5})], True, id="slower"),
        pytest.param([(3, {}), (20, {"ready": 6, "rate": 55.0})], False, id="more is served: it helped"),
        pytest.param([(3, {}), (20, {"ready": 6, "rate": 45.0})], True, id="hardly more is served"),
        pytest.param([(3, {}), (20, {"ready": 6, "whole": False})], False, id="in doubt nothing is judged"),
        pytest.param(
            [(3, {}), (11, {"ready": 6}), (1, {"ready": 6, "whole": False}), (11, {"ready": 6})],
            False,
            id="a doubt in between: measured anew",
        ),
        pytest.param([(3, {}), (20, {"ready": 6, "rate": None})], False, id="no rate"),
        pytest.param([(3, {"latency": None}), (20, {"ready": 6})], False, id="nothing to compare with"),
        pytest.param([(3, {}), (8, {"ready": 6}), (1, {"ready": 4}), (8, {"ready": 6})], False, id="lost in between"),
        pytest.param([(3, {}), (20, {"ready": 6, "pressed": False})], False, id="the pressure went"),
    ],
)
def test_a_raise_is_a_trial(ticks, futile):
    assert (run(*ticks).until is not None) == futile


FUTILE = run((3, {}), (20, {"ready": 6}))


def test_the_verdict_says_what_was_compared():
    said = verdict(FUTILE, replace(SLOW, at=345.0))
    assert said.startswith("more replicas did not help (4 to 6 replicas: 1 s before, 1 s after, at 40/s and 40/s)")
    assert verdict(FUTILE, replace(SLOW, at=345.0, whole=False)) == "", "never on doubtful data"


@pytest.mark.parametrize(
    ("ticks", "futile"),
    [
        pytest.param([(1, {"ready": 6})], True, id="it stands"),
        pytest.param([(1, {"ready": 6, "rate": 50.0})], False, id="new demand ends it"),
        pytest.param([(1, {"ready": 6, "rate": 44.0})], True, id="a little more is not new"),
        pytest.param([(int(COOL_DOWN_SECONDS / 15) + 23, {})], False, id="it is tried again"),
    ],
)
def test_a_verdict_ends(ticks, futile):
    at = 345.0
    found = FUTILE
    for count, fields in ticks:
        for _ in range(count):
            found = observe(found, replace(SLOW, at=at, **fields), pressed=True, step=2, settle_seconds=SETTLE)
            at += 15.0
    assert (found.until is not None) == futile


def test_each_verdict_in_a_row_waits_twice_as_long_and_calm_forgets_them():
    again = run((3, {}), (20, {"ready": 6}), (70, {"ready": 6}), (20, {"ready": 9}))
    assert again.rounds == 2
    waits = again.until - run((3, {}), (20, {"ready": 6})).until
    assert waits > 1.9 * COOL_DOWN_SECONDS
    calm = run((1, {}), (400, {"pressed": False}), memory=again)
    assert (calm.rounds, calm.until, calm.trial) == (0, None, None)


@pytest.mark.parametrize(
    ("idle", "now", "says"),
    [
        pytest.param(
            {"latency": 0.8},
            {},
            "even at little load no request took less than 0.8 s",
            id="an SLO that no server keeps",
        ),
        pytest.param({"latency": 0.4}, {}, "", id="idle servers keep it"),
        pytest.param({"latency": 0.8}, {"latency": 2.0}, "", id="most of it is waiting now"),
        pytest.param({"latency": 0.8, "full": 0.5}, {}, "", id="that was no little load"),
        pytest.param({"latency": 0.8, "rate": 0.0}, {}, "", id="nor was it a request"),
        pytest.param({"latency": 0.8}, {"whole": False}, "", id="in doubt"),
    ],
)
def test_an_slo_that_an_idle_server_does_not_keep(idle, now, says):
    found = run((20, {"full": 0.1, "rate": 1.0, "pressed": False, **idle}), (1, {}))
    said = lasting(found, replace(SLOW, at=330.0, **now))
    assert says in said
    assert bool(said) == bool(says)


@pytest.mark.parametrize(
    "ticks",
    [
        pytest.param([(19, {"latency": 3.0})], id="few ticks: one cold start"),
        pytest.param([(19, {"latency": 3.0}), (1, {"latency": 0.2}), (19, {"latency": 3.0})], id="a warm one kept it"),
        pytest.param([(20, {"latency": 3.0}), (241, {"latency": 3.0, "full": 0.8})], id="an hour ago"),
    ],
)
def test_a_cold_start_is_no_slow_server(ticks):
    found = run(*((n, {"full": 0.1, "rate": 1.0, "pressed": False, **fields}) for n, fields in ticks), (1, {}))
    assert lasting(found, replace(SLOW, at=15.0 * sum(n for n, _ in ticks))) == ""


RULES = {"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 20}, "max": {"floor": 20, "ceiling": 40}}
PRESSED = Memory(at=985.0, pressure_since=985.0, hpa_seen_at=0.0)


@pytest.mark.parametrize(
    ("instances", "says"),
    [
        pytest.param(
            [*(instance(n, cpu=0.9) for n in "abc"), instance("d", latency=3.0, cpu=0.9)],
            "only d is over the SLO",
            id="one slow instance",
        ),
        pytest.param(
            [instance(n, latency=0.9, cpu=0.2) for n in "abcd"],
            "p95 0.9 s is over the SLO 0.5 s at utilisation 20%",
            id="slow and idle",
        ),
    ],
)
def test_what_is_no_demand_is_held_and_said(instances, says):
    plan, _ = decide(policy(scaling=RULES), snapshot(instances, hpa=hpa(2, 20), scale=scale(4)), PRESSED)
    assert plan.hpa is None
    assert says in hold(plan, "minReplicas").reason


class Plant:
    """A service behind a queue: `serve(replicas)` requests/s at the most, steps of 15 s, 60 s to warm."""

    def __init__(self, bottleneck, arrivals, *, follows_limit=True):
        self.downstream, self.arrivals = bottleneck, arrivals
        self.low, self.high, self.asked, self.started = 2, 20, 2, [-60.0, -60.0]
        self.limit, self.follows_limit = 400.0, follows_limit
        self.depth, self.at, self.memory, self.history = 0.0, 0.0, Memory(), History()
        self.plans, self.lows = [], []
        self.rules = policy(
            scaling={**RULES, "memory": None, "steps": {"replicas": 2, "every": "30s"}},
            concurrency={"perInstance": 4, "max": 400},
        )

    def tick(self):
        ready = sum(self.at - s >= 60.0 for s in self.started)
        most = min(5.0 * ready, self.downstream)
        rate = self.arrivals(self.at)
        served = min(most, rate + self.depth / 15.0)
        self.depth = max(0.0, self.depth + 15.0 * (rate - served))
        # Requests inside: all slots while anything waits.
        slots = min(4.0 * ready, self.limit)
        inside = slots if self.depth > 0.0 else min(served * 0.1 / max(1.0 - served / most, 0.05), slots)
        latency, cpu = inside / max(served, 0.1), served / ready / 5.0
        each = {"rate": served / ready, "cpu": cpu, "latency": latency, "extra": {Signal.IN_FLIGHT: inside / ready}}
        pods = [
            instance(f"p{n}", ready=self.at - s >= 60.0, created_at=s, **(each if self.at - s >= 60.0 else {"rate": None, "cpu": None, "latency": None}))
            for n, s in enumerate(self.started)
        ]  # fmt: skip
        service = snapshot(
            pods,
            at=self.at,
            hpa=hpa(self.low, self.high, targets=tuple(t for t in hpa().value.spec.targets if t.name == "cpu")),
            scale=scale(self.asked),
            queue=queue(int(self.depth), int(inside)),
        )
        plan, self.memory = decide(self.rules, service, self.memory)
        if self.follows_limit and plan.publish.limit is not None:
            self.limit = max(float(plan.publish.limit), 2.0)
        if plan.hpa is not None:
            self.low, self.high = plan.hpa.after.min_replicas, plan.hpa.after.max_replicas
        self.plans.append(plan)
        self.lows.append(self.low)
        named = [Pod(f"p{n}", ready=self.at - s >= 60.0, started_at=s, ready_changed_at=s + 60.0) for n, s in enumerate(self.started)]  # fmt: skip
        used = {f"p{n}": PodMetric(round(1000 * cpu)) for n in range(ready)}
        seen = HpaSeen(Replicas(self.asked, self.asked), tuple(named), (used,))
        done, self.history = sync(Hpa((Utilization(70),), self.low, self.high), seen, self.history, at=self.at)
        self.asked = done.desired
        del self.started[self.asked :]
        self.at += 15.0
        self.started += [self.at] * (self.asked - len(self.started))


@pytest.mark.parametrize("follows_limit", [True, False], ids=["behind the queue", "nobody keeps the limit"])
def test_behind_a_slow_downstream_replicas_are_tried_held_and_let_go(follows_limit):
    plant = Plant(bottleneck=8.0, arrivals=lambda _: 12.0, follows_limit=follows_limit)
    for _ in range(480):
        plant.tick()
    assert max(plant.lows) <= 10, "what was raised before the answer came, not the ceiling of 20"
    assert min(plant.lows[40:]) <= 4, "it is let go"
    later = plant.lows[80:]
    assert sum(later) / len(later) <= 6.0
    assert any("did not help" in h.reason for p in plant.plans for h in p.holds)
    assert any("did not help" in c.reason for p in plant.plans for c in p.changes if c.field == "minReplicas")


def test_where_cpu_is_the_limit_replicas_come_until_it_is_served():
    plant = Plant(bottleneck=1e9, arrivals=lambda _: 40.0)
    for _ in range(120):
        plant.tick()
    assert plant.depth == 0.0
    assert plant.asked >= 8
    assert not any("did not help" in h.reason for p in plant.plans for h in p.holds)


def test_new_demand_after_a_verdict_is_answered():
    """The downstream recovers and the crowd comes: nothing may stand in the way."""
    plant = Plant(bottleneck=8.0, arrivals=lambda at: 12.0 if at < 1800.0 else 45.0)
    for tick in range(280):
        if tick == 120:
            plant.downstream = 1e9
        plant.tick()
    assert plant.asked >= 9
    assert plant.depth == 0.0


trials = st.none() | st.builds(
    Trial, st.integers(0, 9), st.none() | st.floats(0.0, 9.0), st.floats(0.0, 99.0), st.integers(0, 9),
    st.none() | st.floats(0.0, 1000.0), st.none() | st.floats(0.0, 9.0), st.floats(0.0, 99.0), st.integers(0, 9),
)  # fmt: skip
memories = st.builds(
    Futility, trials, st.none() | st.floats(0.0, 9999.0), st.none() | st.floats(0.0, 99.0), st.integers(0, 99),
    eased_at=st.none() | st.floats(0.0, 1000.0), idle_latency=st.none() | st.floats(0.0, 9.0),
    idle_at=st.none() | st.floats(0.0, 1000.0),
)  # fmt: skip


looks = st.builds(
    Seen, st.just(1000.0), st.integers(0, 30), st.floats(0.0, 9.0), st.floats(0.0, 99.0), st.floats(0.0, 1.0),
    st.just(0.5), st.booleans(), st.booleans(),
)  # fmt: skip


@given(memories, looks, st.booleans())
def test_no_memory_makes_a_doubtful_tick_futile_and_waits_are_bounded(memory, seen, pressed):
    whole = seen.whole
    after = observe(memory, seen, pressed=pressed, step=2, settle_seconds=SETTLE)
    assert whole or verdict(after, seen) == ""
    if after.until is not None and after.until != memory.until:
        assert whole
        assert pressed
        assert after.until <= 1000.0 + 4 * 3600.0


def test_a_stale_sample_holds_nothing_back():
    late = [*(instance(n, cpu=0.9, latency=0.9) for n in "abc"), instance("d", cpu=0.9, latency=Stale(0.9, 99.0))]
    memory = replace(PRESSED, futility=replace(FUTILE, until=5000.0, held_rate=40.0))
    plan, _ = decide(policy(scaling=RULES), snapshot(late, hpa=hpa(2, 20), scale=scale(4)), memory)
    assert change(plan, "minReplicas").after == 4
