"""Actuators in their order: what is protected, what waits for whom, and when nothing is left."""

import pytest
from decide_world import change, hpa, instance, policy, published, queue, scale, snapshot, whole_policy

from controller.decide import coordinate
from controller.decide.budget import Grant
from controller.decide.decide import decide
from controller.model.memory import InstanceMemory, Memory
from controller.model.sample import Absent, Signal
from controller.model.snapshot import Known, QueueView, Unknown

AT = 1000.0
WHOLE = whole_policy()
FOUR = [instance(n) for n in "abcd"]
SLOW = [instance(n, latency=0.9) for n in "abcd"]
FULL = {"hpa": hpa(6, 20, current_replicas=20, desired_replicas=20), "scale": scale(20)}


def memories(**more):
    return {n: InstanceMemory(**{"routable": True, **more.get(n, {})}) for n in "abcd"}


@pytest.mark.parametrize(
    ("known", "moves", "expected"),
    [
        pytest.param(memories(), {}, (), id="nobody came, nobody was preferred"),
        pytest.param(memories(b={"serving_since": AT - 10}), {}, ("b",), id="just warmed"),
        pytest.param(memories(b={"serving_since": AT - 100}), {}, (), id="warm for long"),
        pytest.param(memories(), {"c": 0.3, "d": -0.3, "a": 0.05}, ("c",), id="just given more"),
        pytest.param(memories(c={"shedding": True}), {"c": 0.3}, (), id="who is shed is not kept"),
        pytest.param(memories(c={"serving_since": AT, "routable": False}), {}, (), id="nor who is not ready"),
    ],
)
def test_the_protected(known, moves, expected):
    assert coordinate.protected(WHOLE, known, moves, AT) == expected


def test_the_plan_names_them():
    memory = Memory(instances=memories(b={"serving_since": AT - 10, "uid": "uid-b"}))
    plan, _ = decide(WHOLE, snapshot(FOUR, at=AT, **FULL), memory)
    assert "b" in plan.protected
    assert plan.as_dict()["protected"] == plan.protected


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (memories(), None),
        (memories(c={"shedding": True}), "c is still shed"),
        (memories(d={"serving_since": AT - 10}), "d has just warmed up"),
    ],
)
def test_what_is_still_out(known, expected):
    assert coordinate.still_out(WHOLE, Memory(instances=known), AT) == expected


def test_no_bound_is_lowered_before_the_faster_actuators_are_back():
    rules = whole_policy(scaling={**WHOLE.spec.scaling.model_dump(exclude_unset=True), "steps": {"lowerEvery": "10s"}})
    idle = [instance(n, cpu=0.1) for n in "abcd"]
    world = {"hpa": hpa(6, 10, current_replicas=6, desired_replicas=6), "scale": scale(6), "queue": queue()}
    steady = Memory(hpa_seen_at=0.0, calm_since=0.0, hpa_min=6, hpa_max=10, instances=memories())
    plan, _ = decide(rules, snapshot(idle, at=AT, **world), steady)
    assert change(plan, "minReplicas").after < 6
    for still in ({"c": {"serving_since": AT - 5}}, {"c": {"shedding": True, "shed_since": AT - 5}}):
        early = Memory(hpa_seen_at=0.0, calm_since=0.0, hpa_min=6, hpa_max=10, instances=memories(**still))
        plan, after = decide(rules, snapshot(idle, at=AT, **world), early)
        assert change(plan, "minReplicas") is None
        assert after.calm_since is None


@pytest.mark.parametrize(
    ("depth", "cpu", "expected"),
    [
        pytest.param(100, 0.4, "100 requests wait at 40% CPU, and the HPA scales out at 70 %", id="starved"),
        pytest.param(100, 0.69, None, id="near the target"),
        pytest.param(5, 0.4, None, id="no backlog"),
        pytest.param(100, None, None, id="no CPU signal"),
    ],
)
def test_when_the_limit_starves_the_hpa(depth, cpu, expected):
    service = snapshot([instance(n, cpu=cpu) for n in "ab"], queue=queue(depth, 20))
    assert coordinate.starves(WHOLE, service) == expected


@pytest.mark.parametrize(
    "fields",
    [{"queue": Unknown("refused")}, {}],
    ids=["queue not known", "no queue"],
)
def test_an_unknown_backlog_starves_nobody(fields):
    assert coordinate.starves(WHOLE, snapshot(FOUR, **fields)) is None


WITHOUT_SCALING = policy(concurrency={})


@pytest.mark.parametrize(
    ("rules", "pressure", "fields", "words"),
    [
        pytest.param(WHOLE, None, FULL, None, id="no demand"),
        pytest.param(WHOLE, "p95", FULL, "20 replicas run, the ceiling is 20", id="everything runs"),
        pytest.param(WHOLE, "p95", {"hpa": hpa(5, 20), "scale": scale(8)}, None, id="min may still be raised"),
        pytest.param(
            WHOLE,
            "p95",
            {"hpa": hpa(6, 20, desired_replicas=6), "scale": scale(6)},
            "minReplicas is at its ceiling 6",
            id="min can carry no more, and the HPA wants none",
        ),
        pytest.param(
            WHOLE, "p95", {"hpa": hpa(6, 20, desired_replicas=9), "scale": scale(6)}, None, id="the HPA wants more"
        ),
        pytest.param(
            WHOLE,
            "p95",
            {"hpa": hpa(6, 20, desired_replicas=4), "scale": scale(4)},
            None,
            id="it has yet to follow min",
        ),
        pytest.param(WHOLE, "p95", {"hpa": hpa(6, 20), "scale": scale(8, 6)}, None, id="replicas are still coming"),
        pytest.param(WHOLE, "p95", {"hpa": Unknown("refused"), "scale": scale(20)}, None, id="not known"),
        pytest.param(WITHOUT_SCALING, "p95", {}, "there is no scaling", id="no scaling"),
    ],
)
def test_when_nothing_is_left(rules, pressure, fields, words):
    found = coordinate.overload(rules, snapshot(FOUR, **fields), pressure)
    assert (found is None) == (words is None)
    if found is not None:
        assert words in found.reason
        assert found.reason.startswith("p95; ")


