"""The HPA's own `behavior`, and what its conditions say: who moves what, and what is said of it."""

import json
from dataclasses import replace

import pytest
from decide_world import hpa, instance, scale, snapshot, whole_policy

from controller.decide.decide import decide
from controller.model.behavior import Direction, RatePolicy, Sides
from controller.model.memory import Memory
from controller.model.snapshot import Condition, Known

DOWN = {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}]}
SLOW = Sides(down=Direction((RatePolicy("Pods", 1, 30.0),), window_seconds=60.0))
TOLERANT = Sides(down=replace(SLOW.down, tolerance=0.05))
THEIRS = Sides(down=Direction((RatePolicy("Percent", 100, 15.0),), window_seconds=7.0))
OWNED = SLOW.fields()


def rules(behavior=None):
    section = {
        "hpa": "h",
        "target": {"name": "m"},
        "min": {"floor": 2, "ceiling": 6},
        "max": {"floor": 10, "ceiling": 20},
    }
    return whole_policy(scaling=section if behavior is None else {**section, "behavior": behavior})


def service(*instances, **fields):
    return snapshot(instances, **{"scale": scale(4), **fields})


def planned(policy, **view):
    plan, _ = decide(policy, service(instance("a"), instance("b"), hpa=hpa(**view)), Memory())
    return plan


@pytest.mark.parametrize(
    ("behavior", "view", "sent", "changes"),
    [
        pytest.param(None, {"behavior": THEIRS}, None, [], id="nothing said: left alone"),
        pytest.param({"scaleDown": DOWN}, {"behavior": THEIRS}, SLOW, ["the policy's behavior"], id="said"),
        pytest.param({"scaleDown": DOWN}, {"behavior": SLOW, "behavior_owned": OWNED}, None, [], id="as said"),
        pytest.param(
            {"scaleDown": DOWN}, {"behavior": SLOW}, SLOW, ["the policy says the same"], id="as said by others"
        ),
        pytest.param(
            {"scaleDown": DOWN},
            {"behavior": TOLERANT, "behavior_owned": TOLERANT.fields()},
            SLOW,
            ["the policy's behavior"],
            id="a tolerance that is said no more goes",
        ),
        pytest.param(
            None,
            {"behavior": SLOW, "behavior_owned": OWNED},
            None,
            ["the policy has none; as it was found"],
            id="said no more, found with none",
        ),
        pytest.param(
            None,
            {
                "behavior": SLOW,
                "behavior_owned": OWNED,
                "annotations": {
                    "trimtab/original": json.dumps(
                        {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 7, "policies": DOWN["policies"]}}}
                    )
                },
            },
            Sides(down=replace(SLOW.down, window_seconds=7.0)),
            ["the policy has none; as it was found"],
            id="said no more, found with its owner's",
        ),
        pytest.param(
            {"scaleDown": DOWN}, {"behavior": THEIRS, "paused": "in"}, None, [], id="not while a person has paused it"
        ),
    ],
)
def test_behavior_is_the_policys_or_left_alone(behavior, view, sent, changes):
    plan = planned(rules(behavior), **view)
    assert [c.reason for c in plan.changes if c.field == "hpa behavior"] == changes
    assert (plan.hpa.behavior if plan.hpa else None) == sent


def test_every_write_carries_what_is_ours():
    behavior = {"scaleDown": DOWN}
    plan = planned(rules(behavior), minimum=1, behavior=SLOW, behavior_owned=OWNED)
    assert [c.field for c in plan.changes if c.field in {"minReplicas", "hpa behavior"}] == ["minReplicas"]
    assert plan.hpa.behavior == SLOW


def test_a_created_hpa_has_the_policys():
    plan, _ = decide(rules({"scaleDown": DOWN}), service(instance("a"), hpa=Known(None)), Memory())
    assert (plan.hpa.before, plan.hpa.behavior) == (None, SLOW)


def test_a_tolerance_that_the_server_drops_is_said_and_not_written_again():
    plan = planned(rules({"scaleDown": {**DOWN, "tolerance": 0.05}}), behavior=SLOW, behavior_owned=TOLERANT.fields())
    assert plan.hpa is None
    assert [
        "this API server drops scaleDown.tolerance" in h.reason for h in plan.holds if h.field == "hpa behavior"
    ] == [True]


def condition(kind, reason, *, true=False):
    return Condition(kind, true, reason, "no metrics returned from resource metrics API")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param(
            condition("ScalingActive", "FailedGetResourceMetric"), "cannot read its metrics: FailedGet", id="metrics"
        ),
        pytest.param(condition("AbleToScale", "FailedUpdateScale"), "cannot scale: FailedUpdateScale", id="scale"),
        pytest.param(
            condition("ScalingActive", "AmbiguousSelector"), "another HPA selects the same pods", id="shared pods"
        ),
        pytest.param(
            condition("ScalingLimited", "TooManyReplicas", true=True), "ask for more than its maxReplicas 10", id="max"
        ),
    ],
)
def test_what_keeps_the_hpa_from_scaling_is_said(found, said):
    (hold,) = [h.reason for h in planned(rules(), conditions=(found,)).holds if h.field == "hpa"]
    assert said in hold


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(condition("ScalingActive", "ValidMetricFound", true=True), id="well"),
        pytest.param(condition("ScalingActive", "ScalingDisabled"), id="switched off: its replicas say so"),
        pytest.param(condition("ScalingLimited", "TooFewReplicas", true=True), id="at its minimum: that is calm"),
    ],
)
def test_what_is_in_order_is_not_talked_about(found):
    assert [h for h in planned(rules(), conditions=(found,)).holds if h.field == "hpa"] == []


def test_an_hpa_that_cannot_read_its_metrics_is_not_lowered():
    memory = Memory(calm_since=-1e6, hpa_seen_at=-1e6, hpa_min=4, hpa_max=10, at=0.0)
    for conditions, lowered in (((), True), ((condition("ScalingActive", "FailedGetResourceMetric"),), False)):
        world = service(instance("a"), instance("b"), hpa=hpa(4, conditions=conditions))
        plan, _ = decide(rules(), world, memory)
        assert any(c.field == "minReplicas" for c in plan.changes) is lowered, plan.sentence()


def test_an_hpa_that_shares_its_pods_is_left_alone():
    plan = planned(rules(), minimum=1, conditions=(condition("ScalingActive", "AmbiguousSelector"),))
    assert plan.hpa is None
