"""A HorizontalPodAutoscaler as the API server holds it -> HpaView. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controller.model import behavior
from controller.model.hpa import PAUSED, adopted, annotations_of, behavior_owned, foreign_owner, resource_name, spec_of
from controller.model.memory import frozen
from controller.model.snapshot import Condition, HpaView
from controller.policy.schema import LoadPolicy


def hpa_view(raw: Mapping[str, Any], policy: LoadPolicy, others: Iterable[Mapping[str, Any]] = ()) -> HpaView:
    """The view of one raw `autoscaling/v2` object.

    Args:
        raw: the object.
        policy: the policy that steers it.
        others: the other HPAs of its namespace; two HPAs on one target fight each other.
    """
    return view_of(raw, policy.key, rival(policy, others))


def view_of(raw: Mapping[str, Any], policy: str, other: str | None = None) -> HpaView:
    """The view of one raw object that the policy of this key steers; `other` is who else scales its target, in words."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    annotations = annotations_of(raw)
    conditions = tuple(_condition(condition) for condition in status.get("conditions") or ())
    return HpaView(
        spec=spec_of(raw),
        metrics=tuple(raw["spec"].get("metrics") or ()),
        current_replicas=status.get("currentReplicas"),
        desired_replicas=status.get("desiredReplicas"),
        adopted=adopted(raw),
        foreign_owner=foreign_owner(raw, policy) or other,
        paused=annotations.get(PAUSED),
        annotations=frozen(annotations),
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        limited_by_max=any(
            (c.type, c.true, c.reason) == ("ScalingLimited", True, "TooManyReplicas") for c in conditions
        ),
        behavior=behavior.parse(raw["spec"].get("behavior")),
        behavior_owned=behavior_owned(raw),
        conditions=conditions,
        cpu_percent=_cpu_percent(status),
    )


def _cpu_percent(status: Mapping[str, Any]) -> int | None:
    """The HPA's own figure; what it keeps showing after its metrics have failed is none."""
    if not any(c.get("type") == "ScalingActive" and c.get("status") == "True" for c in status.get("conditions") or ()):
        return None
    found = (metric for metric in status.get("currentMetrics") or () if resource_name(metric) == "cpu")
    current = next((metric["resource"].get("current") or {} for metric in found), {})
    percent = current.get("averageUtilization")
    return percent if isinstance(percent, int) else None


def rival(policy: LoadPolicy, others: Iterable[Mapping[str, Any]]) -> str | None:
    """Another HPA on the policy's target, in words; None when there is none."""
    scaling = policy.spec.scaling
    if scaling is None:
        return None
    for other in others:
        target = other["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) == (scaling.target.kind, scaling.target.name):
            owner = foreign_owner(other, None)
            return f"HPA {other['metadata']['name']} on the same target{f' ({owner})' if owner else ''}"
    return None


def _condition(raw: Mapping[str, Any]) -> Condition:
    """A status that is neither True nor False is unknown, and nothing is concluded from it."""
    status = raw.get("status")
    known = status in {"True", "False"}
    return Condition(
        raw.get("type", "") if known else "", status == "True", raw.get("reason", ""), raw.get("message", "")
    )
