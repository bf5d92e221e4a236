"""A HorizontalPodAutoscaler as the API server holds it -> HpaView. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controller.model.memory import frozen
from controller.model.snapshot import HpaSpec, HpaView, ResourceTarget
from controller.policy.schema import LoadPolicy

FIELD_MANAGER = "trimtab"
PAUSED = "trimtab/paused"
POLICY = "trimtab/policy"
_FOREIGN_KINDS = ("ScaledObject", "PodAutoscaler", "VariantAutoscaling")


def hpa_view(raw: Mapping[str, Any], policy: LoadPolicy, others: Iterable[Mapping[str, Any]] = ()) -> HpaView:
    """The view of one raw `autoscaling/v2` object.

    Args:
        raw: the object.
        policy: the policy that steers it.
        others: the other HPAs of its namespace; two HPAs on one target fight each other.
    """
    metadata, spec, status = raw["metadata"], raw["spec"], raw.get("status") or {}
    annotations = metadata.get("annotations") or {}
    target = spec["scaleTargetRef"]
    metrics = tuple(spec.get("metrics") or ())
    return HpaView(
        spec=HpaSpec(
            target_kind=target["kind"],
            target_name=target["name"],
            min_replicas=_default(spec.get("minReplicas"), 1),
            max_replicas=spec["maxReplicas"],
            targets=tuple(found for metric in metrics if (found := _resource_target(metric)) is not None),
        ),
        metrics=metrics,
        current_replicas=status.get("currentReplicas"),
        desired_replicas=status.get("desiredReplicas"),
        adopted=POLICY in annotations and any(_is_ours(entry) for entry in metadata.get("managedFields") or ()),
        foreign_owner=_foreign_owner(metadata, policy) or rival(policy, others),
        paused=annotations.get(PAUSED),
        annotations=frozen(annotations),
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        limited_by_max=any(
            condition.get("type") == "ScalingLimited"
            and condition.get("status") == "True"
            and condition.get("reason") == "TooManyReplicas"
            for condition in status.get("conditions") or ()
        ),
    )


def rival(policy: LoadPolicy, others: Iterable[Mapping[str, Any]]) -> str | None:
    """Another HPA on the policy's target, in words; None when there is none."""
    scaling = policy.spec.scaling
    if scaling is None:
        return None
    for other in others:
        target = other["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) == (scaling.target.kind, scaling.target.name):
            owner = _foreign_owner(other["metadata"], None)
            return f"HPA {other['metadata']['name']} on the same target{f' ({owner})' if owner else ''}"
    return None


def _foreign_owner(metadata: Mapping[str, Any], policy: LoadPolicy | None) -> str | None:
    labels = metadata.get("labels") or {}
    for owner in metadata.get("ownerReferences") or ():
        kind, name = owner.get("kind", "?"), owner.get("name", "?")
        if owner.get("controller") or kind in _FOREIGN_KINDS:
            return f"KEDA ScaledObject {name}" if kind == "ScaledObject" else f"{kind} {name}"
    if "scaledobject.keda.sh/name" in labels:
        return f"KEDA ScaledObject {labels['scaledobject.keda.sh/name']}"
    if labels.get("app.kubernetes.io/managed-by") == "keda-operator":
        return "KEDA"
    other = (metadata.get("annotations") or {}).get(POLICY)
    if policy is not None and other is not None and other != policy.key:
        return f"Trimtab policy {other}"
    return None


def _is_ours(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"


def _resource_target(metric: Mapping[str, Any]) -> ResourceTarget | None:
    resource = metric.get("resource") or {}
    target = resource.get("target") or {}
    percent = target.get("averageUtilization")
    if metric.get("type") != "Resource" or resource.get("name") not in ("cpu", "memory") or percent is None:
        return None
    return ResourceTarget(resource["name"], percent)


def _default(value: int | None, default: int) -> int:
    return default if value is None else value
