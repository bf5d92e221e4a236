"""Kubernetes, for all policies of a tick: HPAs, their targets' scale, and pods, as raw JSON in few calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from controller.deadline import Deadline
from controller.errors import DependencyError, NotFound, Throttled, TimedOut, Unreachable
from controller.model import drain
from controller.model.drain import Mark
from controller.model.snapshot import HpaView, Known, NotAsked, Reading, ScaleView, Unknown
from controller.observe.hpa import hpa_view, rival
from controller.observe.promql import template_labels
from controller.policy.schema import LoadPolicy, Scaling

SYSTEM = "Kubernetes"
OFF = "Kubernetes is switched off (--kubernetes off)"
PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}
_SERVER_WIDE = (Unreachable, TimedOut, Throttled)

T = TypeVar("T")


class KubeReader(Protocol):
    """The one call that observing needs."""

    def get(self, path: str, *, query: Mapping[str, str] | None = None, deadline: Deadline) -> dict[str, Any]:
        """The JSON at `path`.

        Raises:
            DependencyError: one of its leaves.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod that is not finished. Instants in seconds since the epoch; `created_at` and `ready_at` as of an `Instance`."""

    name: str
    uid: str
    ip: str | None
    ready: bool
    started_at: float | None
    terminating: bool
    created_at: float | None = None
    ready_at: float | None = None
    drain: Mark | None = None
    deletion_cost: str | None = None


@dataclass(frozen=True, slots=True)
class KubeView:
    """What Kubernetes said of one policy.

    Args:
        pods: the pods; `Known` is complete.
        selected: whether those are the pods of the policy's target, not all of its namespace.
    """

    hpa: Reading[HpaView | None] = field(default_factory=NotAsked)
    scale: Reading[ScaleView | None] = field(default_factory=NotAsked)
    pods: Reading[tuple[Pod, ...]] = field(default_factory=NotAsked)
    selected: bool = False


def needs_kubernetes(policy: LoadPolicy) -> bool:
    """Whether anything of a policy is only known to Kubernetes."""
    return policy.spec.scaling is not None or "pod_ip" in template_labels(policy.spec.instances.endpoint)


def unknown_view(policy: LoadPolicy, reason: str) -> KubeView:
    """The view when nothing answered."""
    unknown = Unknown(reason)
    if policy.spec.scaling is not None:
        return KubeView(unknown, unknown, unknown, selected=True)
    return KubeView(pods=unknown) if needs_kubernetes(policy) else KubeView()


def read_kubernetes(
    kube: KubeReader, policies: Sequence[LoadPolicy], deadline: Deadline
) -> tuple[dict[str, KubeView], list[str]]:
    """Views by policy key, and one line for each thing that failed. Never raises a DependencyError."""
    calls = _Calls(kube, deadline)
    views = {policy.key: _view(calls, policy) for policy in policies}
    return views, list(dict.fromkeys(calls.problems))


def _view(calls: _Calls, policy: LoadPolicy) -> KubeView:
    namespace = policy.metadata.namespace
    scaling = policy.spec.scaling
    if scaling is None:
        if not needs_kubernetes(policy):
            return KubeView()
        return KubeView(pods=calls.read(_pods_path(namespace), {}, _pods))
    hpas = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    hpa = calls.read(hpas, {}, lambda raw: _find_hpa(raw, policy, scaling))
    nothing: tuple[ScaleView | None, str] = (None, "")
    scale = calls.read(scale_path(scaling.target.kind, namespace, scaling.target.name), {}, scale_of, missing=nothing)
    if isinstance(scale, Unknown):
        return KubeView(_flat(hpa), scale, scale, selected=True)
    view, selector = scale.value
    if not selector:
        why = "does not exist" if view is None else "selects no pods"
        pods: Reading[tuple[Pod, ...]] = Unknown(f"{scaling.target.kind} {namespace}/{scaling.target.name} {why}")
    else:
        pods = calls.read(_pods_path(namespace), {"labelSelector": selector}, _pods)
    return KubeView(_flat(hpa), Known(view), pods, selected=True)


class _Calls:
    """The calls of one tick: each distinct one is made once, and none after the server failed as a whole."""

    def __init__(self, kube: KubeReader, deadline: Deadline) -> None:
        self._kube = kube
        self._deadline = deadline
        self._answers: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, Any] | DependencyError] = {}
        self._down: DependencyError | None = None
        self.problems: list[str] = []

    def read(
        self,
        path: str,
        query: Mapping[str, str],
        parse: Callable[[Mapping[str, Any]], T],
        missing: T | None = None,
    ) -> Known[T] | Unknown:
        """The parsed answer; `missing` stands for a 404 when it is given."""
        raw = self._get(path, query)
        if isinstance(raw, NotFound) and missing is not None:
            return Known(missing)
        if isinstance(raw, DependencyError):
            self.problems.append(str(raw))
            return Unknown(str(raw))
        try:
            return Known(parse(raw))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{SYSTEM}: {path}: the answer is not as the API describes it ({type(error).__name__}: {error})"
            self.problems.append(reason)
            return Unknown(reason)

    def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any] | DependencyError:
        key = (path, tuple(sorted(query.items())))
        if key not in self._answers:
            self._answers[key] = self._down or self._call(path, query)
        return self._answers[key]

    def _call(self, path: str, query: Mapping[str, str]) -> dict[str, Any] | DependencyError:
        try:
            if self._deadline.expired():
                raise TimedOut(SYSTEM, "no time left in the tick")
            return self._kube.get(path, query=query or None, deadline=self._deadline)
        except _SERVER_WIDE as error:
            self._down = error
            return error
        except DependencyError as error:
            return error


def _flat(reading: Known[HpaView | Unknown | None] | Unknown) -> Reading[HpaView | None]:
    if isinstance(reading, Unknown):
        return reading
    return reading.value if isinstance(reading.value, Unknown) else Known(reading.value)


def _find_hpa(raw: Mapping[str, Any], policy: LoadPolicy, scaling: Scaling) -> HpaView | Unknown | None:
    items = raw["items"]
    others = [item for item in items if item["metadata"]["name"] != scaling.hpa]
    for item in items:
        if item["metadata"]["name"] == scaling.hpa:
            return hpa_view(item, policy, others)
    # Creating a second HPA on one target would make both fail (AmbiguousSelector), so this is no plain "none".
    other = rival(policy, others)
    return None if other is None else Unknown(f"not created: there is already {other}")


def scale_path(kind: str, namespace: str, name: str) -> str:
    """The path of the scale subresource of a workload of one of the kinds in `PLURALS`."""
    return f"/apis/apps/v1/namespaces/{namespace}/{PLURALS[kind]}/{name}/scale"


def scale_of(raw: Mapping[str, Any]) -> tuple[ScaleView | None, str]:
    """The view of a scale subresource, and the label selector of its pods."""
    status = raw.get("status") or {}
    wanted = (raw.get("spec") or {}).get("replicas")
    running = status.get("replicas", 0)
    # The API server leaves out a zero here.
    return ScaleView(0 if wanted is None else wanted, running), status.get("selector", "")


def _pods_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def _pods(raw: Mapping[str, Any]) -> tuple[Pod, ...]:
    pods = (_pod(item) for item in raw["items"])
    return tuple(sorted((pod for pod in pods if pod is not None), key=lambda pod: pod.name))


def _pod(item: Mapping[str, Any]) -> Pod | None:
    metadata, status = item["metadata"], item.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return None
    conditions = status.get("conditions") or ()
    ready: Mapping[str, Any] | None = next((c for c in conditions if c.get("type") == "Ready"), None)
    serves = ready is not None and ready.get("status") == "True"
    annotations = metadata.get("annotations") or {}
    created = _instant(metadata.get("creationTimestamp"))
    started = _instant(status.get("startTime"))
    return Pod(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        ip=status.get("podIP") or None,
        ready=serves,
        started_at=created if started is None else started,
        terminating=metadata.get("deletionTimestamp") is not None,
        created_at=created,
        drain=drain.parse(annotations.get(drain.DRAINING)),
        deletion_cost=annotations.get(drain.DELETION_COST),
        ready_at=_instant(ready.get("lastTransitionTime")) if ready and serves and not _restarted(status) else None,
    )


def _restarted(status: Mapping[str, Any]) -> bool:
    """Whether a container has been started again: the pod's readiness is then another start than its first."""
    containers = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    return any(container.get("restartCount") for container in containers)


def _instant(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None
