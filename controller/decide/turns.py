"""How often a bound has changed its direction of late: a fleet that goes up and down and up has a fault somewhere.

Counted from what the API server shows, whoever moved the bound. When the budget is spent, only raises go on: more
replicas than needed cost money, fewer cost an outage.
"""

from __future__ import annotations

from controller.decide.proposal import Proposed
from controller.model.memory import Turns

HOUR_SECONDS = 3600.0


def observe(before: Turns, stood: int | None, stands: int, at: float) -> Turns:
    """With the move from `stood` to `stands` in it; a first look is no move."""
    if stood is None or stood == stands:
        return before
    direction = 1 if stands > stood else -1
    recent = tuple(t for t in before.at if t > at - HOUR_SECONDS)
    if before.direction in {0, direction}:
        return Turns(direction, recent)
    return Turns(direction, (*recent, at))


def within(wanted: Proposed, turns: Turns, per_hour: int, now: float) -> Proposed:
    """Keep a lowering while the budget of the hour is spent."""
    recent = [t for t in turns.at if t > now - HOUR_SECONDS]
    if not wanted.lowers or len(recent) < per_hour:
        return wanted
    wait = recent[-per_hour] + HOUR_SECONDS - now
    return wanted.keep(f"{len(recent)} changes of direction within an hour, {per_hour} allowed; free in {wait:.0f} s")
