"""What a policy leaves behind goes back in steps, never faster or lower than the HPA and what runs allow."""

import json

import pytest
from decide_world import hpa, scale
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.restore import Way, restore
from controller.model.behavior import parse
from controller.model.leftover import Leftover
from controller.model.snapshot import Condition, ResourceTarget, Unknown
from controller.policy.steps import Steps

FOUND = {"minReplicas": 2, "maxReplicas": 10, "cpu": 70, "memory": 80}
STEPS = Steps.model_validate({"replicas": 2, "every": "30s", "lowerEvery": "300s"})
NOW = 10_000.0


def leftover(minimum=2, maximum=10, *, found=FOUND, runs=4, annotations=None, **fields):
    marks = {} if found is None else {"trimtab/original": json.dumps(found)}
    names = ("policy", "bounds_owned", "created", "successor", "scale")
    own = {name: fields.pop(name) for name in names if name in fields}
    view = hpa(
        minimum, maximum, target="m", annotations={**marks, **(annotations or {})}, current_replicas=runs, **fields
    )
    return Leftover("models", "h", **{"policy": "models/m", "scale": scale(runs), **own}, view=view.value)


def planned(left, *, rested=True):
    bounds = (left.view.spec.min_replicas, left.view.spec.max_replicas)
    since = NOW - 1000.0 if rested else NOW
    return restore(left, STEPS, Way(since, bounds, since), NOW)[0]


@pytest.mark.parametrize(
    ("left", "after"),
    [
        pytest.param(leftover(6, 20), (4, 18), id="down, a step each"),
        pytest.param(leftover(6, 20, runs=19), (4, 19), id="max not below what runs"),
        pytest.param(leftover(6, 20, runs=25), (4, 20), id="max stands lower than what runs"),
        pytest.param(leftover(1, 5), (2, 7), id="up, a step each"),
        pytest.param(
            leftover(1, 5, found=FOUND | {"minReplicas": 9}, runs=1), (3, 7), id="no more than a step of pods"
        ),
        pytest.param(leftover(3, 11), (2, 10), id="the last step"),
        pytest.param(
            leftover(2, 5, found=FOUND | {"minReplicas": 9}, runs=0),
            (4, 7),
            id="switched off: bounds start nothing there",
        ),
        pytest.param(leftover(12, 14, found=FOUND, runs=12), (10, 12), id="both"),
    ],
)
def test_bounds_go_back_in_steps(left, after):
    plan = planned(left)
    assert (plan.hpa.after.min_replicas, plan.hpa.after.max_replicas) == after
    assert plan.release is None


@pytest.mark.parametrize(
    ("left", "why"),
    [
        pytest.param(leftover(), "as it was found", id="back"),
        pytest.param(leftover(6, 20, created=True), "made by Trimtab", id="made by us"),
        pytest.param(leftover(6, 20, found=None), "is not known", id="no word on how it was"),
        pytest.param(leftover(6, 20, found={"minReplicas": "2"}), "is not known", id="a word that says nothing"),
        pytest.param(leftover(6, 20, found=FOUND | {"minReplicas": 11}), "is not known", id="bounds that cannot be"),
        pytest.param(leftover(6, 20, bounds_owned=False), "taken the bounds back", id="its owner was faster"),
        pytest.param(leftover(6, 20, successor="models/new"), "models/new steers it now", id="renamed"),
    ],
)
def test_when_it_is_let_go(left, why):
    plan = planned(left)
    assert plan.hpa is None
    assert why in plan.release.reason
    assert plan.release.handover is (left.successor is not None)


@pytest.mark.parametrize(
    ("left", "why"),
    [
        pytest.param(leftover(6, 20, paused="true"), "paused", id="paused"),
        pytest.param(leftover(6, 20, paused="in"), "paused", id="paused in"),
        pytest.param(leftover(1, 5, paused="out"), "paused", id="paused out"),
        pytest.param(leftover(6, 20, foreign_owner="KEDA ScaledObject x"), "belongs to KEDA", id="foreign"),
        pytest.param(leftover(6, 20, scale=Unknown("down")), "what runs is not known", id="nobody knows what runs"),
        pytest.param(
            leftover(6, 20, conditions=(Condition("ScalingActive", False, "FailedGetResourceMetric"),)),
            "cannot read its metrics",
            id="an HPA that is blind is not left to itself",
        ),
        pytest.param(
            leftover(6, 20, conditions=(Condition("ScalingActive", False, "AmbiguousSelector"),)), "same pods", id="two"
        ),
        pytest.param(leftover(2, 20, runs=20), "20 replicas run", id="all of it is needed"),
        pytest.param(leftover(0, 20, runs=0), "from waking it; it goes back to 2 once it runs", id="asleep"),
    ],
)
def test_when_it_has_to_wait(left, why):
    plan = planned(left)
    assert (plan.hpa, plan.release) == (None, None)
    assert why in "; ".join(hold.reason for hold in plan.holds)


def test_a_lowering_waits_from_when_it_was_first_seen():
    plan = planned(leftover(6, 20), rested=False)
    assert plan.hpa is None
    assert "the next step may come in 300 s" in plan.holds[0].reason
    assert planned(leftover(1, 5), rested=False).hpa is not None


def test_targets_and_behavior_go_back_too():
    ours = parse({"scaleDown": {"selectPolicy": "Min", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 9}]}})
    theirs = {"scaleDown": {"policies": [{"type": "Pods", "value": 5, "periodSeconds": 60}]}}
    left = leftover(
        targets=(ResourceTarget("cpu", 55),),
        found=FOUND | {"behavior": theirs},
        behavior=ours,
        behavior_owned=ours.fields(),
    )
    write = planned(left).hpa
    assert write.after.targets == (ResourceTarget("cpu", 70), ResourceTarget("memory", 80))
    assert write.behavior == parse(theirs)
    back = leftover(found=FOUND | {"behavior": theirs}, behavior=parse(theirs), behavior_owned=ours.fields())
    assert planned(back).release is not None


def test_what_it_was_found_without_goes():
    ours = parse({"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 9}]}})
    left = leftover(found=FOUND | {"behavior": None}, behavior=ours, behavior_owned=ours.fields())
    assert planned(left).hpa.behavior is None


@given(
    st.tuples(st.integers(1, 40), st.integers(0, 40)),
    st.tuples(st.integers(1, 40), st.integers(0, 40)),
    st.integers(0, 60),
)
def test_the_way_back_ends_and_never_stops_or_floods(now, found, runs):
    low, high = now[0], now[0] + now[1]
    goal = {"minReplicas": found[0], "maxReplicas": found[0] + found[1], "cpu": 70, "memory": 80}
    way, at = None, NOW
    for _ in range(200):
        left = leftover(low, high, found=goal, runs=runs)
        plan, way = restore(left, STEPS, way, at)
        if plan.release is not None:
            assert (low, high) == (goal["minReplicas"], goal["maxReplicas"])
            return
        if plan.hpa is not None:
            after = plan.hpa.after
            assert after.min_replicas <= after.max_replicas
            assert abs(after.min_replicas - low) <= 2
            assert abs(after.max_replicas - high) <= 2
            assert after.max_replicas >= min(runs, high)
            if runs:  # what is switched off stays so, wherever min stands
                assert after.min_replicas <= max(low, runs + 2)
            low, high = after.min_replicas, after.max_replicas
            runs = min(max(runs, low), max(high, runs)) if runs else 0
        at += 300.0
    assert runs > goal["maxReplicas"], "only what runs may keep it from coming to an end"
