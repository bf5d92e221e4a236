import pytest
from decide_world import NOTHING, change, hold, hpa, instance, policy, queue, scale, snapshot

from controller.decide.decide import decide
from controller.model.memory import Memory
from controller.model.sample import Absent, Stale
from controller.model.snapshot import HpaSpec, Known, NotAsked, ResourceTarget, Unknown

TARGETS = (ResourceTarget("cpu", 70), ResourceTarget("memory", 80))
RULES = {"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 6}, "max": {"floor": 10, "ceiling": 14}}
FOUR = [instance(n) for n in "abcd"]
QUIET = [instance(n, cpu=0.3) for n in "abcd"]
SLOW = [instance(n, latency=0.9, cpu=0.9) for n in "abcd"]
LONG = {"at": 985.0, "calm_since": 0.0, "hpa_seen_at": 0.0}
PRESSED = {"at": 985.0, "pressure_since": 985.0, "hpa_seen_at": 0.0}


def tick(instances=FOUR, memory=NOTHING, rules=None, **fields):
    scaled = policy(scaling={**RULES, **(rules or {})})
    return decide(scaled, snapshot(instances, **{"hpa": hpa(), "scale": scale(4), **fields}), memory)


def bounds(plan):
    return None if plan.hpa is None else (plan.hpa.after.min_replicas, plan.hpa.after.max_replicas)


def test_an_absent_hpa_is_created_with_the_policys_numbers():
    plan, _ = tick(hpa=Known(None))
    assert (plan.hpa.namespace, plan.hpa.name, plan.hpa.before) == ("models", "h", None)
    assert plan.hpa.after == HpaSpec("Deployment", "m", 2, 10, TARGETS)
    assert [(c.field, c.before, c.after) for c in plan.changes] == [
        ("minReplicas", None, 2),
        ("maxReplicas", None, 10),
        ("cpu target", None, 70),
        ("memory target", None, 80),
    ]


@pytest.mark.parametrize(
    ("fields", "memory", "expected"),
    [
        pytest.param({"hpa": Known(None), "scale": scale(30)}, {}, (2, 30), id="create: max never below what runs"),
        pytest.param(
            {"hpa": Known(None), "scale": scale(1), "rules": {"min": {"floor": 6, "ceiling": 6}}},
            {},
            (3, 10),
            id="create: min starts one step of pods",
        ),
        pytest.param({}, {}, None, id="nothing to do"),
        pytest.param({"hpa": hpa(4, 12)}, {}, None, id="in range and not calm for long"),
        pytest.param({"hpa": hpa(1, 5)}, {}, (2, 7), id="below the range: up by a step"),
        pytest.param({"hpa": hpa(1, 1), "scale": scale(1)}, {}, (2, 3), id="far below the range"),
        pytest.param({"hpa": hpa(8, 20)}, {}, None, id="above the range: first a wait"),
        pytest.param({"hpa": hpa(8, 20)}, LONG, (6, 16), id="above the range: down by a step"),
        pytest.param({"hpa": hpa(2, 20), "scale": scale(19)}, LONG, (2, 19), id="above the range: not below what runs"),
        pytest.param({"hpa": hpa(2, 20, desired_replicas=20)}, LONG, None, id="desired replicas run too"),
        pytest.param({"instances": SLOW}, PRESSED, (4, 10), id="pressure: min up"),
        pytest.param(
            {"instances": [*SLOW[:3], instance("d", latency=0.9, cpu=Absent("young"))]},
            PRESSED,
            (4, 10),
            id="pressure: who is too young to tell its CPU holds no raise up",
        ),
        pytest.param({"instances": SLOW}, {}, None, id="pressure of one tick"),
        pytest.param({"instances": SLOW}, {**PRESSED, "min_changed_at": 980.0}, None, id="pressure: too soon"),
        pytest.param({"instances": SLOW, "hpa": hpa(5, 10)}, PRESSED, (6, 10), id="pressure: up to the ceiling"),
        pytest.param({"instances": SLOW, "scale": scale(6)}, PRESSED, None, id="pressure: a step is coming already"),
        pytest.param({"instances": SLOW, "scale": scale(5)}, PRESSED, (4, 10), id="one late pod blocks nothing"),
        pytest.param(
            {"instances": SLOW, "scale": scale(4), "hpa": hpa(6, 10, limited_by_max=True)},
            PRESSED,
            (6, 12),
            id="pressure at max: max up",
        ),
        pytest.param(
            {"instances": [instance(n, latency=0.9, cpu=0.1) for n in "abcd"]},
            PRESSED,
            None,
            id="slow but idle is no demand",
        ),
        pytest.param(
            {"instances": [instance(n, errors=0.9, cpu=0.9) for n in "abcd"]}, PRESSED, None, id="errors are no demand"
        ),
        pytest.param({"queue": queue(9, 4)}, PRESSED, (4, 10), id="backlog: min up"),
        pytest.param({"queue": queue(3, 4)}, PRESSED, None, id="few waiting"),
        pytest.param({"queue": queue(9, 4), "metrics_problem": "down"}, PRESSED, (4, 10), id="backlog without metrics"),
        pytest.param({"hpa": hpa(5, 12)}, LONG, (3, 10), id="calm: both down"),
        pytest.param({"instances": QUIET, "hpa": hpa(3, 10)}, LONG, (2, 10), id="calm: down to the floor"),
        pytest.param({"hpa": hpa(3, 10)}, LONG, None, id="calm: two would be full"),
        pytest.param({"hpa": hpa(4, 10)}, LONG, (3, 10), id="calm: no further than the rest can carry"),
        pytest.param({"hpa": hpa(5, 12)}, {**LONG, "min_changed_at": 800.0}, (5, 10), id="calm: min moved of late"),
        pytest.param({"hpa": hpa(5, 12)}, {**LONG, "calm_since": 900.0}, None, id="calm for too short"),
        pytest.param({"hpa": hpa(2, 12), "scale": scale(12)}, LONG, None, id="calm but full"),
        pytest.param({"hpa": hpa(2, 13), "scale": scale(12)}, LONG, (2, 12), id="calm: max not below what runs"),
        pytest.param({"hpa": hpa(5, 12), "metrics_problem": "down"}, LONG, None, id="doubt: metrics"),
        pytest.param({"hpa": hpa(5, 12), "instances_complete": False}, LONG, None, id="doubt: instances"),
        pytest.param({"hpa": hpa(5, 12), "queue": Unknown("down")}, LONG, None, id="doubt: queue"),
        pytest.param({"hpa": hpa(8, 20), "queue": Unknown("down")}, LONG, None, id="doubt: above the range"),
        pytest.param(
            {"hpa": hpa(5, 12), "instances": [*FOUR[:3], instance("d", latency=Stale(0.1, 90))]},
            LONG,
            None,
            id="doubt: one stale",
        ),
        pytest.param({"hpa": hpa(5, 12, paused="in")}, LONG, None, id="paused in: no lowering"),
        pytest.param({"instances": SLOW, "hpa": hpa(2, 10, paused="in")}, PRESSED, (4, 10), id="paused in: raising"),
        pytest.param({"instances": SLOW, "hpa": hpa(2, 10, paused="out")}, PRESSED, None, id="paused out: no raising"),
    ],
)
def test_bounds(fields, memory, expected):
    assert bounds(tick(memory=Memory(**memory), **fields)[0]) == expected


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param({"hpa": Unknown("refused")}, "HPA is not known: refused", id="hpa unknown"),
        pytest.param({"hpa": NotAsked()}, "HPA was not read", id="hpa not asked"),
        pytest.param({"scale": Unknown("403")}, "Deployment m is not known: 403", id="scale unknown"),
        pytest.param({"scale": Known(None)}, "there is no Deployment m", id="no target"),
        pytest.param({"scale": Known(None), "hpa": Known(None)}, "there is no Deployment m", id="no target, no hpa"),
        pytest.param({"scale": scale(0)}, "Deployment m is switched off by its owner (0 replicas)", id="switched off"),
        pytest.param({"hpa": hpa(foreign_owner="KEDA")}, "h belongs to KEDA and is left alone", id="foreign"),
        pytest.param({"hpa": hpa(target="n")}, "h scales Deployment n, the policy says Deployment m", id="other target"),
        pytest.param({"hpa": hpa(adopted=False), "rules": {"adopt": False}},
                     "h was applied by somebody else and scaling.adopt is false", id="not to adopt"),
        pytest.param({"hpa": hpa(1, 5, paused="true")}, "paused by trimtab/paused: true", id="paused"),
        pytest.param({"hpa": hpa(1, 5, paused="1001")}, "paused until 1001", id="paused until"),
    ],
)  # fmt: skip
def test_what_must_be_left_alone_is_held_with_the_reason(fields, says):
    plan, _ = tick(**fields)
    assert (plan.hpa, hold(plan, "hpa").reason) == (None, says)


