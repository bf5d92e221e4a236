"""The last word on every number: whatever the rules above proposed, these hold.

Rails never ask why a number moves. They keep it inside the policy's range, bound the step, freeze what would go down
while anything is in doubt, and keep maxReplicas off what runs. Every clamp adds to the number's reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import floor, fsum, isfinite

from controller.decide.concurrency import DECREASE
from controller.decide.interlock import highest_min, lowest_max
from controller.decide.proposal import Proposed
from controller.decide.scaling import Bounds
from controller.model.plan import Hold, RankedEndpoint
from controller.model.snapshot import ResourceTarget
from controller.policy.schema import Bound, Concurrency, Scaling

SUM_TOLERANCE = 1e-9


def limit(rules: Concurrency, proposed: Proposed, doubts: Sequence[str], *, lost_capacity: bool) -> Proposed:
    """Bounded step down, no step down in doubt, inside [min, max].

    Ready instances that Kubernetes has seen go are no doubt: that capacity is lost, and the limit follows at once. The
    policy's own range goes last: a person wrote it.
    """
    safe = proposed
    if safe.lowers and safe.before is not None and not lost_capacity:
        least = min(floor(safe.before * DECREASE), safe.before - 1)
        safe = safe.clamp(max(safe.after, least), f"at most x{DECREASE:g} per tick")
        if doubts:
            safe = safe.keep(_frozen(doubts))
    return safe.clamp(min(max(safe.after, rules.min), rules.max), f"kept inside {rules.min}..{rules.max}")


def bounds(rules: Scaling, proposed: Bounds, doubts: Sequence[str]) -> tuple[Bounds, tuple[Hold, ...]]:
    """The HPA's bounds and targets made safe, and a hold for each target that was kept."""
    low = _guard(proposed.minimum, rules.min, rules, proposed, doubts)
    high = _guard(proposed.maximum, rules.max, rules, proposed, doubts)
    counts = proposed.counts
    step = rules.steps.of(counts.asked if low.before is None else low.before)
    most = highest_min(counts, low.before, step)
    low = low.clamp(min(low.after, most), f"{counts.asked} replicas are asked for, at most {step} more per step")
    high = high.clamp(max(high.after, lowest_max(counts, high.before)), f"{counts.most} replicas run")
    # Whoever cannot keep the order gives way towards the present value: that needs no new permission.
    high = high.clamp(max(high.after, low.before or 1), "not below minReplicas")
    low = low.clamp(min(low.after, high.after), "not above maxReplicas")
    targets, holds = _targets(proposed, doubts)
    return replace(proposed, minimum=low, maximum=high, targets=targets), holds


def ranking(endpoints: tuple[RankedEndpoint, ...] | None) -> tuple[tuple[RankedEndpoint, ...] | None, Hold | None]:
    """The ranking if its weights are finite, not negative and sum to 1; else the last one must stand."""
    if endpoints is None:
        return None, None
    weights = [e.weight for e in endpoints]
    if all(isfinite(w) and w >= 0.0 for w in weights) and abs(fsum(weights) - 1.0) <= SUM_TOLERANCE:
        return endpoints, None
    return None, Hold("weights", "the new weights do not sum to 1; the last ranking stands")


def _guard(proposed: Proposed, bound: Bound, rules: Scaling, whole: Bounds, doubts: Sequence[str]) -> Proposed:
    """One bound: inside the range (or nearer to it), at most one step away, frozen by doubt or by a person."""
    before = proposed.before
    if before is None:
        return proposed.clamp(min(max(proposed.after, bound.floor), bound.ceiling), "the policy's range")
    step = rules.steps.of(before)
    after = min(max(proposed.after, min(before, bound.floor)), max(before, bound.ceiling))
    safe = proposed.clamp(after, f"kept inside {bound.floor}..{bound.ceiling}")
    safe = safe.clamp(min(max(safe.after, before - step), before + step), f"at most {step} per step")
    if safe.lowers and doubts:
        return safe.keep(_frozen(doubts))
    if (safe.lowers and whole.pause.lowering) or (safe.raises and whole.pause.raising):
        return safe.keep(whole.pause.why)
    return safe


def _targets(proposed: Bounds, doubts: Sequence[str]) -> tuple[tuple[ResourceTarget, ...], tuple[Hold, ...]]:
    """A higher target, or one target less, means fewer replicas: frozen like any other decrease."""
    if proposed.before is None or proposed.targets == proposed.before.targets:
        return proposed.targets, ()
    stands = {t.name: t.percent for t in proposed.before.targets}
    wanted = {t.name: t.percent for t in proposed.targets}
    why_lower = _frozen(doubts) if doubts else proposed.pause.why if proposed.pause.lowering else ""
    why_raise = proposed.pause.why if proposed.pause.raising else ""
    kept, holds = dict(wanted), []
    for name in {**stands, **wanted}:
        old, new = stands.get(name), wanted.get(name)
        fewer = new is None or (old is not None and new > old)
        why = "" if new == old else why_lower if fewer else why_raise
        if not why:
            continue
        holds.append(Hold(f"{name} target", f"{why}; asked for {new}"))
        if old is None:
            del kept[name]
        else:
            kept[name] = old
    return tuple(ResourceTarget(name, percent) for name, percent in kept.items()), tuple(holds)


def _frozen(doubts: Sequence[str]) -> str:
    return f"no decrease on doubtful data: {'; '.join(doubts)}"
