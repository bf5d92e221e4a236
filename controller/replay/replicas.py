"""How many replicas one metric of an HPA asks for, as the HPA's controller reckons it.

The order of the tests and every rounding follow `replica_calculator.go` of Kubernetes 1.36. Amounts are whole
thousandths of the metric's unit (`_milli`: 250 is 0.25 cores), because the controller adds and divides integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

MOST = 2**31 - 1
"""The controller counts replicas in 32 bits."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far usage ÷ target may be off 1 before anything is done, as ratios."""

    down: float = 0.1
    up: float = 0.1

    def within(self, ratio: float) -> bool:
        """Whether that usage ÷ target asks for no change."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Timing:
    """The controller's own settings, seconds: flags of kube-controller-manager, at their defaults."""

    sync: float = 15.0
    downscale_stabilization: float = 300.0
    cpu_initialization: float = 300.0
    initial_readiness_delay: float = 30.0


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that the HPA's selector finds.

    Args:
        ready: its Ready condition; None when it has none yet.
        started_at: `status.startTime`, seconds; None when not started.
        ready_changed_at: when the Ready condition last changed.
        request_milli: what it requests of the resource; only Utilization asks.
    """

    name: str
    phase: Literal["Pending", "Running", "Succeeded", "Failed"] = "Running"
    ready: bool | None = True
    terminating: bool = False
    started_at: float | None = 0.0
    ready_changed_at: float = 0.0
    request_milli: int = 1000


@dataclass(frozen=True, slots=True)
class PodMetric:
    """What one pod used, over which window before `at`."""

    value_milli: int
    at: float = float("inf")
    window_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Utilization:
    """A Resource metric with `averageUtilization`, percent of the request."""

    percent: int
    resource: str = "cpu"


@dataclass(frozen=True, slots=True)
class PodsAverage:
    """A Pods metric, or a Resource metric with `averageValue` (then `resource` is its name)."""

    target_milli: int
    resource: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """An Object or External metric with `value`; several external series are added up."""

    target_milli: int


@dataclass(frozen=True, slots=True)
class AverageValue:
    """An Object or External metric with `averageValue`: the whole is shared by the replicas."""

    target_milli: int


Metric = Utilization | PodsAverage | Value | AverageValue


@dataclass(frozen=True, slots=True)
class Failed:
    """The metric could not be read or reckoned, and why."""

    reason: str


Read = Mapping[str, PodMetric] | int | Failed
"""By pod name for Utilization and PodsAverage, else the one value in thousandths."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Of the scale target: what is asked for and what exists."""

    spec: int
    status: int


def propose(
    metric: Metric,
    read: Read,
    pods: Sequence[Pod],
    replicas: Replicas,
    *,
    at: float,
    tolerance: Tolerance | None = None,
    timing: Timing | None = None,
) -> int | Failed:
    """The replicas that one metric asks for at that instant, or why it cannot say."""
    allowed, clock = tolerance or Tolerance(), timing or Timing()
    if isinstance(read, Failed):
        return read
    match metric:
        case Utilization() | PodsAverage():
            if isinstance(read, int):
                raise TypeError("this metric is read per pod")
            return _per_pod(metric, read, pods, replicas.spec, tolerance=allowed, timing=clock, at=at)
        case Value(target_milli=target):
            return _whole(_one(read) / target, pods, replicas.spec, allowed)
        case AverageValue(target_milli=target):
            usage, exist = _one(read), replicas.status
            if exist > 0 and allowed.within(usage / (target * exist)):
                return exist
            # Nothing shared by nobody is not a number, and such a ratio is in no tolerance.
            return min(ceil(usage / target), MOST)


def combine(proposals: Sequence[int | Failed], spec_replicas: int) -> int | Failed:
    """The largest proposal. One failed metric forbids fewer replicas; all failed forbid everything."""
    failed = [p for p in proposals if isinstance(p, Failed)]
    asked = max((p for p in proposals if not isinstance(p, Failed)), default=0)
    if failed and (len(failed) == len(proposals) or asked < spec_replicas):
        return Failed(f"{len(failed)} of {len(proposals)} metrics: {failed[0].reason}")
    return asked


