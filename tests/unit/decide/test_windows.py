"""A CPU that covers more time than the rate, set against it all the same."""

from dataclasses import replace

import pytest
from decide_world import demand_policy, hpa, instance, policy, scale, snapshot
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.decide.situation import situation
from controller.decide.slo import ServiceLevel
from controller.decide.windows import align
from controller.model.memory import InstanceMemory, Memory
from controller.model.sample import Absent, Fresh, Signal, Stale

SIGNALS = policy().spec.signals
CAPACITY = 100.0
EVERY = 15.0


def mean(load, start, end):
    """Mean of a load, requests/s at an instant, over a span."""
    return sum(load(start + (n + 0.5) * (end - start) / 240) for n in range(240)) / 240


def seen(load, at, names="ab"):
    """What is read of equal instances: a rate over one minute, a CPU over two."""
    rate, cpu = mean(load, at - 60.0, at), mean(load, at - 120.0, at) / CAPACITY
    return [instance(name, rate=rate, cpu=cpu) for name in names]


def followed(ticks, signals=SIGNALS, memory=None):
    """The last of these (instant, instances), aligned."""
    memory = memory or Memory()
    for at, instances in ticks:
        found = align(signals, snapshot(instances, at=at), memory)
        memory = replace(memory, lately=found.lately)
    return found


def cpu(found, name="a"):
    return next(i for i in found.service.instances if i.name == name).signal(Signal.CPU).value


def instants(until, since=600.0):
    return [since + EVERY * n for n in range(round((until - since) / EVERY) + 1)]


LOADS = {
    "it doubles at once": lambda t: 30.0 if t < 900.0 else 60.0,
    "it rises by a third a minute": lambda t: 30.0 + max(0.0, t - 800.0) / 6.0,
    "it halves at once": lambda t: 60.0 if t < 900.0 else 30.0,
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS.keys())
@pytest.mark.parametrize("after", [15.0, 30.0, 60.0, 90.0, 120.0])
def test_rate_over_cpu_is_the_capacity_while_the_load_moves(load, after):
    at = 900.0 + after
    found = followed((t, seen(load, t)) for t in instants(at))
    assert mean(load, at - 60.0, at) / cpu(found) == pytest.approx(CAPACITY, rel=0.02)


def test_without_it_the_capacity_would_read_a_third_too_high():
    a, _ = seen(LOADS["it doubles at once"], 960.0)
    assert a.signal(Signal.RATE).value / a.signal(Signal.CPU).value > 1.3 * CAPACITY


def steady(_):
    return 40.0


def test_while_the_load_stands_the_service_is_as_observed():
    service = snapshot(seen(steady, 900.0), at=900.0)
    memory = Memory(lately=followed((t, seen(steady, t)) for t in instants(885.0)).lately)
    found = align(SIGNALS, service, memory)
    assert found.service is service
    assert not found.moves


@pytest.mark.parametrize(("load", "moves"), [(steady, False), (LOADS["it doubles at once"], True)])
def test_a_load_that_moves_by_more_than_a_tenth_within_the_windows_is_said_to(load, moves):
    assert followed((t, seen(load, t)) for t in instants(945.0)).moves is moves


def doubled(t):
    return seen(LOADS["it doubles at once"], t)


def without(signal, sample):
    return lambda t: [replace(i, signals={**i.signals, signal: sample}) for i in doubled(t)]


