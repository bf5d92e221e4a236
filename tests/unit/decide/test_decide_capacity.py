from dataclasses import replace

import pytest
from decide_world import NOTHING, change, demand_policy, hpa, instance, policy, published, row, scale, snapshot, weights
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.model.memory import InstanceMemory, Memory
from controller.model.sample import Absent, Invalid, Signal, Stale

ROUTED = policy(routing={"floor": "1%"})


def why(instances, memory=NOTHING, policy=ROUTED):
    plan, _ = decide(policy, snapshot(instances), memory)
    return {e.instance: e.why for e in plan.publish.endpoints}


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        pytest.param({"rate": 10, "cpu": 0.5}, "capacity 20/s", id="rate over cpu"),
        pytest.param(
            {"rate": 10, "cpu": 0.2, "extra": {Signal.UTILISATION: 0.8}}, "capacity 12.5/s", id="fullest counts"
        ),
        pytest.param({"rate": 10, "cpu": 0.5, "errors": 0.5}, "capacity 5/s, errors 50%", id="errors are a penalty"),
        pytest.param({"rate": 0, "cpu": 0.01}, "no data yet: the fleet's median 20/s", id="idle is unknown"),
        pytest.param({"rate": None, "cpu": 0.5}, "no data yet: the fleet's median 20/s", id="no rate"),
        pytest.param({"rate": Invalid("NaN")}, "no data yet: the fleet's median 20/s", id="no number"),
        pytest.param(
            {"rate": 10, "cpu": 0.0}, "no data yet: the fleet's median 20/s", id="zero utilisation is unknown"
        ),
    ],
)
def test_capacity_is_rate_over_utilisation_less_errors(signals, expected):
    assert why([instance("a", **signals), instance("b")])["a"] == expected


def test_nothing_known_is_an_equal_share():
    plan, _ = decide(ROUTED, snapshot([instance(n, rate=Absent("none"), cpu=None) for n in "abc"]), NOTHING)
    assert weights(plan) == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})


def test_without_utilisation_the_share_of_slots_in_use_stands_in():
    fleet = [instance(n, cpu=None, extra={Signal.IN_FLIGHT: f}) for n, f in (("a", 2.0), ("b", 4.0))]
    assert why(fleet, policy=policy(routing={}, concurrency={"perInstance": 8})) == {
        "a": "capacity 39.9/s",
        "b": "capacity 20/s",
    }


def test_without_slots_either_littles_law_compares():
    fleet = [instance(n, cpu=None, extra={Signal.IN_FLIGHT: f}) for n, f in (("a", 2.0), ("b", 4.0))]
    plan, _ = decide(ROUTED, snapshot(fleet), NOTHING)
    assert weights(plan) == pytest.approx({"a": 2 / 3, "b": 1 / 3}, rel=0.01)


def test_littles_law_does_not_stand_beside_real_capacities():
    mixed = [instance("a", cpu=None, extra={Signal.IN_FLIGHT: 2.0}), instance("b")]
    assert why(mixed)["a"] == "no data yet: the fleet's median 20/s"


@pytest.mark.parametrize(
    ("cpu", "since", "known"),
    [
        pytest.param(Absent("no series"), 1.0, False, id="just begun: the CPU is still to come"),
        pytest.param(Absent("no series"), 179.0, False, id="soon three minutes"),
        pytest.param(Absent("no series"), 180.0, True, id="it does not come"),
        pytest.param(None, 1.0, True, id="none is defined"),
        pytest.param(0.5, 1.0, True, id="there it is"),
    ],
)
@pytest.mark.parametrize("told_by", ["kubernetes", "memory"])
def test_littles_law_does_not_stand_in_while_the_utilisation_is_still_to_come(cpu, since, known, told_by):
    ready_at = 1000.0 - since if told_by == "kubernetes" else None
    remembered = InstanceMemory(uid="uid-a", endpoint="http://a:8000", routable=True, first_seen=1000.0 - since)
    if told_by == "memory":
        remembered = replace(remembered, serving_since=1000.0 - since)
    fleet = [instance("a", cpu=cpu, extra={Signal.IN_FLIGHT: 2.0}, ready_at=ready_at)]
    _, after = decide(ROUTED, snapshot(fleet), Memory(instances={"a": remembered}, at=985.0))
    assert (after.instances["a"].capacity is not None) is known


