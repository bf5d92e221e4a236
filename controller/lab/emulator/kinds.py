"""The kinds that the emulator knows, their defaults and their rules: those that Trimtab or its tests meet, no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.lab.cluster.api import ApiError


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource. `group` is empty for the core API."""

    resource: str
    kind: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apps/v1`, `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`deployments.apps`, `pods`: as in error messages."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


_ALL = (
    Kind("namespaces", "Namespace", namespaced=False),
    Kind("nodes", "Node", namespaced=False),
    Kind("pods", "Pod"),
    Kind("services", "Service"),
    Kind("configmaps", "ConfigMap"),
    Kind("serviceaccounts", "ServiceAccount"),
    Kind("events", "Event"),
    Kind("events", "Event", "events.k8s.io"),
    Kind("leases", "Lease", "coordination.k8s.io"),
    Kind("deployments", "Deployment", "apps"),
    Kind("statefulsets", "StatefulSet", "apps"),
    Kind("replicasets", "ReplicaSet", "apps"),
    Kind("horizontalpodautoscalers", "HorizontalPodAutoscaler", "autoscaling", "v2"),
)
KINDS = {
    kind.resource: kind for kind in reversed(_ALL)
}  # by resource: the first above, events are kept as the core API's
SERVED = {(kind.group, kind.version, kind.resource): kind for kind in _ALL}
_EVENT_NAMES = (("note", "message"), ("regarding", "involvedObject"), ("reportingController", "reportingComponent"))
_EVENT_NEEDS = ("eventTime", "reportingController", "reportingInstance", "action", "reason", "type")
SCALABLE = ("deployments", "statefulsets", "replicasets")
_CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}


def default(resource: str, new: dict[str, Any]) -> None:
    """Fill in what a real server fills in."""
    if resource == "horizontalpodautoscalers":
        spec = new.setdefault("spec", {})
        spec.setdefault("minReplicas", 1)
        if not spec.get("metrics"):
            spec["metrics"] = [_CPU]
        new.setdefault("status", {"desiredReplicas": 0, "currentMetrics": None})
    elif resource in SCALABLE:
        new.setdefault("spec", {}).setdefault("replicas", 1)
        new.setdefault("status", {})
    elif resource == "pods":
        new.setdefault("status", {"phase": "Pending"})
    elif resource == "events":
        # One object with two faces: what events.k8s.io calls one way the core API calls another.
        for ours, core in _EVENT_NAMES:
            if ours in new and core not in new:
                new[core] = new[ours]
            elif core in new and ours not in new:
                new[ours] = new[core]


def validate(resource: str, new: dict[str, Any]) -> None:
    """ApiError 422 for what a real server refuses, with the field's name in the message."""
    meta, spec = new.get("metadata", {}), new.get("spec", {})
    faults = [] if meta.get("name") else ["metadata.name: Required value: name or generateName is required"]
    if resource == "horizontalpodautoscalers":
        faults += _hpa_faults(spec)
    elif resource in SCALABLE and (not isinstance(spec["replicas"], int) or spec["replicas"] < 0):
        faults.append(f"spec.replicas: Invalid value: {spec['replicas']}: must be greater than or equal to 0")
    if faults:
        text = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
        raise ApiError(
            422,
            "Invalid",
            f'{KINDS[resource].kind}.{KINDS[resource].group} "{meta.get("name", "")}" is invalid: {text}',
        )


def validate_new_event(event: dict[str, Any]) -> None:
    """ApiError 422 when an Event of events.k8s.io lacks what that API, unlike the core one, asks for."""
    missing = [key for key in _EVENT_NEEDS if not event.get(key)]
    if missing:
        name = event.get("metadata", {}).get("name", "")
        raise ApiError(422, "Invalid", f'Event.events.k8s.io "{name}" is invalid: {missing[0]}: Required value')


def _hpa_faults(spec: dict[str, Any]) -> list[str]:
    faults = []
    least, most = spec["minReplicas"], spec.get("maxReplicas", 0)
    target = spec.get("scaleTargetRef", {})
    faults += [f"spec.scaleTargetRef.{key}: Required value" for key in ("kind", "name") if not target.get(key)]
    if most < 1:
        faults.append(f"spec.maxReplicas: Invalid value: {most}: must be greater than 0")
    if least < 1 and all(metric.get("type") in ("Resource", "ContainerResource") for metric in spec["metrics"]):
        faults.append(f"spec.minReplicas: Invalid value: {least}: must be greater than or equal to 1")
    elif most < least:
        faults.append(f"spec.maxReplicas: Invalid value: {most}: must be greater than or equal to `minReplicas`")
    for index, metric in enumerate(spec["metrics"]):
        utilization = metric.get("resource", {}).get("target", {}).get("averageUtilization")
        if utilization is not None and utilization < 1:
            where = f"spec.metrics[{index}].resource.target.averageUtilization"
            faults.append(f"{where}: Invalid value: {utilization}: must be greater than 0")
    return faults
