"""A `min.floor` of 0: only on an HPA that can wake its workload again.

At 0 replicas there is no CPU to measure; an Object or External metric is what brings the first one back, and the API
server refuses a minReplicas of 0 without one. While nothing runs, a minReplicas above 0 would switch the HPA off for good
(`ScalingDisabled` in Kubernetes' horizontal.go), so at 0 nothing is raised: the HPA wakes it.
"""

from __future__ import annotations

from controller.decide.scaling import MIN
from controller.model.plan import Hold
from controller.model.snapshot import HpaView
from controller.policy.schema import Scaling

_WAKING = {"Object", "External"}


def settle(rules: Scaling, view: HpaView | None) -> tuple[Scaling, Hold | None]:
    """The rules with a floor that this HPA can have, and why it is not the policy's."""
    if rules.min.floor > 0 or (view is not None and any(m.get("type") in _WAKING for m in view.metrics)):
        return rules, None
    lifted = rules.model_copy(update={"min": rules.min.model_copy(update={"floor": 1})})
    why = "min.floor 0 needs an Object or External metric on the HPA, to wake it again; 1 stands in for it"
    return lifted, Hold(MIN, why)
