"""The CPU target: where it may go, how fast, on what evidence, and how it comes back."""

from dataclasses import replace
from itertools import pairwise

import pytest
from decide_world import change, hold, hpa, instance, policy, scale, snapshot
from hypothesis import given
from hypothesis import strategies as st

from controller.decide import slo as service_level
from controller.decide.decide import decide
from controller.decide.tuning import Target, observe, propose
from controller.model.memory import Memory, Tuning
from controller.model.sample import Stale
from controller.model.snapshot import ResourceTarget
from controller.policy.schema import Cpu, Slo

DAY = 86400.0
CPU = Cpu(target=70, between=[50, 85])
FULL = Tuning(since=0.0, stands=70, at=2 * DAY, held=7200.0)


@pytest.mark.parametrize(
    ("fields", "rules", "percent", "expected"),
    [
        pytest.param({}, CPU, 70, 71, id="an hour of evidence: one point"),
        pytest.param({}, Cpu(target=70), 60, 70, id="no range: the policy's own"),
        pytest.param({}, CPU, None, 70, id="no target stands: the policy's own"),
        pytest.param({}, CPU, 40, 50, id="below the range"),
        pytest.param({}, CPU, 90, 85, id="above it"),
        pytest.param({}, CPU, 85, 85, id="at its upper end"),
        pytest.param({"held": 3000.0}, CPU, 70, 70, id="too little evidence"),
        pytest.param({"held": 7200.0, "tight": 500.0}, CPU, 70, 70, id="tight too often"),
        pytest.param({"held": 7200.0, "broken": 290.0}, CPU, 70, 71, id="broken for a moment"),
        pytest.param({"held": 7200.0, "broken": 400.0}, CPU, 70, 65, id="broken too often: down"),
        pytest.param({"held": 7200.0, "broken": 400.0}, CPU, 52, 50, id="down, and not out of the range"),
        pytest.param({"held": 7200.0, "broken": 400.0}, CPU, 50, 50, id="at its lower end"),
        pytest.param({"held": 100.0, "broken": 200.0}, CPU, 70, 70, id="too little to lower on"),
        pytest.param({"good": 69, "moved_at": 1.9 * DAY, "broken_since": 2 * DAY - 60.0}, CPU, 70, 69, id="a raise is taken back"),
        pytest.param({"good": 69, "moved_at": 0.9 * DAY, "broken_since": 2 * DAY - 60.0}, CPU, 70, 71, id="not an old one"),
        pytest.param({"since": 1.5 * DAY}, CPU, 70, 70, id="the first day is for watching"),
        pytest.param({"since": None}, CPU, 70, 70, id="nothing seen yet"),
        pytest.param({"moved_at": 1.9 * DAY}, CPU, 70, 70, id="a point in 4.8 hours"),
        pytest.param({"moved_at": 1.9 * DAY}, CPU.model_copy(update={"pointsPerDay": 20}), 70, 71, id="or as the policy says"),
        pytest.param({"barred_from": 71, "barred_until": 3 * DAY}, CPU, 70, 70, id="barred"),
        pytest.param({"barred_from": 72, "barred_until": 3 * DAY}, CPU, 70, 71, id="up to what broke"),
        pytest.param({"barred_from": 71, "barred_until": 2 * DAY}, CPU, 70, 71, id="tried again"),
    ],
)  # fmt: skip
def test_where_the_target_goes(fields, rules, percent, expected):
    assert propose(rules, replace(FULL, **fields), percent, 2 * DAY).percent == expected


def test_the_reason_is_the_evidence():
    assert propose(CPU, FULL, 70, 2 * DAY) == Target(71, "the SLO held for 2.0 h near 70 %")
    broken = replace(FULL, good=69, moved_at=2 * DAY - 900.0, held=300.0, broken=75.0, broken_since=2 * DAY - 75.0)
    said = propose(CPU, broken, 70, 2 * DAY)
    assert said == Target(69, "the SLO broke for 75 s of 375 s near 70 %, back to the last good target")


def seen(latency, *, at=DAY, target=70, cpu=70, **fields):
    view = hpa(targets=(ResourceTarget("cpu", target),), cpu_percent=cpu)
    return snapshot([instance(n, latency=latency) for n in "ab"], at=at, hpa=view, scale=scale(2), **fields)


def evidence(service, memory, *, skip=False):
    level = service_level.measure(Slo(), service)
    return observe(memory, service, level, slo_seconds=0.5, settle_seconds=300.0, skip=skip)


STANDS = Tuning(since=0.0, stands=70, at=DAY - 15.0)