def test_the_demand_floor_of_a_fleet_that_has_just_begun_waits_for_the_utilisation():
    """At 2 requests in flight for 100/s response times alone would say 50/s for one of 500/s, and ask for ten times too many."""
    scaled = demand_policy(20, routing={})
    memory, asked = NOTHING, []
    for tick in range(40):
        at = 1000.0 + 15.0 * tick
        cpu = Absent("no series") if tick < 9 else 0.2
        fleet = [
            instance(n, rate=100.0, cpu=cpu, latency=0.02, extra={Signal.IN_FLIGHT: 2.0}, ready_at=995.0) for n in "ab"
        ]
        plan, memory = decide(
            scaled, snapshot(fleet, at=at, hpa=hpa(2, 20), scale=scale(2), published=published()), memory
        )
        asked.append(change(plan, "minReplicas"))
    assert asked == [None] * 40
    assert memory.arrivals.capacity == pytest.approx(500.0, rel=0.01)


def test_capacity_is_carried_through_a_gap_with_its_age():
    memory = Memory(instances={"a": InstanceMemory(uid="uid-a", capacity=40.0, capacity_at=970.0)})
    assert why([instance("a", rate=Absent("gone")), instance("b")], memory)["a"].endswith(
        "capacity 40/s, measured 30 s ago"
    )


def test_another_pod_of_the_same_name_starts_anew():
    memory = Memory(instances={"a": InstanceMemory(uid="other", capacity=40.0)}, weights={"a": 0.9, "b": 0.1})
    plan, after = decide(ROUTED, snapshot([instance("a", rate=Absent("new")), instance("b")]), memory)
    assert after.instances["a"].capacity is None
    assert row(plan, "a").weight <= 0.5


@pytest.mark.parametrize(
    ("before", "share"),
    [pytest.param(20.4, 0.3, id="noise is smoothed"), pytest.param(40.0, 0.7, id="a change is followed")],
)
def test_estimates_move_by_how_much_they_differ(before, share):
    memory = Memory(instances={"a": InstanceMemory(uid="uid-a", capacity=before, capacity_at=985.0)})
    _, after = decide(ROUTED, snapshot([instance("a")]), memory)
    assert after.instances["a"].capacity == pytest.approx(before + share * (20 - before))


def test_few_samples_are_drawn_to_the_fleets_median():
    def spread(scale):
        rates = {"a": 4 * scale, "b": 5 * scale, "c": 6 * scale}
        shares = weights(decide(ROUTED, snapshot([instance(n, rate=r) for n, r in rates.items()]), NOTHING)[0])
        return shares["c"] - shares["a"]

    assert spread(0.05) < 0.03
    assert spread(100) == pytest.approx(2 / 15, rel=0.01)


def test_a_partial_answer_teaches_nothing():
    memory = Memory(instances={"a": InstanceMemory(uid="uid-a", capacity=40.0)})
    service = snapshot([instance("a")], metrics_problem="partial")
    assert decide(ROUTED, service, memory)[1].instances["a"].capacity == 40.0


def test_stale_rate_is_not_measured_again():
    _, after = decide(ROUTED, snapshot([instance("a", rate=Stale(10.0, 90.0))]), NOTHING)
    assert after.instances["a"].capacity is None


WINDOW = ROUTED.spec.signals.window
KNOWN = 20.0


def remembered(**fields):
    """Of `a`: it can serve 20/s, learnt 15 s before the snapshot."""
    return InstanceMemory(**{"uid": "uid-a", "capacity": KNOWN, "capacity_at": 985.0, **fields})


def learnt(memory, seconds=0.0, **signals):
    """What is known of `a` after one tick at 1000 s + `seconds`."""
    service = snapshot([instance("a", **signals), instance("b")], at=1000.0 + seconds)
    return decide(ROUTED, service, Memory(instances={"a": memory}))[1].instances["a"].capacity


