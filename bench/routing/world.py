"""Virtual time: events in order, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class World:
    """The clock and the list of what is still to happen. Events of one instant run in the order they were made."""

    __slots__ = ("_events", "_order", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def at(self, when: float, action: Callable[..., None], *args: Any) -> None:
        heappush(self._events, (when, self._order, action, args))
        self._order += 1

    def every(self, first: float, period: float, action: Callable[[], None]) -> None:
        def again(when: float) -> None:
            action()
            self.at(when + period, again, when + period)

        self.at(first, again, first)

    def run(self, until: float) -> None:
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, action, args = heappop(events)
            action(*args)
        self.now = until
