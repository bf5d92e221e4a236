"""Faults of `scaling.behavior`: what the API server would refuse is found before it is asked."""

import pytest
from test_policy_schedules import faults

RATE = {"type": "Pods", "value": 2, "periodSeconds": 60}


@pytest.mark.parametrize(
    "behavior",
    [
        pytest.param({"scaleUp": {}}, id="Kubernetes' defaults, whole"),
        pytest.param({"scaleDown": {"stabilizationWindowSeconds": 3600, "policies": [RATE]}}, id="the longest window"),
        pytest.param({"scaleUp": {"policies": [{**RATE, "periodSeconds": 1800}]}}, id="the longest period"),
        pytest.param({"scaleDown": {"selectPolicy": "Disabled"}, "scaleUp": {"tolerance": 0.05}}, id="both sides"),
        pytest.param({"scaleDown": {"policies": [{**RATE, "type": "Percent", "value": 150}]}}, id="over 100 %"),
    ],
)
def test_what_loads(behavior):
    assert faults(behavior=behavior) == []


@pytest.mark.parametrize(
    ("behavior", "field", "says"),
    [
        pytest.param({}, ".behavior", "give scaleUp, scaleDown or both", id="nothing"),
        pytest.param(
            {"scaleUp": {"stabilizationWindowSeconds": 3601}}, ".behavior.scaleUp.stabilizationWindowSeconds", "at most 3600",
            id="window",
        ),
        pytest.param({"scaleUp": {"policies": []}}, ".behavior.scaleUp.policies", "at least 1", id="no rate"),
        pytest.param(
            {"scaleDown": {"policies": [{**RATE, "periodSeconds": 1801}]}}, ".behavior.scaleDown.policies[0].periodSeconds",
            "at most 1800", id="period",
        ),
        pytest.param(
            {"scaleDown": {"policies": [{**RATE, "periodSeconds": 0}]}}, ".behavior.scaleDown.policies[0].periodSeconds",
            "at least 1", id="no period",
        ),
        pytest.param(
            {"scaleDown": {"policies": [{**RATE, "value": 0}]}}, ".behavior.scaleDown.policies[0].value", "at least 1",
            id="nothing at a time",
        ),
        pytest.param(
            {"scaleUp": {"selectPolicy": "Most"}}, ".behavior.scaleUp.selectPolicy", "must be Max, Min or Disabled",
            id="choice",
        ),
        pytest.param({"scaleUp": {"tolerance": -0.1}}, ".behavior.scaleUp.tolerance", "between 0 and 1", id="tolerance"),
    ],
)  # fmt: skip
def test_what_does_not_load(behavior, field, says):
    found = faults(behavior=behavior)
    assert [(at, says in message) for at, message in found] == [(field, True)], found
