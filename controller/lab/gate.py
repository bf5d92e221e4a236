"""A limit on how many requests are under way, and a queue before it."""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """At most `limit` at a time, first come, first served; None lets all pass."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def change(self, limit: int | None) -> None:
        """A new limit: who is inside stays."""
        self.limit = limit
        self._admit()

    def waiting(self) -> int:
        """How many wait."""
        return sum(not turn.done() for turn in tuple(self._waiting))

    async def enter(self) -> None:
        """Wait for a place."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place to the next one."""
        self.inside -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and (self.limit is None or self.inside < self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.inside += 1
                turn.set_result(None)
