"""A crude Deployment controller and a crude HPA, for the demo on a machine without a control plane.

What it keeps of the real HPA: the ratio rule with tolerance on average CPU and memory, pods without numbers freeze it, up
at most to the greater of twice the pods and 4, down only after a quiet while, and, first of all, bounds: a count outside
[min, max] goes to the bound at once. Pods that start are counted like ready ones. Everything else it leaves out.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Iterable
from typing import Any

from controller.lab.cluster.api import ApiError
from controller.lab.cluster.numbers import PodNumbers
from controller.lab.emulator.selectors import matches_labels, written
from controller.lab.emulator.store import Object, Store, now

_TOLERANCE = 0.1
_UNITS = {"m": 1e-3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "k": 1e3, "M": 1e6, "G": 1e9}


class Controllers:
    """Runs in a thread from `start()` to `stop()`."""

    def __init__(self, store: Store, numbers: PodNumbers, *, hpa_sync_seconds: float, downscale_seconds: float) -> None:
        self._store = store
        self._numbers = numbers
        self._hpa_sync_seconds = hpa_sync_seconds
        self._downscale_seconds = downscale_seconds
        self._proposals: dict[str, list[tuple[float, int]]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="controllers", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        synced = 0.0
        while not self._stopped.wait(0.1):
            if time.monotonic() - synced >= self._hpa_sync_seconds:
                synced = time.monotonic()
                self._each("horizontalpodautoscalers", self._autoscale)
            self._each("deployments", self._reconcile)

    def _each(self, resource: str, act: Any) -> None:
        for thing in self._store.list(resource):
            try:
                act(thing)
            except ApiError:  # deleted or changed in between; the next round sees it anew
                continue

    def _pods(self, deployment: Object) -> list[Object]:
        selector = written(deployment["spec"].get("selector") or {})
        pods = self._store.list("pods", deployment["metadata"]["namespace"])
        mine = [pod for pod in pods if selector and matches_labels(selector, pod["metadata"].get("labels", {}))]
        return [pod for pod in mine if "deletionTimestamp" not in pod["metadata"]]

    def _reconcile(self, deployment: Object) -> None:
        meta, spec = deployment["metadata"], deployment["spec"]
        # Unready pods go first, then the youngest, as a ReplicaSet does it.
        pods = sorted(
            self._pods(deployment), key=lambda pod: (not _is_ready(pod), -int(pod["metadata"]["resourceVersion"]))
        )
        for pod in pods[: max(0, len(pods) - spec["replicas"])]:
            self._store.delete("pods", meta["namespace"], pod["metadata"]["name"])
        for _ in range(spec["replicas"] - len(pods)):
            self._store.create("pods", meta["namespace"], _new_pod(deployment), "deployment-controller")
        pods = self._pods(deployment)
        ready = sum(map(_is_ready, pods))
        status = {
            "replicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "updatedReplicas": len(pods),
            "unavailableReplicas": len(pods) - ready,
        }
        self._write_status("deployments", deployment, status)

    def _autoscale(self, hpa: Object) -> None:
        namespace, spec = hpa["metadata"]["namespace"], hpa["spec"]
        target = self._store.find("deployments", namespace, spec["scaleTargetRef"]["name"])
        if target is None:
            message = f'deployments.apps "{spec["scaleTargetRef"]["name"]}" not found'
            self._write_status(
                "horizontalpodautoscalers", hpa, {"conditions": [_condition("AbleToScale", "FailedGetScale", message)]}
            )
            return
        current = target["spec"]["replicas"]
        pods = self._pods(target)
        measured = [(metric, self._utilization(metric, pods)) for metric in spec["metrics"]]
        desired, limited = current, False
        if current > spec["maxReplicas"]:
            desired = spec["maxReplicas"]
        elif current < spec["minReplicas"]:
            desired = spec["minReplicas"]
        elif current > 0:
            proposals = [_proposal(metric, value, current) for metric, value in measured if value is not None]
            wanted = max(proposals, default=current)
            if len(proposals) < len(measured):
                wanted = max(wanted, current)  # some numbers are missing: up is allowed, down is not
            wanted = self._stabilized(hpa["metadata"]["uid"], wanted, current)
            wanted = min(wanted, max(2 * current, 4))
            desired = min(max(wanted, spec["minReplicas"]), spec["maxReplicas"])
            limited = desired != wanted
        if desired != current:
            self._store.merge(
                "deployments", namespace, target["metadata"]["name"], {"spec": {"replicas": desired}}, "hpa"
            )
        reason = "TooManyReplicas" if limited and desired == spec["maxReplicas"] else "TooFewReplicas"
        active = any(value is not None for _, value in measured)
        status: Object = {
            "currentReplicas": len(pods),
            "desiredReplicas": desired,
            "currentMetrics": [_current(metric, value) for metric, value in measured if value is not None] or None,
            "conditions": [
                _condition("AbleToScale", "ReadyForNewScale", is_true=True),
                _condition(
                    "ScalingActive", "ValidMetricFound" if active else "FailedGetResourceMetric", is_true=active
                ),
                _condition("ScalingLimited", reason if limited else "DesiredWithinRange", is_true=limited),
            ],
        }
        if desired != current:
            status["lastScaleTime"] = now()
        self._write_status("horizontalpodautoscalers", hpa, status)

    def _stabilized(self, uid: str, wanted: int, current: int) -> int:
        at = time.monotonic()
        recent = [(when, count) for when, count in self._proposals.get(uid, ()) if at - when < self._downscale_seconds]
        self._proposals[uid] = [*recent, (at, wanted)]
        return max(wanted, min(current, max((count for _, count in recent), default=current)))

    def _utilization(self, metric: Object, pods: Iterable[Object]) -> float | None:
        """Percent of the pods' requests (or of the target value); None when a pod has no numbers."""
        if metric.get("type") != "Resource":
            return None
        resource, used, asked, count = metric["resource"]["name"], 0.0, 0.0, 0
        for pod in pods:
            usage = self._numbers.usage(pod["metadata"]["namespace"], pod["metadata"]["name"])
            if usage is None:
                return None
            used += usage.cpu_cores if resource == "cpu" else usage.memory_bytes
            requests = [
                c.get("resources", {}).get("requests", {}).get(resource, "0") for c in pod["spec"]["containers"]
            ]
            asked += sum(map(quantity, requests))
            count += 1
        target = metric["resource"]["target"]
        whole = asked if target["type"] == "Utilization" else quantity(target.get("averageValue", "0")) * count
        return 100.0 * used / whole if whole else None

    def _write_status(self, resource: str, thing: Object, status: Object) -> None:
        # Conditions keep the time of their last change, so that a quiet object keeps its resourceVersion.
        before = {c["type"]: c for c in thing.get("status", {}).get("conditions") or ()}
        for condition in status.get("conditions", ()):
            old = before.get(condition["type"], {})
            same = old.get("status") == condition["status"]
            condition["lastTransitionTime"] = old.get("lastTransitionTime", now()) if same else now()
        if any(thing.get("status", {}).get(key) != value for key, value in status.items()):
            self._store.set_status(resource, thing["metadata"]["namespace"], thing["metadata"]["name"], status)


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number: `250m` is 0.25."""
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


def _proposal(metric: Object, utilization: float, current: int) -> int:
    target = metric["resource"]["target"]
    ratio = utilization / (target["averageUtilization"] if target["type"] == "Utilization" else 100.0)
    return current if abs(ratio - 1.0) <= _TOLERANCE else math.ceil(ratio * current)


def _current(metric: Object, utilization: float) -> Object:
    name, current = metric["resource"]["name"], {"averageUtilization": int(utilization)}
    return {"type": "Resource", "resource": {"name": name, "current": current}}


def _condition(kind: str, reason: str, message: str = "", *, is_true: bool = False) -> Object:
    return {"type": kind, "status": "True" if is_true else "False", "reason": reason, "message": message}


def _is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def _new_pod(deployment: Object) -> Object:
    meta, template = deployment["metadata"], deployment["spec"]["template"]
    owner = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }
    name = f"{meta['name']}-{uuid.uuid4().hex[:5]}"
    own = {"name": name, "labels": dict(template.get("metadata", {}).get("labels", {})), "ownerReferences": [owner]}
    return {"metadata": own, "spec": template["spec"]}
