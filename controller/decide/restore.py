"""An HPA whose policy is gone goes back to what it was found with, in steps like any other move, and is then let go.

Lowering rests on the HPA alone: there are no signals without a policy. So a bound goes down only while the HPA says that it
can read its metrics and scale, never below what runs, and minReplicas no faster than the last policy's steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from controller.decide import hpa_says, rails
from controller.decide.interlock import Counts
from controller.decide.pause import parse_pause
from controller.decide.proposal import Proposed
from controller.decide.scaling import MAX, MIN, Bounds
from controller.model import behavior
from controller.model.behavior import Sides
from controller.model.hpa import original_of
from controller.model.leftover import Leftover
from controller.model.plan import Change, Hold, HpaRelease, HpaWrite, Plan
from controller.model.snapshot import HpaSpec, Known, ResourceTarget, Unknown
from controller.policy.schema import Bound, LeastBound, ScaleTarget, Scaling
from controller.policy.steps import Steps


@dataclass(frozen=True, slots=True)
class Way:
    """How far one leftover is. Lost with a restart, which only makes the way slower.

    Args:
        since: when it was first seen to be left over, seconds since the epoch.
        bounds: (min, max) when last seen.
        moved_at: when they were last seen to move, or `since`.
    """

    since: float
    bounds: tuple[int, int]
    moved_at: float


@dataclass(frozen=True, slots=True)
class _Goal:
    spec: HpaSpec
    behavior: Sides | None


def restore(left: Leftover, steps: Steps, way: Way | None, at: float) -> tuple[Plan, Way]:
    """The next step of one leftover.

    Args:
        steps: of the policy that steered it, if that is known.
        way: as returned by the last call; None at first.
        at: now, seconds since the epoch.
    """
    spec = left.view.spec
    bounds = (spec.min_replicas, spec.max_replicas)
    if way is None:
        way = Way(at, bounds, at)
    elif bounds != way.bounds:
        way = replace(way, bounds=bounds, moved_at=at)
    return _plan(left, steps, way, at), way


def _plan(left: Leftover, steps: Steps, way: Way, at: float) -> Plan:
    gone = f"policy {left.policy} is gone"
    obstacle = _obstacle(left, at)
    if obstacle:
        return Plan(left.policy, at, holds=(Hold("hpa", obstacle),))
    handed = left.successor and f"{gone}, {left.successor} steers it now"
    goal = _goal(left)
    freed = handed or _as_it_is(left, goal)
    if freed or goal is None:
        return _released(left, at, handed or f"{gone}; {freed}", handover=bool(handed))
    return _moved(left, goal, steps, way, at)


def _obstacle(left: Leftover, at: float) -> str | None:
    """The first thing that forbids touching it, in words."""
    view, pause = left.view, parse_pause(left.view.paused, at)
    if view.foreign_owner:
        return f"{left.name} belongs to {view.foreign_owner} and is left alone"
    if pause.lowering and pause.raising:
        return pause.why
    return hpa_says.obstacle(view)


def _as_it_is(left: Leftover, goal: _Goal | None) -> str | None:
    """Why it is let go with the values that it has; None when it has to go back first."""
    if left.created:
        return "it was made by Trimtab, and stays as it is"
    if not left.bounds_owned:
        return "its owner has taken the bounds back"
    if goal is None:
        return "what it was found with is not known, so it stays as it is"
    return "it is as it was found" if goal.spec == left.view.spec and _behaves(left, goal) else None


def _behaves(left: Leftover, goal: _Goal) -> bool:
    if not left.view.behavior_owned:
        return True
    return goal.behavior is not None and behavior.stands_in(left.view.behavior, goal.behavior)


def _moved(left: Leftover, goal: _Goal, steps: Steps, way: Way, at: float) -> Plan:
    view, gone = left.view, f"policy {left.policy} is gone"
    if isinstance(left.scale, Unknown):
        return Plan(left.policy, at, holds=(Hold("hpa", f"what runs is not known: {left.scale.reason}"),))
    low, high = goal.spec.min_replicas, goal.spec.max_replicas
    if low > view.spec.min_replicas == 0 == _asked(left):
        why = f"at 0 replicas a minReplicas above 0 would keep its own metric from waking it; it goes back to {low} once it runs"
        return Plan(left.policy, at, holds=(Hold("minReplicas", why),))
    wanted = Bounds(
        before=view.spec,
        minimum=_timed(Proposed(MIN, view.spec.min_replicas, low, gone), steps, way, at),
        maximum=_timed(Proposed(MAX, view.spec.max_replicas, high, gone), steps, way, at),
        targets=goal.spec.targets,
        counts=_counts(left),
        pause=parse_pause(view.paused, at),
    )
    trouble = hpa_says.doubt(view)
    safe, holds = rails.bounds(_rules(goal.spec, steps), wanted, () if trouble is None else (trouble,))
    holds = (*(hold for bound in (safe.minimum, safe.maximum) if (hold := bound.hold())), *holds)
    changes = [change for bound in (safe.minimum, safe.maximum) if (change := bound.change())]
    changes += _retargeted(view.spec.targets, safe.targets, gone)
    if not _behaves(left, goal):
        asked = behavior.show(goal.behavior or Sides())
        changes.append(Change("hpa behavior", behavior.show(view.behavior), asked, gone))
    if not changes:
        return Plan(left.policy, at, holds=holds)
    after = replace(view.spec, min_replicas=safe.minimum.after, max_replicas=safe.maximum.after, targets=safe.targets)
    write = HpaWrite(left.namespace, left.name, view.spec, after, gone, goal.behavior)
    return Plan(left.policy, at, hpa=write, changes=tuple(changes), holds=holds)


def _rules(goal: HpaSpec, steps: Steps) -> Scaling:
    """What the rails need of a policy; not checked as one, for what a person chose was no policy's business."""
    low = LeastBound.model_construct(floor=goal.min_replicas, ceiling=goal.min_replicas)
    high = Bound.model_construct(floor=goal.max_replicas, ceiling=goal.max_replicas)
    target = ScaleTarget.model_construct(name=goal.target_name)
    return Scaling.model_construct(hpa="", target=target, min=low, max=high, steps=steps)