def test_adopting_writes_once_and_keeps_the_bounds():
    plan, _ = tick(hpa=hpa(3, 12, adopted=False))
    assert bounds(plan) == (3, 12)
    assert change(plan, "hpa manager").after == "trimtab"


@pytest.mark.parametrize(
    ("targets", "fields", "expected"),
    [
        pytest.param(TARGETS[::-1], {}, None, id="order is no change"),
        pytest.param((ResourceTarget("cpu", 80),), {}, TARGETS, id="set to the policy's"),
        pytest.param(
            (ResourceTarget("cpu", 50), TARGETS[1]), {"metrics_problem": "x"}, None, id="doubt: no higher target"
        ),
        pytest.param(
            (ResourceTarget("cpu", 90), TARGETS[1]), {"metrics_problem": "x"}, TARGETS, id="doubt: a lower one"
        ),
        pytest.param(
            (*TARGETS, ResourceTarget("gpu", 50)), {"metrics_problem": "x"}, None, id="doubt: none is removed"
        ),
    ],
)
def test_targets(targets, fields, expected):
    plan, _ = tick(hpa=hpa(targets=targets), **fields)
    assert (None if plan.hpa is None else plan.hpa.after.targets) == expected
    if fields and expected is None:
        assert any(h.field.endswith("target") for h in plan.holds)


