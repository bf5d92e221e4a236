"""What an HPA must look like, and whether the live one may be made so. Pure: raw objects in, raw objects out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.decide.pause import parse_pause
from controller.model.plan import HpaWrite
from controller.model.snapshot import HpaSpec, ResourceTarget

API = "autoscaling/v2"
PLURAL = "horizontalpodautoscalers"
MANAGER = "trimtab"
POLICY = "trimtab/policy"
ORIGINAL = "trimtab/original"
PAUSED = "trimtab/paused"
MANAGED_BY = "app.kubernetes.io/managed-by"
_NAMES = ("cpu", "memory")

Raw = Mapping[str, Any]


def adopted(live: Raw) -> bool:
    """Whether Trimtab has applied this HPA and still may: who takes `trimtab/policy` away hands it over anew."""
    return bool(_ours(live)) and POLICY in annotations_of(live)


def owns(live: Raw, field: str) -> bool:
    """Whether our last apply still owns a field, by its path in the server's words: `.spec.minReplicas`."""
    return any(_has(entry.get("fieldsV1") or {}, field.removeprefix(".").split(".")) for entry in _ours(live))


def annotations_of(live: Raw) -> Mapping[str, str]:
    """Its annotations."""
    return _metadata(live).get("annotations") or {}


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


def body(write: HpaWrite, policy: str, live: Raw | None) -> dict[str, Any]:
    """The whole set of fields that Trimtab owns: leaving one out would reset it to the server's default."""
    after = write.after
    metadata: dict[str, Any] = {"name": write.name, "namespace": write.namespace, "annotations": {POLICY: policy}}
    if live is None:
        metadata["labels"] = {MANAGED_BY: MANAGER}
        reference: dict[str, Any] = {"apiVersion": "apps/v1", "kind": after.target_kind, "name": after.target_name}
    else:
        metadata["resourceVersion"] = _metadata(live)["resourceVersion"]  # the server refuses if it changed since
        reference = dict(live["spec"]["scaleTargetRef"])
        if (_metadata(live).get("labels") or {}).get(MANAGED_BY) == MANAGER:
            metadata["labels"] = {MANAGED_BY: MANAGER}
        else:
            metadata["annotations"][ORIGINAL] = annotations_of(live).get(ORIGINAL) or _original(live)
    spec = {
        "scaleTargetRef": reference,
        "minReplicas": after.min_replicas,
        "maxReplicas": after.max_replicas,
        "metrics": _metrics(write, live),
    }
    return {"apiVersion": API, "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}


def is_so(live: Raw, wanted: Raw) -> bool:
    """Whether the live HPA already is as wanted, and ours."""
    held, asked = annotations_of(live), _metadata(wanted)["annotations"]
    same = all(live["spec"].get(name) == value for name, value in wanted["spec"].items())
    return same and adopted(live) and all(held.get(name) == value for name, value in asked.items())


def objection(live: Raw | None, write: HpaWrite, policy: str, at: float) -> str | None:
    """Why the plan, made `at` (seconds since the epoch), must not be carried out on what is there now; None when it may."""
    if live is None:
        return None if write.before is None else "it is gone since it was read"
    if write.before is None:
        return "it exists by now; the next tick decides about it"
    return next(_objections(live, write, write.before, policy, at), None)


def _objections(live: Raw, write: HpaWrite, before: HpaSpec, policy: str, at: float) -> Iterator[str]:
    now, after = spec_of(live), write.after
    if _metadata(live).get("deletionTimestamp"):
        yield "it is being deleted"
    owner = foreign_owner(live, policy)
    if owner:
        yield f"it belongs to {owner} and is left alone"
    if (now.target_kind, now.target_name) != (after.target_kind, after.target_name):
        yield f"it scales {now.target_kind} {now.target_name}, not {after.target_kind} {after.target_name}"
    if (now.min_replicas, now.max_replicas, set(now.targets)) != (
        before.min_replicas,
        before.max_replicas,
        set(before.targets),
    ):
        yield f"it changed since it was read: {show(before)} -> {show(now)}"
    yield from _pause(live, now, after, at)
    status = live.get("status") or {}
    if after.max_replicas < now.max_replicas:
        counts = [status.get("currentReplicas"), status.get("desiredReplicas")]
        known = [count for count in counts if count is not None]
        if not known:
            yield "how many replicas run is not known, so maxReplicas is not lowered"
        elif max(known) > after.max_replicas:
            yield f"{max(known)} replicas run, maxReplicas {after.max_replicas} would stop some at once"


def foreign_owner(live: Raw, policy: str) -> str | None:
    """Who steers this HPA instead of us, in words."""
    metadata = _metadata(live)
    labels = metadata.get("labels") or {}
    for owner in metadata.get("ownerReferences") or ():
        kind, name = owner.get("kind", "?"), owner.get("name", "?")
        if kind == "ScaledObject":
            return f"KEDA ScaledObject {name}"
        if owner.get("controller"):
            return f"{kind} {name}"
    if "scaledobject.keda.sh/name" in labels:
        return f"KEDA ScaledObject {labels['scaledobject.keda.sh/name']}"
    if labels.get(MANAGED_BY) == "keda-operator":
        return "KEDA"
    other = annotations_of(live).get(POLICY)
    return f"Trimtab policy {other}" if other is not None and other != policy else None


def show(spec: HpaSpec) -> str:
    """`min 2, max 10, cpu 70 %, memory 80 %`."""
    targets = "".join(f", {target.name} {target.percent} %" for target in spec.targets)
    return f"min {spec.min_replicas}, max {spec.max_replicas}{targets}"


def _pause(live: Raw, now: HpaSpec, after: HpaSpec, at: float) -> Iterator[str]:
    pause = parse_pause(annotations_of(live).get(PAUSED), at)
    lowers = after.min_replicas < now.min_replicas or after.max_replicas < now.max_replicas
    raises = after.min_replicas > now.min_replicas or after.max_replicas > now.max_replicas
    if (pause.lowering and pause.raising) or (pause.lowering and lowers) or (pause.raising and raises):
        yield pause.why


def _metrics(write: HpaWrite, live: Raw | None) -> list[dict[str, Any]]:
    """The live metrics with our targets put in; the list is atomic, so metrics of others must go back as they are."""
    wanted = {target.name: target.percent for target in write.after.targets}
    dropped = {target.name for target in write.before.targets if target.name not in wanted} if write.before else set()
    metrics: list[dict[str, Any]] = []
    for metric in (live or {"spec": {}})["spec"].get("metrics") or ():
        name = _resource_name(metric)
        if name in wanted:
            metrics.append(_resource(name, wanted.pop(name)))
        elif name not in dropped:
            metrics.append(dict(metric))
    return metrics + [_resource(name, percent) for name, percent in wanted.items()]


def _resource(name: str, percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def _resource_name(metric: Raw) -> str:
    """`cpu` or `memory` for the metrics that are ours to set, else an empty text."""
    name = str((metric.get("resource") or {}).get("name", ""))
    return name if metric.get("type") == "Resource" and name in _NAMES else ""


def _target(metric: Raw) -> ResourceTarget | None:
    name = _resource_name(metric)
    percent = ((metric.get("resource") or {}).get("target") or {}).get("averageUtilization")
    return ResourceTarget(name, percent) if name and percent is not None else None


def _original(live: Raw) -> str:
    spec = spec_of(live)
    targets = {target.name: target.percent for target in spec.targets}
    found = {"minReplicas": spec.min_replicas, "maxReplicas": spec.max_replicas, **targets}
    return json.dumps(found, separators=(",", ":"))


def _ours(live: Raw) -> list[Raw]:
    entries = _metadata(live).get("managedFields") or ()
    return [entry for entry in entries if entry.get("manager") == MANAGER and entry.get("operation") == "Apply"]


def _has(fields: Raw, path: Sequence[str]) -> bool:
    return not path or (f"f:{path[0]}" in fields and _has(fields[f"f:{path[0]}"], path[1:]))


def _metadata(live: Raw) -> Raw:
    metadata: Raw = live["metadata"]
    return metadata
