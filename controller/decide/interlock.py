"""What a write of an HPA's bounds does within one sync, before any metric is asked: pods that start or stop at once.

The HPA's controller compares `spec.replicas` of the target with the bounds first, and puts right what lies outside past
tolerance, stabilisation and rate (`reconcileAutoscaler` in Kubernetes' horizontal.go; `controller/replay/hpa.py` is the
whole of it, and the tests' oracle for this). So a bound is an order, not a permission, wherever it crosses what runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.model.snapshot import HpaView, ScaleView


@dataclass(frozen=True, slots=True)
class Counts:
    """Replicas by every account.

    Args:
        asked: `spec.replicas` of the target, what the HPA starts from.
        most: the largest of spec, status, and the HPA's own current and desired replicas.
    """

    asked: int
    most: int


def count(view: HpaView | None, scale: ScaleView) -> Counts:
    """The replicas by the accounts of the target and of the HPA, if there is one."""
    every = [scale.spec_replicas, scale.status_replicas]
    if view is not None:
        every += [view.current_replicas or 0, view.desired_replicas or 0]
    return Counts(scale.spec_replicas, max(every))


def at_once(low: int, high: int, asked: int) -> int:
    """The replicas that the bounds bring about by themselves. A target at 0 is switched off and stays so."""
    return 0 if asked == 0 else min(max(asked, low), high)


def highest_min(counts: Counts, before: int | None, step: int) -> int:
    """The highest minReplicas that starts at most `step` pods at once, beyond those that the one before starts anyway."""
    return max(counts.asked + step, 0 if before is None else before)


def lowest_max(counts: Counts, before: int | None) -> int:
    """The lowest maxReplicas that stops no pod which the one before would have kept.

    Where max stands below what runs already, that is its owner's word: it may stay there, and go no lower.
    """
    return counts.most if before is None else min(before, counts.most)
