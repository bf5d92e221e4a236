"""What an HPA must look like, and whether the live one may be made so. Pure: raw objects in, raw objects out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from controller.decide.pause import parse_pause
from controller.model import behavior
from controller.model.hpa import (
    INSTALLATION,
    LEARNED,
    MANAGED_BY,
    MANAGER,
    ORIGINAL,
    PAUSED,
    POLICY,
    Raw,
    adopted,
    annotations_of,
    behavior_owned,
    foreign_owner,
    metadata_of,
    original_of,
    resource_name,
    spec_of,
)
from controller.model.plan import HpaWrite
from controller.model.snapshot import HpaSpec

API = "autoscaling/v2"
PLURAL = "horizontalpodautoscalers"


def body(write: HpaWrite, policy: str, live: Raw | None, installation: str = "") -> dict[str, Any]:
    """The whole set of fields that Trimtab owns: leaving one out would reset it to the server's default."""
    after = write.after
    metadata: dict[str, Any] = {"name": write.name, "namespace": write.namespace, "annotations": {POLICY: policy}}
    if installation:
        metadata["annotations"][INSTALLATION] = installation
    if write.learned:
        metadata["annotations"][LEARNED] = write.learned
    if live is None:
        metadata["labels"] = {MANAGED_BY: MANAGER}
        reference: dict[str, Any] = {"apiVersion": "apps/v1", "kind": after.target_kind, "name": after.target_name}
    else:
        metadata["resourceVersion"] = metadata_of(live)["resourceVersion"]  # the server refuses if it changed since
        reference = dict(live["spec"]["scaleTargetRef"])
        if (metadata_of(live).get("labels") or {}).get(MANAGED_BY) == MANAGER:
            metadata["labels"] = {MANAGED_BY: MANAGER}
        else:
            metadata["annotations"][ORIGINAL] = _original(live, write)
    spec = {
        "scaleTargetRef": reference,
        "minReplicas": after.min_replicas,
        "maxReplicas": after.max_replicas,
        "metrics": _metrics(write, live),
    }
    if write.behavior is not None:
        spec["behavior"] = behavior.as_json(write.behavior)
    return {"apiVersion": API, "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}


def is_so(live: Raw, wanted: Raw) -> bool:
    """Whether the live HPA already is as wanted, and ours. What has been learned since is no reason for a write."""
    held, asked = annotations_of(live), dict(metadata_of(wanted)["annotations"])
    asked.pop(LEARNED, None)
    said = {name: value for name, value in wanted["spec"].items() if name != "behavior"}
    same = all(live["spec"].get(name) == value for name, value in said.items()) and _behaves(live, wanted)
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
    if metadata_of(live).get("deletionTimestamp"):
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


def release(live: Raw, *, handover: bool) -> list[dict[str, Any]]:
    """JSON Patch that lets go of the HPA as it is: no value changes, nobody is left to own what was ours.

    An apply that leaves fields out would reset them, so our entry is taken out of managedFields instead.
    """
    metadata = metadata_of(live)
    operations: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}
    ]
    ours = (POLICY,) if handover else (POLICY, ORIGINAL, INSTALLATION, LEARNED)
    operations += [
        {"op": "remove", "path": f"/metadata/annotations/{name.replace('/', '~1')}"}
        for name in ours
        if name in annotations_of(live)
    ]
    if handover:
        return operations
    if (metadata.get("labels") or {}).get(MANAGED_BY) == MANAGER:
        operations.append({"op": "remove", "path": f"/metadata/labels/{MANAGED_BY.replace('/', '~1')}"})
    kept = [entry for entry in metadata.get("managedFields") or () if entry.get("manager") != MANAGER]
    return [*operations, {"op": "replace", "path": "/metadata/managedFields", "value": kept or [{}]}]


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
        name = resource_name(metric)
        if name in wanted:
            metrics.append(_resource(name, wanted.pop(name)))
        elif name not in dropped:
            metrics.append(dict(metric))
    return metrics + [_resource(name, percent) for name, percent in wanted.items()]


def _resource(name: str, percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def _behaves(live: Raw, wanted: Raw) -> bool:
    """Whether `behavior` is as wanted, and ours in just these fields. What the server dropped is not asked for again."""
    asked, owned = behavior.parse(wanted["spec"].get("behavior")), behavior_owned(live)
    missing = behavior.missing(behavior.parse(live["spec"].get("behavior")), asked)
    return owned == asked.fields() and missing <= {field for field in owned if field.endswith(".tolerance")}


def _original(live: Raw, write: HpaWrite) -> str:
    """What to go back to: as first found, with the behaviour as found before Trimtab first set it."""
    kept = annotations_of(live).get(ORIGINAL)
    found = dict(original_of(annotations_of(live)))
    if not found:
        spec = spec_of(live)
        targets = {target.name: target.percent for target in spec.targets}
        found = {"minReplicas": spec.min_replicas, "maxReplicas": spec.max_replicas, **targets}
    elif write.behavior is None or "behavior" in found:
        return kept or ""
    if write.behavior is not None and not behavior_owned(live):
        found["behavior"] = live["spec"].get("behavior")
    return json.dumps(found, separators=(",", ":"))
