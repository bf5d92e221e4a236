"""What the HPA's conditions say of itself, in words: the answer to "why did it, or did it not, scale?".

An HPA that cannot read its metrics, or does not know which pods are its own, scales nothing whatever its bounds are. The
conditions are those of Kubernetes' `horizontal.go`.
"""

from __future__ import annotations

from controller.model.plan import Hold
from controller.model.snapshot import Condition, HpaView

AMBIGUOUS = "AmbiguousSelector"
_OFF = "ScalingDisabled"
"""`ScalingActive` is false for a workload at 0 replicas too; whose doing that is, the replicas say."""
_ROOM = 160


def obstacle(view: HpaView) -> str | None:
    """Why nothing should be written to an HPA that shares its pods with another one; None when it does not."""
    found = _find(view, "ScalingActive", AMBIGUOUS)
    return None if found is None else f"another HPA selects the same pods, so neither scales: {_words(found)}"


def doubt(view: HpaView | None) -> str | None:
    """Why the HPA would not bring replicas back if they were needed, so that nothing may be lowered; None when it would."""
    if view is None:
        return None
    for condition in view.conditions:
        if condition.true or condition.type not in {"ScalingActive", "AbleToScale"}:
            continue
        if condition.reason in {_OFF, AMBIGUOUS}:
            continue
        what = "cannot read its metrics" if condition.type == "ScalingActive" else "cannot scale"
        return f"the HPA itself {what}: {_words(condition)}"
    return None


def hold(view: HpaView | None) -> Hold | None:
    """What keeps the HPA from scaling, if anything does: its metrics, or its maxReplicas."""
    trouble = doubt(view)
    if trouble is not None:
        return Hold("hpa", trouble)
    if view is None or _find(view, "ScalingLimited", "TooManyReplicas", true=True) is None:
        return None
    most = view.spec.max_replicas
    return Hold("hpa", f"its own metrics ask for more than its maxReplicas {most} (TooManyReplicas)")


def _find(view: HpaView, kind: str, reason: str, *, true: bool = False) -> Condition | None:
    return next((c for c in view.conditions if (c.type, c.reason, c.true) == (kind, reason, true)), None)


def _words(condition: Condition) -> str:
    message = " ".join(condition.message.split())
    if len(message) > _ROOM:
        message = f"{message[:_ROOM]}..."
    return f"{condition.reason}{f' ({message})' if message else ''}"