LATE = {"age": 0.3 * WINDOW + 1.0}
DARK = {"capacity_at": 900.0, "dark_at": 985.0}
LOWER, HIGHER = {"rate": 5.0}, {"rate": 20.0}
EMPTIER = {"cpu": 0.25}


@pytest.mark.parametrize("seen", [LOWER, HIGHER, EMPTIER], ids=["less rate", "more rate", "less utilisation"])
@pytest.mark.parametrize(
    ("fields", "sample", "moves"),
    [
        pytest.param({}, {}, "up or down", id="on time"),
        pytest.param({}, LATE, "", id="late: the windows may run empty"),
        pytest.param({"capacity_at": 1001.0 - WINDOW}, LATE, "", id="late, for less than a window"),
        pytest.param({"capacity_at": 1000.0 - WINDOW}, LATE, "up or down", id="late for a window: the series goes on"),
        pytest.param(DARK, {}, "", id="the windows fill again"),
        pytest.param(DARK, LATE, "", id="fill again, and late"),
        pytest.param({**DARK, "dark_at": 1000.0 - WINDOW}, {}, "up or down", id="full again"),
        pytest.param({"dark_at": 980.0}, {}, "up", id="fill, and so they did for the estimate"),
    ],
)
def test_what_covers_missing_data_moves_no_capacity_either_way(fields, sample, moves, seen):
    found = learnt(remembered(**fields), **{**sample, **seen})
    if ("down" if seen is LOWER else "up") in moves:
        assert (found > KNOWN) is (seen is not LOWER)
        assert abs(found - KNOWN) > 5.0
    else:
        assert found == KNOWN


def test_a_gap_is_over_a_window_after_it():
    _, before = decide(ROUTED, snapshot([instance("a"), instance("b")]), NOTHING)
    _, dark = decide(ROUTED, snapshot([instance("a", rate=Absent("no series")), instance("b")], at=1100.0), before)
    assert learnt(dark.instances["a"], 100.0 + WINDOW - 1.0, **LOWER) == pytest.approx(KNOWN)
    assert learnt(dark.instances["a"], 100.0 + WINDOW + 1.0, **LOWER) < 15.0


RATES = {"a": 10.0, "b": 20.0, "c": 30.0}


@given(
    ends=st.lists(st.tuples(st.floats(0.0, 1e4), st.floats(0.0, 1.0)), min_size=1, max_size=8),
    every=st.floats(1.0, 20.0),
)
def test_no_weight_moves_while_a_series_ends_whatever_its_windows_show(ends, every):
    settled = {
        n: InstanceMemory(uid=f"uid-{n}", capacity=2 * r, capacity_at=1000.0, samples=1e12) for n, r in RATES.items()
    }
    memory = Memory(instances=settled, weights={n: r / 60 for n, r in RATES.items()})
    # There is no younger sample of `a`: its age grows with time, and with a window's age its rate is gone.
    for tick, (rate, cpu) in enumerate(ends, start=1):
        age = 0.3 * WINDOW + every * tick
        dying = instance("a", rate=rate if age < WINDOW else None, cpu=cpu, age=age)
        others = [instance(n, rate=RATES[n]) for n in "bc"]
        plan, memory = decide(ROUTED, snapshot([dying, *others], at=1000.0 + every * tick), memory)
        assert memory.instances["a"].capacity == KNOWN
        assert weights(plan) == pytest.approx({n: r / 60 for n, r in RATES.items()}, rel=1e-6)


@pytest.mark.parametrize(("before", "rate"), [(1e300, 1e-70), (1e-300, 1e9)], ids=["far below", "far above"])
def test_a_measurement_that_is_out_of_all_proportion_is_taken_in_and_is_no_error(before, rate):
    memory = Memory(instances={n: InstanceMemory(uid=f"uid-{n}", capacity=before) for n in "ab"})
    plan, after = decide(ROUTED, snapshot([instance(n, rate=rate) for n in "ab"]), memory)
    assert weights(plan) == pytest.approx({"a": 0.5, "b": 0.5})
    assert min(before, rate) <= after.instances["a"].capacity <= max(before, 2 * rate)