@pytest.mark.parametrize(
    ("signals", "ticks"),
    [
        pytest.param(policy(signals={"preset": "fastapi", "window": "2m"}).spec.signals, [(t, doubled(t)) for t in instants(945.0)], id="the window is as long"),
        pytest.param(policy(signals={"preset": "fastapi", "cpu": {"query": "rate(x{$selector}[15m])"}}).spec.signals, [(t, doubled(t)) for t in instants(1800.0)][:24], id="the CPU covers a quarter of an hour"),
        pytest.param(SIGNALS, [(t, doubled(t)) for t in instants(945.0, since=900.0)], id="the rates do not reach back"),
        pytest.param(SIGNALS, [(t, doubled(t)) for t in (795.0, 810.0, 930.0, 945.0)], id="a gap of two minutes"),
        pytest.param(SIGNALS, [(t, without(Signal.RATE, Stale(60.0, 90.0))(t)) for t in instants(945.0)], id="stale rates"),
        pytest.param(SIGNALS, [(t, without(Signal.RATE, Fresh(60.0 * (t > 900.0), 19.0))(t)) for t in instants(945.0)], id="late rates: the window may run empty"),
        pytest.param(SIGNALS, [(t, [replace(i, ready=False) for i in doubled(t)]) for t in instants(945.0)], id="nobody serves"),
        pytest.param(SIGNALS, [(t, [instance("a", rate=0.0, cpu=0.3)]) for t in instants(945.0)], id="no requests"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_left_as_it_is(signals, ticks):
    found = followed(ticks, signals)
    assert [i.signals for i in found.service.instances] == [i.signals for i in ticks[-1][1]]
    assert not found.moves


def test_a_partial_answer_is_left_as_it_is_and_teaches_nothing():
    memory = Memory(lately=followed((t, doubled(t)) for t in instants(930.0)).lately)
    service = snapshot(doubled(945.0), at=945.0, metrics_problem="one shard did not answer")
    assert align(SIGNALS, service, memory) == (service, memory.lately, False)


def test_a_cpu_that_is_not_fresh_stays_what_it_is():
    found = followed((t, [*doubled(t), instance("c", cpu=Stale(0.3, 90.0))]) for t in instants(945.0))
    assert next(i for i in found.service.instances if i.name == "c").signal(Signal.CPU) == Stale(0.3, 90.0)
    assert cpu(found) > doubled(945.0)[0].signal(Signal.CPU).value


@pytest.mark.parametrize(("many", "believed"), [(1, (0.0, 0.1)), (1000, (0.4, 0.5))], ids=["4 requests", "4,000"])
def test_a_move_is_believed_as_far_as_it_stands_out_of_chance(many, believed):
    def rare(t):
        return [instance("a", rate=many * (0.02 if t < 900.0 else 0.05), cpu=0.3)]

    least, most = believed
    assert least < cpu(followed((t, rare(t)) for t in instants(945.0))) / 0.3 - 1.0 < most


def mixed(t, names):
    rates = {"small": 10.0, "large": 40.0, "new": 25.0 if t >= 900.0 else 1.0}
    return [instance(n, rate=rates[n], cpu=0.5) for n in names]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(lambda t: ("small", "large") if t < 900.0 else ("large",), id="one goes"),
        pytest.param(lambda t: ("small",) if t < 900.0 else ("small", "large"), id="one comes"),
    ],
)
def test_who_comes_or_goes_is_no_move(names):
    assert (
        cpu(followed((t, mixed(t, names(t))) for t in instants(945.0)), "large" if len(names(0.0)) == 2 else "small")
        == 0.5
    )


def test_a_new_instance_whose_rate_still_fills_is_no_move():
    def fleet(t):
        small, new = mixed(t, ("small", "new"))
        return [small, new if t >= 930.0 else replace(new, signals={**new.signals, Signal.CPU: Absent("too young")})]

    assert cpu(followed((t, fleet(t)) for t in instants(945.0)), "small") == 0.5


def test_windows_that_fill_again_after_missing_data_are_no_move():
    def filling(t):
        return [instance("a", rate=5.0 if t < 930.0 else 10.0, cpu=0.3), instance("b", rate=10.0, cpu=0.3)]

    dark = {"a": InstanceMemory(uid="uid-a", dark_at=890.0)}
    assert cpu(followed(((t, filling(t)) for t in instants(945.0)), memory=Memory(instances=dark)), "b") == 0.3
    assert cpu(followed((t, filling(t)) for t in instants(945.0)), "b") > 0.3, "what it would have been taken for"


SCALED = demand_policy(90)
LEVEL = ServiceLevel(0.1, 0.0, None, None, (), ())


def decided(load, until):
    memory = Memory()
    for t in instants(until, since=300.0):
        service = snapshot(seen(load, t), at=t, hpa=hpa(2, 90), scale=scale(2))
        _, memory = decide(SCALED, service, memory)
    return memory


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS.keys())
def test_what_a_replica_serves_stands_while_its_load_moves(load):
    memory = decided(load, 990.0)
    assert memory.arrivals.capacity == pytest.approx(CAPACITY, rel=0.02)
    assert memory.instances["a"].capacity == pytest.approx(CAPACITY, rel=0.03)


def test_how_full_a_replica_may_be_is_not_learned_while_the_load_moves():
    before, moving, after = (decided(LOADS["it doubles at once"], t).fullness.at for t in (885.0, 945.0, 1095.0))
    assert (before, moving < 945.0, after) == (885.0, True, 1095.0)


def test_a_decrease_is_measured_against_the_cpu_as_observed_while_the_load_falls():
    def half_of_it_is_not_for_requests(t):
        cpu = 0.4 + 0.4 * mean(LOADS["it halves at once"], t - 120.0, t) / 60.0
        return [instance(n, rate=mean(LOADS["it halves at once"], t - 60.0, t), cpu=cpu) for n in "ab"]

    memory = Memory(lately=followed((t, half_of_it_is_not_for_requests(t)) for t in instants(945.0)).lately)
    observed = snapshot(half_of_it_is_not_for_requests(960.0), at=960.0)
    aligned = align(SIGNALS, observed, memory).service
    spot = situation(SCALED, aligned, memory, LEVEL, None, observed=observed)
    assert spot.load < 1.2 < spot.most_load == pytest.approx(1.4)


@pytest.mark.parametrize("every", [20.0, 45.0, 59.0, 61.0])
def test_ticks_as_far_apart_as_a_window_reach_back_far_enough(every):
    ticks = [600.0 + every * n for n in range(30) if 600.0 + every * n <= 1000.0]
    at = ticks[-1]

    def load(t):
        return 30.0 if t < at - 30.0 else 60.0

    assert cpu(followed((t, seen(load, t)) for t in ticks)) > 1.1 * seen(load, at)[0].signal(Signal.CPU).value


values = st.floats(0.0, 1e15) | st.floats(0.0, 2.0)
fleets = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.tuples(values, values), max_size=3), min_size=1, max_size=12
)


@given(fleets, st.lists(st.floats(-60.0, 100.0), min_size=12, max_size=12))
def test_whatever_is_seen_a_cpu_stays_within_what_a_replica_has(fleet, gaps):
    memory, at = Memory(), 1000.0
    for tick, gap in zip(fleet, gaps, strict=False):
        at += gap
        instances = [instance(name, rate=rate, cpu=full) for name, (rate, full) in tick.items()]
        found = align(SIGNALS, snapshot(instances, at=at), memory)
        for before, after in zip(instances, found.service.instances, strict=True):
            raw, fixed = before.signal(Signal.CPU).value, after.signal(Signal.CPU).value
            assert 0.0 <= fixed <= max(raw, 1.0)
            assert fixed <= 2.0 * raw
        assert all(at - SIGNALS.cpu_seconds - SIGNALS.window <= t <= at for t, _ in found.lately)
        memory = replace(memory, lately=found.lately)
