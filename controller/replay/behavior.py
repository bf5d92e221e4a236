"""What an HPA's `behavior` makes of a recommendation: stabilisation, then the rate, then the bounds.

Follows `horizontal.go` of Kubernetes 1.36. Without `behavior` the controller knows one window, downwards, and one
rate, upwards: twice the replicas or four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from controller.model.behavior import DEFAULT_DOWN, DEFAULT_UP, Direction, Select

UP_FACTOR, UP_LEAST = 2, 4


@dataclass(frozen=True, slots=True)
class Behavior:
    """`spec.behavior`; a side that is not given is as the API server fills it in."""

    up: Direction = DEFAULT_UP
    down: Direction = DEFAULT_DOWN


@dataclass(frozen=True, slots=True)
class Event:
    """A number at an instant: a recommendation, or how many replicas were added or removed."""

    at: float
    replicas: int


@dataclass(frozen=True, slots=True)
class History:
    """What the controller remembers of one HPA; lost when it restarts."""

    recommendations: tuple[Event, ...] = ()
    added: tuple[Event, ...] = ()
    removed: tuple[Event, ...] = ()
    scaled_to_zero: bool = False

    def rescaled(self, behavior: Behavior | None, before: int, after: int, at: float) -> History:
        """With one change of replicas in it; without `behavior` none is kept."""
        zero = replace(self, scaled_to_zero=after == 0)
        if behavior is None or before == after:
            return zero
        event = Event(at, abs(after - before))
        if after > before:
            return replace(zero, added=(*_young(self.added, _longest(behavior.up), at), event))
        return replace(zero, removed=(*_young(self.removed, _longest(behavior.down), at), event))


@dataclass(frozen=True, slots=True)
class Normal:
    """What became of a recommendation, with the reasons that the HPA's conditions would show."""

    replicas: int
    able: str
    limited: str
    is_limited: bool
    history: History = field(default_factory=History)


def normalise(
    behavior: Behavior | None,
    history: History,
    desired: int,
    current: int,
    bounds: tuple[int, int],
    *,
    at: float,
    down_window_seconds: float,
) -> Normal:
    """The replicas that follow from a recommendation; `history` has it afterwards, as recommended."""
    if behavior is None:
        return _plain(history, desired, current, bounds, at=at, window_seconds=down_window_seconds)
    up = behavior.up.window_seconds or 0.0
    down = down_window_seconds if behavior.down.window_seconds is None else behavior.down.window_seconds
    recent = history.recommendations
    lowest = min([desired, *(e.replicas for e in recent if e.at > at - up)])
    highest = max([desired, *(e.replicas for e in recent if e.at > at - down)])
    stable = min(max(current, lowest), highest)
    able = "ReadyForNewScale" if stable == desired else _stabilised(desired, current)
    kept = tuple(e for e in recent if e.at >= at - max(up, down))
    after, limited = _rated(behavior, history, stable, current, bounds=bounds, at=at)
    remembered = replace(history, recommendations=(*kept, Event(at, desired)))
    return Normal(after, able, limited, after != stable, remembered)


def _plain(
    history: History, desired: int, current: int, bounds: tuple[int, int], *, at: float, window_seconds: float
) -> Normal:
    kept = tuple(e for e in history.recommendations if e.at >= at - window_seconds)
    stable = max([desired, *(e.replicas for e in kept)])
    able = "ReadyForNewScale" if stable == desired else "ScaleDownStabilized"
    remembered = replace(history, recommendations=(*kept, Event(at, desired)))
    least, most = bounds
    fastest = max(UP_FACTOR * current, UP_LEAST)
    after = least if stable < least else min(stable, most, fastest)
    if after > stable:
        limited = "TooFewReplicas"
    elif after < stable:
        limited = "ScaleUpLimit" if most > fastest else "TooManyReplicas"
    else:
        limited = "DesiredWithinRange"
    return Normal(after, able, limited, after != stable, remembered)


def _stabilised(desired: int, current: int) -> str:
    return "ScaleUpStabilized" if desired >= current else "ScaleDownStabilized"


def _rated(
    behavior: Behavior, history: History, desired: int, current: int, *, bounds: tuple[int, int], at: float
) -> tuple[int, str]:
    least, most = bounds
    if desired > current:
        limit = max(_limit(behavior.up, history, current, at, sign=1), current)
        if desired > min(most, limit):
            return min(most, limit), "ScaleUpLimit" if most > limit else "TooManyReplicas"
    elif desired < current:
        limit = min(_limit(behavior.down, history, current, at, sign=-1), current)
        if desired < max(least, limit):
            return max(least, limit), "ScaleDownLimit" if least < limit else "TooFewReplicas"
    return desired, "DesiredWithinRange"


def _limit(side: Direction, history: History, current: int, at: float, *, sign: int) -> int:
    if side.select is Select.DISABLED:
        return current
    allowed = []
    for policy in side.policies:
        since = at - policy.period_seconds
        start = current - _sum(history.added, since) + _sum(history.removed, since)
        if policy.kind == "Pods":
            allowed.append(start + sign * policy.value)
        else:
            exact = start * (1 + sign * policy.value / 100)
            # Up is rounded up, or one replica could never become two; down is cut, likewise.
            allowed.append(ceil(exact) if sign > 0 else int(exact))
    farthest = (side.select is Select.MAX) == (sign > 0)
    return max(allowed) if farthest else min(allowed)


def _sum(events: Sequence[Event], since: float) -> int:
    return sum(e.replicas for e in events if e.at > since)


def _longest(side: Direction) -> float:
    return max((p.period_seconds for p in side.policies), default=0.0)


def _young(events: Sequence[Event], period_seconds: float, at: float) -> tuple[Event, ...]:
    return tuple(e for e in events if e.at >= at - period_seconds)
