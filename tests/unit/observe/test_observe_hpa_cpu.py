"""The HPA's own figure of the CPU in use, while it has one."""

import pytest

from controller.observe.hpa import hpa_view
from controller.policy.schema import LoadPolicy

ACTIVE = {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"}
CPU = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 63, "averageValue": "630m"}}}
MEMORY = {"type": "Resource", "resource": {"name": "memory", "current": {"averageUtilization": 41}}}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({"conditions": [ACTIVE], "currentMetrics": [MEMORY, CPU]}, 63, id="known"),
        pytest.param({"conditions": [ACTIVE], "currentMetrics": [MEMORY]}, None, id="no cpu metric"),
        pytest.param({"conditions": [ACTIVE], "currentMetrics": None}, None, id="nothing read yet"),
        pytest.param(
            {"conditions": [{**ACTIVE, "status": "False"}], "currentMetrics": [CPU]},
            None,
            id="what is left of a failed one",
        ),
        pytest.param({"currentMetrics": [CPU]}, None, id="no condition yet"),
        pytest.param(
            {"conditions": [ACTIVE], "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu"}}]},
            None,
            id="empty",
        ),
        pytest.param({}, None, id="new"),
    ],
)
def test_the_cpu_percent(status, expected):
    policy = LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": "m", "namespace": "models"},
            "spec": {
                "instances": {"selector": {"app": "m"}},
                "signals": {"preset": "fastapi"},
                "scaling": {"hpa": "h", "target": {"name": "m"}},
            },
        }
    )
    raw = {
        "metadata": {"name": "h", "namespace": "models"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "m"}, "maxReplicas": 10},
        "status": status,
    }
    assert hpa_view(raw, policy).cpu_percent == expected
