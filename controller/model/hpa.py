"""What a raw `autoscaling/v2` HPA says: whose it is, and the part of it that Trimtab moves.

Observing and acting both ask; one answer for both, so that they cannot disagree about who may write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from controller.model.snapshot import HpaSpec, ResourceTarget

MANAGER = "trimtab"
POLICY = "trimtab/policy"
ORIGINAL = "trimtab/original"
INSTALLATION = "trimtab/installation"
"""Which installation steers it: two of them may have policies of the same name, and neither knows the other's."""
LEARNED = "trimtab/learned"
"""What a restart must not forget (`controller/decide/learned.py`)."""
PAUSED = "trimtab/paused"
MANAGED_BY = "app.kubernetes.io/managed-by"
_NAMES = ("cpu", "memory")
_FOREIGN_KINDS = ("ScaledObject", "PodAutoscaler", "VariantAutoscaling")
"""Kinds whose controllers write the HPAs that they own, whatever their owner reference says of `controller`."""

Raw = Mapping[str, Any]


def adopted(live: Raw) -> bool:
    """Whether Trimtab has applied this HPA and still may: who takes `trimtab/policy` away hands it over anew."""
    return bool(_ours(live)) and POLICY in annotations_of(live)


def owns(live: Raw, field: str) -> bool:
    """Whether our last apply still owns a field, by its path in the server's words: `.spec.minReplicas`."""
    return any(_has(entry.get("fieldsV1") or {}, field.removeprefix(".").split(".")) for entry in _ours(live))


def holders(live: Raw, field: str) -> tuple[str, ...]:
    """The managers that own a field, by its path in the server's words."""
    entries = metadata_of(live).get("managedFields") or ()
    path = field.removeprefix(".").split(".")
    return tuple(dict.fromkeys(e.get("manager", "?") for e in entries if _has(e.get("fieldsV1") or {}, path)))


def behavior_owned(live: Raw) -> frozenset[str]:
    """The fields of `spec.behavior` that our last apply owns, such as `scaleUp.policies`."""
    owned: list[Raw] = [(entry.get("fieldsV1") or {}).get("f:spec", {}).get("f:behavior", {}) for entry in _ours(live)]
    return frozenset(
        f"{side.removeprefix('f:')}.{field.removeprefix('f:')}"
        for fields in owned
        for side, inner in fields.items()
        if side != "."
        for field in inner
        if field != "."
    )


def original_of(annotations: Mapping[str, str]) -> Mapping[str, Any]:
    """What an adopted HPA was found with; empty when it is not known, or cannot be read."""
    try:
        found = json.loads(annotations.get(ORIGINAL) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def annotations_of(live: Raw) -> Mapping[str, str]:
    """Its annotations."""
    return metadata_of(live).get("annotations") or {}


def spec_of(live: Raw) -> HpaSpec:
    """The part of a live HPA that Trimtab moves."""
    spec = live["spec"]
    targets = (_target(metric) for metric in spec.get("metrics") or ())
    return HpaSpec(
        target_kind=spec["scaleTargetRef"]["kind"],
        target_name=spec["scaleTargetRef"]["name"],
        min_replicas=1 if spec.get("minReplicas") is None else spec["minReplicas"],
        max_replicas=spec["maxReplicas"],
        targets=tuple(target for target in targets if target is not None),
    )


def foreign_owner(live: Raw, policy: str | None) -> str | None:
    """Who steers this HPA instead of `policy`, in words; with None, another policy of ours is no stranger."""
    metadata = metadata_of(live)
    labels = metadata.get("labels") or {}
    for owner in metadata.get("ownerReferences") or ():
        kind, name = owner.get("kind", "?"), owner.get("name", "?")
        if owner.get("controller") or kind in _FOREIGN_KINDS:
            return f"KEDA ScaledObject {name}" if kind == "ScaledObject" else f"{kind} {name}"
    if "scaledobject.keda.sh/name" in labels:
        return f"KEDA ScaledObject {labels['scaledobject.keda.sh/name']}"
    if labels.get(MANAGED_BY) == "keda-operator":
        return "KEDA"
    other = annotations_of(live).get(POLICY)
    return f"Trimtab policy {other}" if None not in (policy, other) and other != policy else None


def resource_name(metric: Raw) -> str:
    """`cpu` or `memory` for the metrics that are ours to set, else an empty text."""
    name = str((metric.get("resource") or {}).get("name", ""))
    return name if metric.get("type") == "Resource" and name in _NAMES else ""


def _target(metric: Raw) -> ResourceTarget | None:
    name = resource_name(metric)
    percent = ((metric.get("resource") or {}).get("target") or {}).get("averageUtilization")
    return ResourceTarget(name, percent) if name and percent is not None else None


def _ours(live: Raw) -> list[Raw]:
    entries = metadata_of(live).get("managedFields") or ()
    return [entry for entry in entries if entry.get("manager") == MANAGER and entry.get("operation") == "Apply"]


def _has(fields: Raw, path: Sequence[str]) -> bool:
    return not path or (f"f:{path[0]}" in fields and _has(fields[f"f:{path[0]}"], path[1:]))


def metadata_of(live: Raw) -> Raw:
    """Its metadata."""
    metadata: Raw = live["metadata"]
    return metadata