def _one(read: Read) -> int:
    if not isinstance(read, int):
        raise TypeError("this metric is read as one value")
    return read


def _whole(ratio: float, pods: Sequence[Pod], current: int, tolerance: Tolerance) -> int | Failed:
    if current == 0:
        return ceil(ratio)
    if tolerance.within(ratio):
        return current
    if not pods:
        return Failed("no pods returned by selector")
    ready = sum(p.phase == "Running" and p.ready is True for p in pods)
    return min(ceil(ratio * ready), MOST)


def _per_pod(  # noqa: PLR0911 - the controller's own questions, one return each
    metric: Utilization | PodsAverage,
    read: Mapping[str, PodMetric],
    pods: Sequence[Pod],
    current: int,
    *,
    tolerance: Tolerance,
    timing: Timing,
    at: float,
) -> int | Failed:
    if not pods:
        return Failed("no pods returned by selector")
    counted, unready, missing = _group(pods, read, metric.resource, timing, at)
    # Numbers of a pod that the controller does not know (yet) stay among the others.
    known = {p.name for p in pods}
    used = {p.name: read[p.name].value_milli for p in counted}
    used |= {name: m.value_milli for name, m in read.items() if name not in known}
    if not used:
        return Failed("no metrics for targeted pods (pods might be unready)")
    requests = {p.name: p.request_milli for p in pods}
    first = _ratio(metric, used, requests)
    if first is None:
        return Failed("no metrics returned matched known pods")
    starting = unready if first > 1.0 else []
    if not starting and not missing:
        return current if tolerance.within(first) else ceil(first * len(counted))
    if first < 1.0:
        used |= {p.name: _assumed(metric, p) for p in missing}
    elif first > 1.0:
        used |= dict.fromkeys((p.name for p in [*missing, *starting]), 0)
    second = _ratio(metric, used, requests)
    if second is None:
        return Failed("no metrics returned matched known pods")
    turned = (first < 1.0 < second) or (second < 1.0 < first)
    if tolerance.within(second) or turned:
        return current
    asked = ceil(second * len(used))
    surprising = asked > current if second < 1.0 else asked < current
    return current if surprising else asked


def _assumed(metric: Utilization | PodsAverage, pod: Pod) -> int:
    """What a pod without numbers is taken to use when fewer replicas are asked for."""
    if isinstance(metric, PodsAverage):
        return metric.target_milli
    return pod.request_milli * max(100, metric.percent) // 100


def _ratio(metric: Utilization | PodsAverage, used: Mapping[str, int], requests: Mapping[str, int]) -> float | None:
    if isinstance(metric, PodsAverage):
        return sum(used.values()) // len(used) / metric.target_milli
    requested = sum(requests.get(name, 0) for name in used)
    total = sum(value for name, value in used.items() if name in requests)
    return None if requested == 0 else total * 100 // requested / metric.percent


def _group(
    pods: Sequence[Pod], read: Mapping[str, PodMetric], resource: str, timing: Timing, at: float
) -> tuple[list[Pod], list[Pod], list[Pod]]:
    """The pods that count, those not ready yet, and those without numbers. Terminating and failed ones are nowhere."""
    counted, unready, missing = [], [], []
    for pod in pods:
        if pod.terminating or pod.phase == "Failed":
            continue
        if pod.phase == "Pending":
            unready.append(pod)
        elif pod.name not in read:
            missing.append(pod)
        elif resource == "cpu" and _warming(pod, read[pod.name], timing, at):
            unready.append(pod)
        else:
            counted.append(pod)
    return counted, unready, missing


def _warming(pod: Pod, metric: PodMetric, timing: Timing, at: float) -> bool:
    """Whether a pod's CPU is that of starting up: it is not ready, or its numbers reach back to before it was.

    After the first minutes only a pod that has never been ready is left out.
    """
    if pod.ready is None or pod.started_at is None:
        return True
    if pod.started_at + timing.cpu_initialization > at:
        return not pod.ready or metric.at < pod.ready_changed_at + metric.window_seconds
    return not pod.ready and pod.started_at + timing.initial_readiness_delay > pod.ready_changed_at