@pytest.mark.parametrize(
    ("service", "fields", "expected"),
    [
        pytest.param(seen(0.1), {}, (15.0, 0.0, 0.0), id="held"),
        pytest.param(seen(0.46), {}, (0.0, 15.0, 0.0), id="tight"),
        pytest.param(seen(0.51), {}, (0.0, 0.0, 15.0), id="broken"),
        pytest.param(seen(0.1, cpu=77), {}, (15.0, 0.0, 0.0), id="near: what the HPA tolerates"),
        pytest.param(seen(0.1, cpu=62), {}, (0.0, 0.0, 0.0), id="too idle to say"),
        pytest.param(seen(0.9, cpu=95), {}, (0.0, 0.0, 0.0), id="overrun is not the target's fault"),
        pytest.param(seen(0.1, cpu=None), {}, (0.0, 0.0, 0.0), id="the HPA does not know"),
        pytest.param(seen(0.1, metrics_problem="down"), {}, (0.0, 0.0, 0.0), id="no metrics"),
        pytest.param(seen(Stale(0.1, 99.0)), {}, (0.0, 0.0, 0.0), id="stale"),
        pytest.param(seen(None), {}, (0.0, 0.0, 0.0), id="no response time"),
        pytest.param(seen(0.1), {"at": 0.0}, (60.0, 0.0, 0.0), id="a gap counts for a minute"),
        pytest.param(seen(0.1), {"moved_at": DAY - 200.0}, (0.0, 0.0, 0.0), id="settling"),
        pytest.param(seen(0.1, target=75), {"held": 99.0}, (0.0, 0.0, 0.0), id="another target: all anew"),
    ],
)
def test_what_counts_as_evidence(service, fields, expected):
    found = evidence(service, replace(STANDS, **fields))
    assert (found.held, found.tight, found.broken) == expected


def test_where_replicas_are_no_answer_nothing_is_learnt():
    assert evidence(seen(0.9), STANDS, skip=True).broken == 0.0


def test_each_lowering_bars_for_twice_as_long():
    memory, waits = Tuning(since=0.0, stands=70, at=0.0), []
    for target in (69, 70, 69, 70, 69):
        memory = evidence(seen(0.1, target=target, at=DAY), memory)
        waits.append(memory.cool_down / DAY)
    assert waits == [1.0, 1.0, 2.0, 2.0, 4.0]
    passed = evidence(seen(0.1, target=75, at=DAY), memory)
    assert passed.cool_down == 0.0, "what once broke the SLO keeps it now"


class Service:
    """Pods held near the target by the HPA, use swinging by 9 % around it; minutes, and no decide() around it."""

    def __init__(self, latency, *, start=70, rules=CPU):
        self.latency, self.percent, self.rules = latency, start, rules
        self.memory, self.minute, self.log, self.broken = Tuning(), 0, [], 0

    def run(self, days):
        for _ in range(int(days * 1440)):
            at = 60.0 * self.minute
            swing = 0.09 * ((self.minute * 7919 % 1000) / 500.0 - 1.0)
            cpu = self.percent * (1.0 + swing)
            latency = self.latency(cpu / 100.0)
            self.broken += latency > 0.5
            view = hpa(targets=(ResourceTarget("cpu", self.percent),), cpu_percent=round(cpu))
            service = snapshot([instance("a", latency=latency)], at=at, hpa=view, scale=scale(2))
            self.memory = evidence(service, self.memory)
            wanted = propose(self.rules, self.memory, self.percent, at).percent
            if wanted != self.percent:
                self.log.append((at, self.percent, wanted))
            self.percent = wanted
            self.minute += 1
        return self

    def most_in_a_day(self):
        ups = [(at, to - was) for at, was, to in self.log if to > was]
        return max((sum(p for other, p in ups if at <= other < at + DAY) for at, _ in ups), default=0)


def queueing(service_seconds, factor=1.0):
    return lambda full: service_seconds / max(1.0 - factor * full, 0.01)


def test_it_climbs_to_below_the_knee_and_stays():
    """0.075 s ÷ (1 − use) breaks 0.5 s at 85 %; 10 % above the target must stay off it."""
    service = Service(queueing(0.075)).run(8)
    assert 74 <= service.percent <= 78
    assert service.broken < 0.001 * service.minute, "it stops where the response time gets tight"
    assert service.most_in_a_day() <= 5
    assert all(to > was for _, was, to in service.log), "no to and fro"


