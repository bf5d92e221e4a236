"""A stand-in for kubelet and scheduler: one Node that takes every pod and runs it through the hooks it is given.

No container is started. Each pod gets an address of its own in 127.1.0.0/16, so that a hook can start a real process
there; without a hook nothing listens on it. It works against the real API server and against the emulator alike.
"""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from controller.lab.cluster.api import ApiError, KubeApi

Pod = dict[str, Any]
NODE = "loopback"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_HEARTBEAT_SECONDS = 8.0
_log = logging.getLogger(__name__)


@dataclass
class Hooks:
    """What happens when pods come and go. All run in the kubelet's thread, so they should return at once.

    `on_start` returns the pod's address; when it raises, the pod stays Pending and it is called again. `on_stop` is
    called once for each pod that was started. `is_ready` is asked on each round, once `ready_after_seconds` have passed.
    """

    on_start: Callable[[Pod], str] | None = None
    on_stop: Callable[[Pod], None] | None = None
    is_ready: Callable[[Pod], bool] | None = None
    ready_after_seconds: float | Callable[[Pod], float] = 0.0


@dataclass
class _Running:
    pod: Pod
    address: str
    started_at: str
    started: float = field(default_factory=time.monotonic)
    ready: bool = False
    ready_since: str = ""


class Kubelet:
    """Runs in a thread from `start()` to `stop()`. Owns `api`; closes it at the end."""

    def __init__(self, api: KubeApi, hooks: Hooks | None = None, period_seconds: float = 0.2) -> None:
        self.hooks = hooks or Hooks()
        self._api = api
        self._period_seconds = period_seconds
        self._pods: dict[str, _Running] = {}
        self._forced: dict[tuple[str, str], bool] = {}
        self._addresses = itertools.count(1)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._beat_at = 0.0
        self._registered = False

    def start(self) -> None:
        """Begin; the Node appears with the first round that reaches the server."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, then call `on_stop` for every pod that still runs."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        for uid in list(self._pods):
            self._end(uid)
        self._api.close()

    def next_address(self) -> str:
        """The next free address of 127.1.0.0/16, for `on_start` hooks that want one."""
        number = next(self._addresses)
        return f"127.1.{number // 250 % 256}.{number % 250 + 1}"

    def set_ready(self, namespace: str, pod: str, ready: bool | None) -> None:
        """Hold a pod ready or unready whatever the hooks say; None gives it back to them."""
        if ready is None:
            self._forced.pop((namespace, pod), None)
        else:
            self._forced[namespace, pod] = ready

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._round()
            except (ApiError, requests.RequestException) as error:
                _log.debug("kubelet: %s", error)  # the server is starting, stopping or broken on purpose
            self._stopped.wait(self._period_seconds)

    def _round(self) -> None:
        if time.monotonic() >= self._beat_at:
            self._heartbeat()
            self._beat_at = time.monotonic() + _HEARTBEAT_SECONDS
        pods = self._api.get("/api/v1/pods", resourceVersion="0")["items"]
        for pod in pods:
            try:
                self._look_after(pod)
            except ApiError as error:  # deleted or changed in between: the next round sees it anew
                _log.debug("kubelet: %s", error)
        for uid in self._pods.keys() - {pod["metadata"]["uid"] for pod in pods}:
            self._end(uid)

    def _look_after(self, pod: Pod) -> None:
        meta, uid = pod["metadata"], pod["metadata"]["uid"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if meta.get("deletionTimestamp"):
            self._end(uid)
            self._api.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})
            return
        if not pod["spec"].get("nodeName"):
            binding = {"metadata": {"name": meta["name"]}, "target": {"kind": "Node", "name": NODE}}
            self._api.post(f"{path}/binding", binding)
        elif pod["spec"]["nodeName"] != NODE:
            return
        running = self._pods.get(uid)
        if running is None:
            try:
                address = self.hooks.on_start(pod) if self.hooks.on_start else self.next_address()
            except Exception:  # noqa: BLE001 - a hook's fault must not end the kubelet
                _log.exception("kubelet: on_start failed for %s/%s", meta["namespace"], meta["name"])
                return
            running = self._pods[uid] = _Running(pod, address, _now())
        ready = self._is_ready(running)
        reported = pod.get("status", {})
        is_told = any(c["type"] == "Ready" and (c["status"] == "True") == ready for c in reported.get("conditions", ()))
        if reported.get("phase") != "Running" or not is_told:
            if ready != running.ready or not running.ready_since:
                running.ready, running.ready_since = ready, _now()
            self._api.merge(f"{path}/status", {"status": _pod_status(running)})

    def _is_ready(self, running: _Running) -> bool:
        meta = running.pod["metadata"]
        forced = self._forced.get((meta["namespace"], meta["name"]))
        if forced is not None:
            return forced
        delay = self.hooks.ready_after_seconds
        if time.monotonic() - running.started < (delay(running.pod) if callable(delay) else delay):
            return False
        return self.hooks.is_ready is None or self.hooks.is_ready(running.pod)

    def _end(self, uid: str) -> None:
        running = self._pods.pop(uid, None)
        if running is None or self.hooks.on_stop is None:
            return
        try:
            self.hooks.on_stop(running.pod)
        except Exception:  # noqa: BLE001 - a hook's fault must not end the kubelet
            _log.exception("kubelet: on_stop failed for %s", running.pod["metadata"]["name"])

    def _heartbeat(self) -> None:
        if not self._registered:
            _create(
                self._api, "/api/v1/nodes", {"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}}
            )
            spec = {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": _now(micro=True)}
            _create(self._api, _LEASES, {"metadata": {"name": NODE, "namespace": "kube-node-lease"}, "spec": spec})
            self._registered = True
        self._api.merge(f"/api/v1/nodes/{NODE}/status", {"status": _node_status()})
        self._api.merge(f"{_LEASES}/{NODE}", {"spec": {"renewTime": _now(micro=True)}})


def _create(api: KubeApi, path: str, body: Any) -> None:
    try:
        api.post(path, body)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


def _pod_status(running: _Running) -> dict[str, Any]:
    state = "True" if running.ready else "False"
    since = {"lastTransitionTime": running.ready_since, "lastProbeTime": None}
    conditions = [{"type": kind, "status": "True", **since} for kind in ("PodScheduled", "Initialized")]
    conditions += [{"type": kind, "status": state, **since} for kind in ("ContainersReady", "Ready")]
    containers = [
        {
            "name": container["name"],
            "image": container.get("image", ""),
            "imageID": "",
            "ready": running.ready,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": running.started_at}},
        }
        for container in running.pod["spec"]["containers"]
    ]
    return {
        "phase": "Running",
        "podIP": running.address,
        "podIPs": [{"ip": running.address}],
        "hostIP": "127.0.0.1",
        "startTime": running.started_at,
        "conditions": conditions,
        "containerStatuses": containers,
    }


def _node_status() -> dict[str, Any]:
    now = _now()
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    size = {"cpu": "1000", "memory": "4Ti", "pods": "10000"}
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    return {"conditions": [ready], "capacity": size, "allocatable": size, "addresses": addresses}


def _now(*, micro: bool = False) -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")
