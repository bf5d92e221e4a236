"""The floor from demand: what arrives and waits, over what a replica may serve."""

from dataclasses import replace

import pytest
from decide_world import change, hold, hpa, instance, policy, queue, scale, snapshot

from controller.decide.decide import decide
from controller.decide.floors.demand import Asked, ask, observe
from controller.decide.floors.demand import hold as demand_hold
from controller.decide.floors.floor import Floor
from controller.decide.knee_utilisation import estimate
from controller.decide.warmup import WarmUp
from controller.model.memory import InstanceMemory, Memory
from controller.model.sample import Signal, Stale
from controller.model.snapshot import Unknown
from controller.model.traffic import Arrivals, Pending, Standing

SCALING = {"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 12}, "max": {"floor": 20, "ceiling": 40}}
FLEET = [instance(n, rate=10.0, cpu=0.5) for n in "abcd"]
TOLD = frozenset({Signal.RATE, Signal.CPU})
KNOWN = {n: InstanceMemory(uid=f"uid-{n}", capacity=20.0, known=TOLD) for n in "abcd"}
STEADY = Arrivals(40.0, 0.0, 0.0, 1000.0)


STANDING = Standing(1, ((990.0, 1),), 0.0, 0.0, 990.0)


def rules(**demand):
    return policy(scaling={**SCALING, "demand": demand})


def asked(arrivals=STEADY, known=KNOWN, service=None, **demand):
    return ask(
        rules(**demand).spec.scaling,
        service or snapshot(FLEET),
        arrivals,
        known,
        estimate(None),
        lead=WarmUp(180.0, fixed=True),
        window_seconds=60.0,
    )


@pytest.mark.parametrize(
    ("arrivals", "fields", "demand", "expected"),
    [
        pytest.param(STEADY, {}, {}, 3, id="40/s over 16/s each"),
        pytest.param(STEADY, {}, {"utilisation": 0.5}, 5, id="40/s over 10/s each, and what chance adds"),
        pytest.param(STEADY, {"queue": queue(1200)}, {}, 4, id="1,200 waiting are 20/s more for a minute"),
        pytest.param(STEADY, {"queue": queue(1200)}, {"drain": "10s"}, 11, id="or 120/s for ten seconds"),
        pytest.param(replace(STEADY, trend=0.1), {}, {}, 4, id="rising: 18/s more in three minutes"),
        pytest.param(replace(STEADY, trend=-0.2), {}, {}, 3, id="falling is not believed"),
        pytest.param(replace(STEADY, noise=10.0), {}, {}, 4, id="noise takes room"),
        pytest.param(replace(STEADY, rate=0.0), {}, {}, 0, id="idle"),
        pytest.param(replace(STEADY, rate=1e300), {}, {}, 1_000_000, id="absurd"),
    ],
)
def test_the_floor(arrivals, fields, demand, expected):
    found = asked(arrivals, service=snapshot(FLEET, **fields), **demand)
    assert (found.floor.replicas, found.doubt) == (expected, "")


@pytest.mark.parametrize(
    ("fields", "doubt"),
    [
        pytest.param({"metrics_problem": "down"}, "metrics: down", id="metrics"),
        pytest.param({"instances_complete": False}, "not every instance is known", id="instances"),
        pytest.param({"queue": Unknown("refused")}, "queue: refused", id="queue"),
        pytest.param(
            {"instances": [*FLEET[:3], instance("d", rate=Stale(10.0, 99.0))]},
            "no fresh request rate from d",
            id="one is dark",
        ),
        pytest.param({"instances": []}, "no serving instance is known", id="nobody"),
    ],
)
def test_what_is_not_wholly_known_keeps_the_last_floor_and_is_a_doubt(fields, doubt):
    service = snapshot(fields.pop("instances", FLEET), at=1015.0, **fields)
    assert observed(service, STEADY) == STEADY
    found = asked(service=service)
    assert (found.floor.replicas, found.doubt) == (3, doubt)


@pytest.mark.parametrize(
    ("arrivals", "known", "doubt"),
    [
        pytest.param(STEADY, {}, "no capacity is known yet", id="no capacity"),
        pytest.param(STEADY, {"a": InstanceMemory(capacity=0.0)}, "no capacity is known yet", id="none that serves"),
        pytest.param(
            STEADY, {"a": InstanceMemory(capacity=2.0)}, "no instance tells how full it is", id="response times"
        ),
        pytest.param(None, KNOWN, "no request rate is known yet", id="no rate"),
    ],
)
def test_without_an_estimate_there_is_no_floor(arrivals, known, doubt):
    assert asked(arrivals, known) == Asked(None, doubt)


def test_without_the_section_demand_asks_for_nothing():
    assert ask(
        policy(scaling=SCALING).spec.scaling,
        snapshot(FLEET),
        STEADY,
        KNOWN,
        estimate(None),
        lead=WarmUp(180.0),
        window_seconds=60.0,
    ) == Asked(None)


def observed(service, before, load=None, known=KNOWN):
    return observe(service, before, known, load=load, lead_seconds=180.0, window_seconds=60.0, quantile=0.95)


def test_work_that_came_with_the_requests_is_what_a_forecast_is_judged_by():
    due = replace(STEADY, pending=(Pending(1015.0, 40.0, 1.0, 15.0),))
    service = snapshot(FLEET, at=1015.0)
    assert observed(service, due).noise == pytest.approx(0.0)
    assert observed(service, due, load=3.0).noise > 0.05, "load of three replicas of 20/s"


def test_a_full_fleet_hides_what_else_would_come():
    full = snapshot([instance(n, rate=10.0, cpu=1.0) for n in "abcd"], at=1015.0)
    assert observed(full, STEADY, load=4.0).rate > STEADY.rate


@pytest.mark.parametrize(
    ("stood", "now", "expected"),
    [
        pytest.param(20.0, 19.0, 19.95, id="a little less is noise"),
        pytest.param(20.0, 25.0, 20.24, id="more is believed by and by"),
        pytest.param(20.0, 15.0, 15.0, id="much less at once"),
        pytest.param(None, 15.0, 15.0, id="the first"),
    ],
)
def test_capacity_is_steadier_than_its_samples(stood, now, expected):
    known = {n: InstanceMemory(uid=f"uid-{n}", capacity=now, known=TOLD) for n in "abcd"}
    found = observed(snapshot(FLEET, at=1015.0), replace(STEADY, capacity=stood), known=known)
    assert found.capacity == pytest.approx(expected, abs=0.01)
    assert observed(snapshot(FLEET, at=1030.0), found, known={}).capacity == found.capacity, (
        "none is known: the last one"
    )


def held(floor, before, service=None, doubt=""):
    return demand_hold(Asked(Floor(floor, "why"), doubt), before, service or snapshot(FLEET), warm_up_seconds=180.0)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        pytest.param(6.0, "83.2/s with trend, noise and 0 waiting", id="kept"),
        pytest.param(-1.0, "53.2/s with trend (29% of it trusted), noise and 0 waiting", id="often broken"),
    ],
)
def test_a_trend_counts_as_far_as_such_trends_came_true_and_the_reason_says_so(kept, words):
    rising = replace(STEADY, trend=0.2, promised=4.0, kept=kept)
    assert words in asked(rising).floor.reason


