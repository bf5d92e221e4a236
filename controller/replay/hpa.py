"""One sync of the HPA's controller, as a function: what it would do now, and what it would remember.

Follows `reconcileAutoscaler` in Kubernetes 1.36 `horizontal.go`. The first questions are about the bounds alone: more
replicas than maxReplicas or fewer than minReplicas are put right at once, with no metric read, past tolerance,
stabilisation and rate. That makes a write of the bounds an act of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from controller.replay.behavior import Behavior, Event, History, normalise
from controller.replay.replicas import (
    AverageValue,
    Failed,
    Metric,
    Pod,
    Read,
    Replicas,
    Timing,
    Tolerance,
    Value,
    combine,
    propose,
)


@dataclass(frozen=True, slots=True)
class Hpa:
    """The spec of an HPA."""

    metrics: tuple[Metric, ...]
    min_replicas: int = 1
    max_replicas: int = 10
    behavior: Behavior | None = None


@dataclass(frozen=True, slots=True)
class Controller:
    """The controller's flags and feature gates.

    Args:
        scale_to_zero: the gate HPAScaleToZero, off by default before 1.37.
    """

    timing: Timing = field(default_factory=Timing)
    tolerance: float = 0.1
    scale_to_zero: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What the controller finds at one sync: the scale target, its pods, and one reading for each metric."""

    replicas: Replicas
    pods: tuple[Pod, ...]
    reads: tuple[Read, ...]


@dataclass(frozen=True, slots=True)
class Synced:
    """What one sync does.

    Args:
        desired: what `spec.replicas` of the target is afterwards.
        rescaled: whether it was written.
        bypassed: whether bounds alone decided, past tolerance, stabilisation and rate.
        active: the reason of the condition ScalingActive; `Failed` names what failed.
        able: likewise of AbleToScale.
        limited: likewise of ScalingLimited, and `is_limited` its status. Empty where this sync leaves it as it was.
    """

    desired: int
    rescaled: bool
    bypassed: bool = False
    active: str = ""
    able: str = ""
    limited: str = ""
    is_limited: bool = False
    error: str = ""


def sync(
    hpa: Hpa, seen: Seen, history: History, *, at: float, controller: Controller | None = None
) -> tuple[Synced, History]:
    """One sync at that instant, in seconds; `history` is what the last one returned, or `History()`."""
    rules = controller or Controller()
    current = seen.replicas.spec
    if not history.recommendations:
        history = replace(history, recommendations=(Event(at, current),))
    if current == 0 and not _wakes(hpa, history, rules):
        return Synced(0, rescaled=False, active="ScalingDisabled"), history
    if current > 0 and not hpa.min_replicas <= current <= hpa.max_replicas:
        # maxReplicas is asked first.
        desired = hpa.max_replicas if current > hpa.max_replicas else hpa.min_replicas
        done = Synced(desired, rescaled=True, bypassed=True, able="SucceededRescale")
        return done, history.rescaled(hpa.behavior, current, desired, at)
    wanted = recommend(hpa, seen, at=at, controller=rules)
    if isinstance(wanted, Failed):
        return Synced(current, rescaled=False, active="Failed", error=wanted.reason), history
    normal = normalise(
        hpa.behavior,
        history,
        max(wanted, 0),
        current,
        (hpa.min_replicas, hpa.max_replicas),
        at=at,
        down_window_seconds=rules.timing.downscale_stabilization,
    )
    desired, history = normal.replicas, normal.history
    if current == 0:
        desired = max(desired, hpa.min_replicas)
    rescaled = desired != current
    done = Synced(
        desired,
        rescaled=rescaled,
        active="ValidMetricFound",
        able="SucceededRescale" if rescaled else normal.able,
        limited=normal.limited,
        is_limited=normal.is_limited,
    )
    return done, history.rescaled(hpa.behavior, current, desired, at) if rescaled else history


def recommend(hpa: Hpa, seen: Seen, *, at: float, controller: Controller | None = None) -> int | Failed:
    """What the metrics ask for, before stabilisation, rate and bounds."""
    rules = controller or Controller()
    if len(seen.reads) != len(hpa.metrics):
        raise ValueError(f"{len(seen.reads)} readings for {len(hpa.metrics)} metrics")
    tolerance = _tolerance(hpa, rules)
    proposals: Sequence[int | Failed] = [
        propose(metric, read, seen.pods, seen.replicas, at=at, tolerance=tolerance, timing=rules.timing)
        for metric, read in zip(hpa.metrics, seen.reads, strict=True)
    ]
    return combine(proposals, seen.replicas.spec)


def at_once(hpa: Hpa, current: int) -> int:
    """The replicas that the bounds alone bring about within one sync: what a write of them does by itself."""
    if current == 0:
        return 0
    return min(max(current, hpa.min_replicas), hpa.max_replicas)


def _wakes(hpa: Hpa, history: History, rules: Controller) -> bool:
    """Whether the HPA scales a target without replicas: only one that it put to sleep itself, never its owner's."""
    if not rules.scale_to_zero or not history.scaled_to_zero:
        return False
    return hpa.min_replicas > 0 or any(isinstance(m, Value | AverageValue) for m in hpa.metrics)


def _tolerance(hpa: Hpa, rules: Controller) -> Tolerance:
    down = up = rules.tolerance
    if hpa.behavior is not None:
        down = down if hpa.behavior.down.tolerance is None else hpa.behavior.down.tolerance
        up = up if hpa.behavior.up.tolerance is None else hpa.behavior.up.tolerance
    return Tolerance(down, up)
