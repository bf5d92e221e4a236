"""The time that a tick has left. Every call to another system asks it for its timeout."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

FLOOR_SECONDS = 0.05  # a timeout of zero means "for ever" to some libraries


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, so that a step of the wall clock neither shortens nor extends a tick."""

    at: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(clock() + seconds, clock)

    def remaining_seconds(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - self.clock())

    def expired(self) -> bool:
        """Whether nothing is left."""
        return self.remaining_seconds() <= 0.0

    def cap(self, timeout_seconds: float) -> float:
        """The smaller of a call's own timeout and what is left, and never so small that it means "for ever"."""
        return max(FLOOR_SECONDS, min(timeout_seconds, self.remaining_seconds()))