def test_a_floor_that_stands_above_what_is_asked_for_says_so():
    found, standing = held(3, Standing(9, ((990.0, 9),), 0.0, 0.0, 990.0))
    assert found.floor == Floor(9, "why; 9 stay until clearly less has been enough for 90 s")
    assert standing.replicas == 9


def test_in_doubt_the_standing_floor_may_only_rise():
    standing = Standing(9, ((0.0, 9), (990.0, 2)), 0.0, 0.0, 990.0)
    assert held(2, standing, snapshot(FLEET, at=1300.0), doubt="dark")[1].replicas == 9
    assert held(11, standing, snapshot(FLEET, at=1300.0), doubt="dark")[1].replicas == 11


def test_what_was_found_running_stays_at_first():
    assert held(3, None, snapshot(FLEET, scale=scale(7)))[0].floor.replicas == 7


def test_nothing_asked_for_leaves_what_stands():
    standing = Standing(9, ((990.0, 9),), 0.0, 0.0, 990.0)
    nothing = Asked(None, "no rate")
    assert demand_hold(nothing, standing, snapshot(FLEET), warm_up_seconds=180.0) == (nothing, standing)


def tick(memory, service_fields=None, low=2, instances=FLEET, at=1015.0, **demand):
    known = {"scale": scale(4), "hpa": hpa(low, 20), **(service_fields or {})}
    return decide(rules(**demand), snapshot(instances, at=at, **known), memory)[0]


LEARNT = Memory(instances=KNOWN, arrivals=replace(STEADY, rate=100.0), at=1000.0, hpa_seen_at=0.0)


def test_demand_raises_min_by_steps_though_pods_are_coming():
    plan = tick(LEARNT, {"scale": scale(12)})
    assert plan.hpa.after.min_replicas == 4
    assert "arrive" in change(plan, "minReplicas").reason
    assert "needed" in change(plan, "minReplicas").reason


def test_demand_beyond_the_ceiling_says_so():
    plan = tick(replace(LEARNT, arrivals=replace(STEADY, rate=900.0)), low=12)
    assert plan.hpa is None
    assert hold(plan, "minReplicas").reason.startswith("already at its ceiling 12: ")
    assert "29 needed" in hold(plan, "minReplicas").reason


@pytest.mark.parametrize(
    ("low", "capacities", "expected"),
    [
        pytest.param(8, KNOWN, 6, id="down by a step"),
        pytest.param(4, KNOWN, 3, id="not below the floor"),
        pytest.param(8, {}, None, id="not while capacity is unknown"),
    ],
)
def test_min_goes_down_to_the_floor_and_no_further(low, capacities, expected):
    quiet = [instance(n, rate=10.0, cpu=0.3) for n in "abcd"]
    memory = Memory(
        instances=capacities, arrivals=STEADY, standing=STANDING, at=1000.0, hpa_seen_at=0.0, calm_since=0.0
    )
    plan = tick(memory, low=low, instances=quiet)
    assert (None if plan.hpa is None else plan.hpa.after.min_replicas) == expected
    if expected is None:
        assert "no capacity is known yet" in hold(plan, "minReplicas").reason


@pytest.mark.parametrize(
    ("low", "expected"),
    [pytest.param(9, None, id="on its floor"), pytest.param(10, 9, id="one above it"), pytest.param(11, 9, id="two")],
)
def test_min_follows_its_floor_down_to_the_last_replica(low, expected):
    quiet = [instance(n, rate=34.0, cpu=0.3) for n in "abcd"]
    memory = Memory(
        instances=KNOWN,
        arrivals=replace(STEADY, rate=136.0),
        standing=STANDING,
        at=1000.0,
        hpa_seen_at=0.0,
        calm_since=0.0,
    )
    plan = tick(memory, low=low, instances=quiet)
    assert (None if plan.hpa is None else plan.hpa.after.min_replicas) == expected
    assert hold(plan, "minReplicas") is None