def _released(left: Leftover, at: float, reason: str, *, handover: bool = False) -> Plan:
    release = HpaRelease(left.namespace, left.name, reason, handover=handover)
    return Plan(left.policy, at, release=release, changes=(Change("hpa manager", "trimtab", None, reason),))


def _goal(left: Leftover) -> _Goal | None:
    found, spec = original_of(left.view.annotations), left.view.spec
    low, high = _count(found.get("minReplicas")), _count(found.get("maxReplicas"))
    if low is None or not high or low > high:
        return None
    targets = tuple(ResourceTarget(name, found[name]) for name in ("cpu", "memory") if _count(found.get(name)))
    if {t.name: t.percent for t in targets} == {t.name: t.percent for t in spec.targets}:
        targets = spec.targets  # in the order in which they stand
    theirs = _behavior(found) if left.view.behavior_owned else Sides()
    return _Goal(HpaSpec(spec.target_kind, spec.target_name, low, high, targets), theirs or None)


def _count(value: Any) -> int | None:
    """An annotation is a text that anybody may have edited."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _behavior(found: Mapping[str, Any]) -> Sides:
    try:
        return behavior.parse(found.get("behavior"))
    except (AttributeError, KeyError, TypeError, ValueError):
        return Sides()


def _asked(left: Leftover) -> int | None:
    """Replicas that the target asks for; None where there is none to ask, or where that is not known."""
    scale = left.scale.value if isinstance(left.scale, Known) else None
    return None if scale is None else scale.spec_replicas


def _counts(left: Leftover) -> Counts:
    scale = left.scale.value if isinstance(left.scale, Known) else None
    counts = [left.view.current_replicas or 0, left.view.desired_replicas or 0]
    if scale is None:  # there is nothing to scale
        return Counts(max(counts), max(counts))
    # Its owner has switched it off: bounds start nothing there, however far they go.
    asked = scale.spec_replicas or left.view.spec.min_replicas
    return Counts(asked, max(*counts, scale.spec_replicas, scale.status_replicas))


def _timed(wanted: Proposed, steps: Steps, way: Way, at: float) -> Proposed:
    """A raise waits for the one before, a lowering also from when the HPA was first seen to be left over."""
    moved = way.moved_at > way.since
    if wanted.raises:
        wait = way.moved_at + steps.every - at if moved else 0.0
    else:
        wait = way.moved_at + steps.lowerEvery - at
    return wanted.keep(f"the next step may come in {wait:.0f} s") if wait > 0.0 else wanted


def _retargeted(before: tuple[ResourceTarget, ...], after: tuple[ResourceTarget, ...], reason: str) -> Iterator[Change]:
    stands, wanted = {t.name: t.percent for t in before}, {t.name: t.percent for t in after}
    for name in {**stands, **wanted}:
        if stands.get(name) != wanted.get(name):
            yield Change(f"{name} target", stands.get(name), wanted.get(name), reason)