EIGHT = {"hpa": hpa(2, 8, current_replicas=8, desired_replicas=8), "scale": scale(8)}


@pytest.mark.parametrize(
    ("grant", "fields", "words"),
    [
        pytest.param(
            Grant(8, 2, "budget gpus: 16 of 16 in use, granted 8"),
            EIGHT,
            "p95; 8 replicas run, the ceiling is 8 (budget gpus: 16 of 16 in use, granted 8)",
            id="all that it is granted runs",
        ),
        pytest.param(Grant(9, 2, "budget"), EIGHT, None, id="one more is granted"),
        pytest.param(Grant(None, 2, "budget"), EIGHT, None, id="not known what it may have"),
        pytest.param(
            Grant(None, 2, "budget"), FULL, "p95; 20 replicas run, the ceiling is 20", id="its own ceiling is its end"
        ),
        pytest.param(
            Grant(4, 2, "budget"),
            {"hpa": hpa(4, 8, desired_replicas=3), "scale": scale(3)},
            None,
            id="the HPA has yet to follow min to what is granted",
        ),
        pytest.param(
            Grant(30, 2, "budget"), FULL, "p95; 20 replicas run, the ceiling is 20", id="more than it may use"
        ),
    ],
)
def test_a_service_that_runs_all_that_its_budget_grants_is_at_its_end(grant, fields, words):
    found = coordinate.overload(WHOLE, snapshot(FOUR, **fields), "p95", grant)
    assert (found and found.reason) == words


def test_overload_at_the_grant_is_planned_and_published():
    world = {**EIGHT, "queue": queue(200, 20), "published": published(20)}
    memory, grant = Memory(), Grant(8, 2, "budget gpus: 16 of 16 in use, granted 8")
    for tick in range(2):
        plan, memory = decide(WHOLE, snapshot(SLOW, at=AT + 15 * tick, **world), memory, grant)
    assert plan.overload == plan.publish.overload
    assert plan.overload.reason.endswith("(budget gpus: 16 of 16 in use, granted 8)")
    plan, _ = decide(WHOLE, snapshot(SLOW, at=AT + 30, **world), memory, Grant(12, 2, "budget gpus"))
    assert plan.overload is None


@pytest.mark.parametrize(
    ("instances", "waiting", "expected"),
    [
        pytest.param(FOUR, Known(QueueView(200, 20)), 5.0, id="200 wait, 40 finish per second"),
        pytest.param(FOUR, Known(QueueView(0, 20)), 0.0, id="nothing waits"),
        pytest.param(FOUR, Known(QueueView(10**9, 20)), 600.0, id="no promise beyond ten minutes"),
        pytest.param(FOUR, Unknown("refused"), None, id="queue not known"),
        pytest.param(
            [*FOUR, instance("e", extra={Signal.RATE: Absent("gone")})], queue(200), None, id="a rate is missing"
        ),
        pytest.param([instance(n, rate=0.0) for n in "ab"], queue(200), None, id="nothing finishes"),
    ],
)
def test_the_retry_after_is_the_truth_or_nothing(instances, waiting, expected):
    found = coordinate.overload(WHOLE, snapshot(instances, queue=waiting, **FULL), "p95")
    assert found.retry_after_seconds == expected


def test_overload_is_planned_and_published_only_once_demand_has_lasted():
    world = {**FULL, "queue": queue(200, 20), "published": published(20)}
    plan, memory = decide(WHOLE, snapshot(SLOW, at=AT, **world), Memory())
    assert plan.overload is None
    plan, memory = decide(WHOLE, snapshot(SLOW, at=AT + 15, **world), memory)
    assert plan.overload == plan.publish.overload
    assert plan.overload.retry_after_seconds == 5.0
    assert "overloaded (" in plan.sentence()
    plan, _ = decide(WHOLE, snapshot(FOUR, at=AT + 30, **{**world, "queue": queue()}), memory)
    assert plan.overload is None


@pytest.mark.parametrize(
    ("rules", "fields", "ready", "expected"),
    [
        pytest.param(WITHOUT_SCALING, {}, 4, 20, id="what the ready ones hold"),
        pytest.param(
            WHOLE, {"hpa": hpa(2, 10), "scale": scale(4)}, 4, 45, id="so many that the HPA goes on to its max"
        ),
        pytest.param(WHOLE, {"hpa": hpa(2, 100), "scale": scale(4)}, 4, 80, id="at most four times the ready ones"),
        pytest.param(WHOLE, {"hpa": hpa(2, 4), "scale": scale(4)}, 4, 20, id="all of them run already"),
        pytest.param(WHOLE, {"hpa": Unknown("refused")}, 4, 20, id="the HPA is not known"),
        pytest.param(WHOLE, {"hpa": hpa(2, 10)}, 0, None, id="nobody is ready: what stands is of when they were"),
        pytest.param(policy(routing={}), {}, 4, None, id="no limit"),
    ],
)
def test_the_limit_for_the_day_on_which_nobody_sets_one(rules, fields, ready, expected):
    assert coordinate.fallback(rules, snapshot(FOUR, **fields), ready) == expected
