"""The floor from demand: what arrives and waits, over what a replica may serve."""

from dataclasses import replace

import pytest
from decide_world import change, hold, hpa, instance, policy, queue, scale, snapshot

from controller.decide.decide import decide
from controller.decide.floors.demand import Asked, ask, observe
from controller.decide.knee_utilisation import estimate
from controller.decide.warmup import WarmUp
from controller.model.memory import Arrivals, InstanceMemory, Memory
from controller.model.sample import Stale
from controller.model.snapshot import Unknown

SCALING = {"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 12}, "max": {"floor": 20, "ceiling": 40}}
FLEET = [instance(n, rate=10.0, cpu=0.5) for n in "abcd"]
KNOWN = {n: InstanceMemory(uid=f"uid-{n}", capacity=20.0) for n in "abcd"}
STEADY = Arrivals(40.0, 0.0, 0.0, 1000.0)


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
    )


@pytest.mark.parametrize(
    ("arrivals", "fields", "demand", "expected"),
    [
        pytest.param(STEADY, {}, {}, 3, id="40/s over 16/s each"),
        pytest.param(STEADY, {}, {"utilisation": 0.5}, 4, id="40/s over 10/s each"),
        pytest.param(STEADY, {"queue": queue(1200)}, {}, 4, id="1,200 waiting are 20/s more for a minute"),
        pytest.param(STEADY, {"queue": queue(1200)}, {"drain": "10s"}, 10, id="or 120/s for ten seconds"),
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
    assert observe(service, STEADY) == STEADY
    found = asked(service=service)
    assert (found.floor.replicas, found.doubt) == (3, doubt)


@pytest.mark.parametrize(
    ("arrivals", "known", "doubt"),
    [
        pytest.param(STEADY, {}, "no capacity is known yet", id="no capacity"),
        pytest.param(STEADY, {"a": InstanceMemory(capacity=0.0)}, "no capacity is known yet", id="none that serves"),
        pytest.param(None, KNOWN, "no request rate is known yet", id="no rate"),
    ],
)
def test_without_an_estimate_there_is_no_floor(arrivals, known, doubt):
    assert asked(arrivals, known) == Asked(None, doubt)


def test_without_the_section_demand_asks_for_nothing():
    assert ask(
        policy(scaling=SCALING).spec.scaling, snapshot(FLEET), STEADY, KNOWN, estimate(None), lead=WarmUp(180.0)
    ) == Asked(None)


def series(rates, every=15.0):
    arrivals = None
    for tick, rate in enumerate(rates):
        arrivals = observe(snapshot([instance("a", rate=rate)], at=1000.0 + every * tick), arrivals)
    return arrivals


def test_a_steady_rate_has_no_trend_and_no_noise():
    assert series([40.0] * 50) == Arrivals(40.0, 0.0, 0.0, 1735.0)


def test_a_ramp_is_followed():
    found = series([40.0 + 1.5 * tick for tick in range(200)])
    assert found.rate == pytest.approx(40.0 + 1.5 * 199, rel=0.02)
    assert found.trend == pytest.approx(0.1, rel=0.05)


def test_a_gap_starts_the_series_anew():
    old = Arrivals(40.0, 5.0, 3.0, 1000.0)
    assert observe(snapshot([instance("a", rate=10.0)], at=1300.0), old) == Arrivals(10.0, 0.0, 0.0, 1300.0)


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
    assert "46 needed" in hold(plan, "minReplicas").reason


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
    memory = Memory(instances=capacities, arrivals=STEADY, at=1000.0, hpa_seen_at=0.0, calm_since=0.0)
    plan = tick(memory, low=low, instances=quiet)
    assert (None if plan.hpa is None else plan.hpa.after.min_replicas) == expected
    if expected is None:
        assert "no capacity is known yet" in hold(plan, "minReplicas").reason


@pytest.mark.parametrize(
    ("low", "expected"),
    [pytest.param(10, None, id="one of ten is noise"), pytest.param(11, 9, id="two of eleven are not")],
)
def test_min_that_stands_little_above_its_floor_stays_without_a_word(low, expected):
    quiet = [instance(n, rate=36.0, cpu=0.3) for n in "abcd"]
    memory = Memory(instances=KNOWN, arrivals=replace(STEADY, rate=144.0), at=1000.0, hpa_seen_at=0.0, calm_since=0.0)
    plan = tick(memory, low=low, instances=quiet)
    assert (None if plan.hpa is None else plan.hpa.after.min_replicas) == expected
    assert hold(plan, "minReplicas") is None
