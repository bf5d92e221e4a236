"""Alive and ready: what the kubelet asks of this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

MISSED_INTERVALS = 3
SHORTEST_PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class Health:
    """Alive: the last tick is recent. Ready: policies are loaded, and every system in use answered once.

    Readiness sticks: an outage of Prometheus must not take every replica out of service.
    """

    interval_seconds: float
    clock: Callable[[], float] = time.monotonic
    last_tick: float = 0.0
    policies: int = 0
    ticked: bool = False
    waiting_for: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.last_tick = self.clock()

    def tick_done(self, policies: int, asked: Iterable[str], failed: Iterable[str]) -> None:
        """Record one finished tick, whatever came of it."""
        self.last_tick = self.clock()
        self.policies = policies
        if not self.ticked:
            self.waiting_for = set(asked)
            self.ticked = True
        self.waiting_for -= set(asked) - set(failed)

    def alive(self) -> tuple[bool, str]:
        """Whether the loop still turns, and a sentence."""
        age = self.clock() - self.last_tick
        patience = max(MISSED_INTERVALS * self.interval_seconds, SHORTEST_PATIENCE_SECONDS)
        return age <= patience, f"last tick {age:.1f} s ago, at most {patience:.0f} s allowed"

    def ready(self) -> tuple[bool, str]:
        """Whether this replica does its job, and a sentence."""
        if not self.ticked:
            return False, "the first tick has not ended"
        if not self.policies:
            return False, "no policies loaded"
        if self.waiting_for:
            return False, f"no answer yet from {', '.join(sorted(self.waiting_for))}"
        return True, f"{self.policies} policies in force"
