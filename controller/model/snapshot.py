"""Everything that one tick may know about the world, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar

from controller.model.behavior import Sides
from controller.model.drain import Mark
from controller.model.history import RateHistory
from controller.model.sample import Absent, Sample, Signal

T = TypeVar("T")

SYSTEMS = ("Prometheus", "Redis", "Kubernetes")
PARTIAL = "partial answer"
"""How a line begins, after system and place, that tells of an answer that lacks something: an answer nevertheless."""


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """What a system answered. `Known(None)` is an answer too: "there is none"."""

    value: T


@dataclass(frozen=True, slots=True)
class Unknown:
    """The system did not answer, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotAsked:
    """The policy has no use for this reading."""


Reading = Known[T] | Unknown | NotAsked


_UNDEFINED = Absent("not defined by this policy")


@dataclass(frozen=True, slots=True)
class Instance:
    """One model server.

    Args:
        name: the value of the policy's `instances.key` label, usually the pod's name.
        endpoint: how clients reach it; None when a part of the template is not known.
        ready: what Kubernetes says; None when it was not asked or did not answer.
        uid: changes when a pod of the same name is another pod; None outside Kubernetes.
        started_at: seconds since the epoch; None when not known.
        terminating: its pod has been asked to stop.
        created_at: when its pod was created, seconds since the epoch: the start of its warm-up, with the wait for a node.
        ready_at: since when its pod is ready, seconds since the epoch, of a pod none of whose containers was ever started
            again. That is the end of its warm-up, unless its readiness probe failed later and passed anew, which Kubernetes
            does not tell apart: the first `ready_at` seen of a `uid` counts.
        pod: the name of its pod; None when that is not known.
        drain: the mark of a pod that is to go next; None when it has none.
        deletion_cost: its annotation `controller.kubernetes.io/pod-deletion-cost`; None when it has none.
    """

    name: str
    endpoint: str | None
    signals: Mapping[Signal, Sample]
    ready: bool | None = None
    uid: str | None = None
    started_at: float | None = None
    terminating: bool = False
    created_at: float | None = None
    ready_at: float | None = None
    pod: str | None = None
    drain: Mark | None = None
    deletion_cost: str | None = None

    def signal(self, signal: Signal) -> Sample:
        """The sample of one signal; absent when the policy does not define it."""
        return self.signals.get(signal, _UNDEFINED)


@dataclass(frozen=True, slots=True)
class ResourceTarget:
    """One resource metric of an HPA: `name` is cpu or memory, `percent` of the request."""

    name: str
    percent: int


@dataclass(frozen=True, slots=True)
class HpaSpec:
    """The part of an HPA that Trimtab moves, whole: one apply always sends all of it."""

    target_kind: str
    target_name: str
    min_replicas: int
    max_replicas: int
    targets: tuple[ResourceTarget, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """One of an HPA's conditions: `ScalingActive` is `true` or not, for a `reason` in one word and a `message` in many."""

    type: str
    true: bool
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class HpaView:
    """An HPA as the server holds it.

    Args:
        foreign_owner: who controls it if that is not us and it must be left alone, in words; None when it may be adopted.
        adopted: whether Trimtab has already applied it (a managedFields entry and the policy's annotation, which a person
            takes away to hand the HPA over anew).
        metrics: `spec.metrics` as it stands, raw, so that metrics Trimtab does not know survive a write.
        paused: the value of the annotation `trimtab/paused`; None when absent.
        behavior: `spec.behavior` as it stands; behavior_owned: the fields of it that are Trimtab's, such as
            `scaleUp.policies`.
        conditions: what the HPA's controller says of it, the latest.
        cpu_percent: mean CPU use of the pods, percent of the request, as the HPA last reckoned it; None when it cannot now.
    """

    spec: HpaSpec
    metrics: tuple[Mapping[str, object], ...] = ()
    current_replicas: int | None = None
    desired_replicas: int | None = None
    adopted: bool = False
    foreign_owner: str | None = None
    paused: str | None = None
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    uid: str = ""
    resource_version: str = ""
    limited_by_max: bool = False
    behavior: Sides = field(default_factory=Sides)
    behavior_owned: frozenset[str] = frozenset()
    conditions: tuple[Condition, ...] = ()
    cpu_percent: int | None = None


@dataclass(frozen=True, slots=True)
class ScaleView:
    """The scale subresource of an HPA's target: what is asked for and what exists."""

    spec_replicas: int
    status_replicas: int


@dataclass(frozen=True, slots=True)
class Published:
    """What this policy's keys in Redis hold now: Trimtab's own last word, or another replica's."""

    seq: int
    epoch: int
    limit: int | None
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """By instance name."""
    published_at: float = 0.0
    limit_reason: str | None = None
    """Why the inner loop set the limit; None while the limit is not the inner loop's."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """The request queue: waiting requests and live leases."""

    depth: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class ServiceSnapshot:
    """One policy's view at one instant.

    Args:
        at: the evaluation instant, seconds since the epoch; the same for all policies of a tick.
        metrics_problem: why Prometheus' answer is missing or known to be partial, in words; None when it is whole.
        instances_complete: whether every instance that exists is listed (Kubernetes answered, or was not asked and
            the metrics are whole): only then may an instance that is not listed be taken for gone.
    """

    policy: str
    at: float
    instances: tuple[Instance, ...]
    metrics_problem: str | None = None
    instances_complete: bool = True
    hpa: Reading[HpaView | None] = field(default_factory=NotAsked)
    scale: Reading[ScaleView | None] = field(default_factory=NotAsked)
    published: Reading[Published | None] = field(default_factory=NotAsked)
    queue: Reading[QueueView] = field(default_factory=NotAsked)
    history: Reading[RateHistory] = field(default_factory=NotAsked)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one tick observed, by policy key (`namespace/name`), and what each system said of itself."""

    at: float
    services: Mapping[str, ServiceSnapshot]
    problems: tuple[str, ...] = ()
    """One line per system that failed, for the log: each is said once, not once per policy."""
    asked: tuple[str, ...] = SYSTEMS
    """The systems that these policies have a use for."""