def test_moves_are_timed_from_what_the_server_shows():
    _, memory = tick(SLOW, Memory(**PRESSED))
    assert memory.min_changed_at is None
    plan, memory = tick(SLOW, memory, at=1015.0)
    assert bounds(plan) == (4, 10), "the write did not happen: it is tried again"
    plan, memory = tick(SLOW, memory, at=1030.0, hpa=hpa(4, 10))
    assert memory.min_changed_at == 1015.0
    assert plan.hpa is None
    assert "next step may come in 15 s" in hold(plan, "minReplicas").reason
    assert bounds(tick(SLOW, memory, at=1045.0, hpa=hpa(4, 10))[0]) == (6, 10)


def test_what_the_rest_could_not_carry_is_not_lowered_and_says_so():
    plan, _ = tick(memory=Memory(**LONG), hpa=hpa(3, 10))
    assert hold(plan, "minReplicas").reason == "2 replicas would be 100% full; asked for 2: calm for 1000 s"


@pytest.mark.parametrize(
    ("instances", "fields", "expected", "says"),
    [
        pytest.param(FOUR, {}, (3, 10), "", id="known: as far as the rest can carry"),
        pytest.param(
            [*QUIET[:3], instance("d", cpu=None)], {}, (4, 12), "not known how full", id="one does not say: nothing"
        ),
        pytest.param(
            [*QUIET[:3], instance("d", cpu=Stale(0.3, 90.0))], {}, (4, 12), "not known how full", id="or late"
        ),
        pytest.param([*QUIET[:3], instance("d", cpu=None, rate=0.0)], {}, (2, 10), "", id="it serves nothing: no load"),
        pytest.param(
            [instance(n, cpu=0.95) for n in "abcd"],
            {"hpa": hpa(2, 5), "rules": {"max": {"floor": 3, "ceiling": 14}}},
            (2, 5),
            "4 replicas would be 95% full",
            id="max: what is left must carry the load too",
        ),
        pytest.param(
            FOUR,
            {"hpa": hpa(6, 12), "rules": {"demand": {"utilisation": 0.18}}},
            (6, 12),
            "10 replicas would be 20% full",
            id="the policy's",
        ),
    ],
)
def test_before_any_decrease_the_rest_must_be_able_to_carry_the_load(instances, fields, expected, says):
    plan, _ = tick(instances, Memory(**LONG), **{"hpa": hpa(4, 12), **fields})
    assert (bounds(plan) or expected) == expected
    held = [h.reason for h in plan.holds]
    assert any(says in reason for reason in held) if says else held == []


ALWAYS = {"name": "s", "from": "00:00", "to": "24:00", "timezone": "UTC", "min": 13}


@pytest.mark.parametrize(
    ("fields", "rules", "expected"),
    [
        pytest.param({"hpa": hpa(10, 10), "scale": scale(10)}, {}, (12, 12), id="up together"),
        pytest.param({"hpa": hpa(12, 12), "scale": scale(12)}, {}, (13, 13), id="no further than the floor"),
        pytest.param({"hpa": hpa(12, 12)}, {"max": {"floor": 10, "ceiling": 20}}, (12, 13), id="min waits for pods"),
        pytest.param({"hpa": hpa(13, 15), "scale": scale(4), "memory": Memory(**LONG)}, {}, (13, 13), id="down to the floor"),
        pytest.param({"hpa": hpa(10, 10, paused="out"), "scale": scale(10)}, {}, None, id="paused"),
    ],
)  # fmt: skip
def test_a_floor_above_max_lifts_max_too(fields, rules, expected):
    reach = {"min": {"floor": 2, "ceiling": 13}, "max": {"floor": 10, "ceiling": 20}, "schedules": [ALWAYS], **rules}
    plan, _ = tick([instance(f"i{n}") for n in range(10)], **{"memory": NOTHING, **fields}, rules=reach)
    assert bounds(plan) == expected


def test_a_raise_that_may_not_go_on_says_so():
    plan, _ = tick(SLOW, Memory(**PRESSED), hpa=hpa(6, 10))
    assert hold(plan, "minReplicas").reason.startswith("already at its ceiling 6: p95 0.9 s is over the SLO 0.5 s")
