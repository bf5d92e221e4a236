"""The floor from the policy's schedules: what the open window asks for, and the way up to the next one.

A window's replicas should serve when it opens. So its floor begins the warm-up time before it, and is reached in the
steps that the policy allows, the last of them that long before. Where windows overlap the largest counts. After a
window nothing is asked for any more, and minReplicas goes down as it does after any demand: calm, and by steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from controller.decide.floors.floor import Floor, highest
from controller.decide.warmup import WarmUp
from controller.policy.calendar import windows
from controller.policy.schema import Scaling, Schedule
from controller.policy.steps import Steps

LONGEST_AHEAD_SECONDS = 86400.0
"""No ramp begins earlier than this before its window, however many steps it would take."""


def floor(rules: Scaling, at: float, interval_seconds: float, lead: WarmUp) -> Floor | None:
    """The largest floor of all schedules at that instant; None when none is open or near."""
    return highest(f for schedule in rules.schedules for f in _floors(rules, schedule, at, interval_seconds, lead))


def _floors(rules: Scaling, schedule: Schedule, at: float, interval_seconds: float, lead: WarmUp) -> Iterator[Floor]:
    # Steps land on ticks, and the first tick of the ramp may come one interval late.
    pace = max(1, ceil(rules.steps.every / interval_seconds)) * interval_seconds
    full_before = lead.seconds + interval_seconds
    ahead = min(LONGEST_AHEAD_SECONDS, full_before + pace * _steps_to(rules.steps, schedule.min))
    for window in windows(
        days=schedule.weekdays,
        dates=schedule.dates,
        start=schedule.from_,
        end=schedule.to,
        timezone=schedule.timezone,
        since=at,
        until=at + ahead,
    ):
        words = f"schedule {schedule.name}, {schedule.from_} to {schedule.to} {schedule.timezone}"
        wait = window.opens_at - at
        if wait <= 0.0:
            yield Floor(schedule.min, f"{words}: at least {schedule.min}")
            continue
        due = _under(rules.steps, schedule.min, max(0, ceil((wait - full_before) / pace)))
        if due > 0:
            yield Floor(due, f"{words}: at least {schedule.min}, opens in {wait:.0f} s, {lead.words}")


def _under(steps: Steps, top: int, count: int) -> int:
    """Where a ramp stands so many steps before its top; 0 where it has not begun."""
    for left in range(count, 0, -1):
        below = steps.under(top)
        if top - below <= steps.replicas:  # and so it is all the way down
            return max(0, top - left * steps.replicas)
        top = below
    return top


def _steps_to(steps: Steps, top: int) -> int:
    """How many steps there are from nothing to the top."""
    count = 0
    while top - (below := steps.under(top)) > steps.replicas:
        top, count = below, count + 1
    return count + ceil(top / steps.replicas)