def test_a_knee_without_a_warning_is_found_taken_back_and_left_alone():
    service = Service(lambda full: 0.1 if full < 0.80 else 2.0).run(12)
    ups = [to for _, was, to in service.log if to > was]
    downs = [(was, to) for _, was, to in service.log if to < was]
    assert service.percent in range(72, 75)
    assert downs
    assert all(to >= was - 5 for was, to in downs)
    assert max(ups) <= 76
    assert service.broken < 0.02 * service.minute


def test_a_service_that_gets_slower_takes_its_target_down():
    service = Service(queueing(0.075)).run(6)
    was, broken = service.percent, service.broken
    service.latency = queueing(0.115)
    service.run(2)
    assert service.percent < was
    settled = service.broken
    assert settled - broken < 12 * 60, "half a day of a partly broken SLO at most"
    service.run(2)
    assert service.broken == settled


def test_a_restart_each_day_only_slows_it_down():
    """Without memory the first day is for watching: it never climbs faster, nor higher."""
    whole, lossy = Service(queueing(0.075)), Service(queueing(0.075))
    for _ in range(8):
        whole.run(1)
        lossy.run(1)
        lossy.memory = Tuning()
        assert lossy.percent <= whole.percent


tunings = st.builds(
    Tuning, since=st.none() | st.floats(0.0, DAY), stands=st.none() | st.integers(1, 99),
    at=st.none() | st.floats(0.0, 2 * DAY), moved_at=st.none() | st.floats(0.0, 2 * DAY),
    good=st.none() | st.integers(1, 99), held=st.floats(0.0, 1e5), tight=st.floats(0.0, 1e4), broken=st.floats(0.0, 1e4),
    broken_since=st.none() | st.floats(0.0, 2 * DAY), barred_from=st.none() | st.integers(1, 99),
    barred_until=st.none() | st.floats(0.0, 9 * DAY), cool_down=st.floats(0.0, 9 * DAY),
)  # fmt: skip


@given(tunings, st.integers(1, 99), st.integers(1, 9))
def test_inside_the_range_it_rises_by_a_point_at_most(memory, percent, per_day):
    rules = Cpu(target=70, between=[50, 85], pointsPerDay=per_day)
    wanted = propose(rules, memory, percent, 2 * DAY).percent
    assert 50 <= wanted <= 85
    if 50 <= percent <= 85:
        assert wanted <= percent + 1
    if wanted > max(percent, 50):
        assert memory.since is not None
        assert memory.held >= 3600.0


RULES = {"hpa": "h", "target": {"name": "m"}, "cpu": {"target": 70, "between": [50, 85]}, "memory": None}
LEARNT = Memory(at=2 * DAY - 15.0, hpa_seen_at=0.0, hpa_min=2, hpa_max=10, tuning=replace(FULL, at=2 * DAY - 15.0))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, 71, id="up"),
        pytest.param({"metrics_problem": "down"}, None, id="not on doubtful data"),
        pytest.param({"paused": "in"}, None, id="nor when lowering is paused: fewer replicas"),
    ],
)
def test_it_goes_through_the_whole_decision(fields, expected):
    view = hpa(targets=(ResourceTarget("cpu", 70),), cpu_percent=70, paused=fields.pop("paused", None))
    service = snapshot([instance(n, cpu=0.6) for n in "abcd"], at=2 * DAY, hpa=view, scale=scale(4), **fields)
    plan, _ = decide(policy(scaling=RULES), service, LEARNT)
    if expected is None:
        assert plan.hpa is None
        assert hold(plan, "cpu target").reason.endswith("asked for 71")
    else:
        assert plan.hpa.after.targets == (ResourceTarget("cpu", expected),)
        assert change(plan, "cpu target").reason == "the SLO held for 2.0 h near 70 %"


def test_moves_are_seen_on_the_server_not_taken_from_plans():
    memory = LEARNT
    for tick in range(3):
        view = hpa(targets=(ResourceTarget("cpu", 70 if tick < 2 else 71),), cpu_percent=70)
        service = snapshot([instance(n, cpu=0.6) for n in "abcd"], at=2 * DAY + 15.0 * tick, hpa=view, scale=scale(4))
        plan, memory = decide(policy(scaling=RULES), service, memory)
        assert (plan.hpa is not None) == (tick < 2), "a write that failed is tried again"
    assert (memory.tuning.good, memory.tuning.held) == (70, 0.0)


def test_the_log_of_moves_is_a_staircase():
    log = Service(queueing(0.075)).run(4).log
    assert all(a[2] == b[1] for a, b in pairwise(log))
