"""What the background thread and the background task do alike: what to ask Redis, and what to make of its answers. Pure."""

from __future__ import annotations

import random
import time
from typing import Any

from trimtab.balancer.core import Core
from trimtab.balancer.feed import Feed
from trimtab.balancer.heartbeat import JITTER, LIFE_SECONDS, PERIOD_SECONDS, WRITE_SECONDS, Heartbeat
from trimtab.contract import Keys

READ_SCRIPT = "return {redis.call('GET', KEYS[1]), redis.call('TIME')}"
"""The ranking, and the server's clock to tell its age by; in one round trip, and in one hash slot."""
CALL_SECONDS = 1.0
"""Timeout of each call of a client that the balancer makes itself."""
SLICE_SECONDS = 0.2
"""How long to wait for a message at a time, so that `close()` is prompt."""
BUSY_SECONDS = 60.0
"""A client that picked and released nothing for so long beats as rarely as it may."""
RETRY_SECONDS = (0.2, 2.0)
"""The least and the most between two attempts to reach Redis."""


class Session:
    """The state of one client's conversation with Redis."""

    def __init__(self, core: Core, feed: Feed, keys: Keys, *, share: bool) -> None:
        self.core = core
        self.feed = feed
        self.keys = keys
        self.share = share
        self.heartbeat = Heartbeat()
        self.error = ""
        """Why Redis could not be asked, one line without credentials; empty while all is well."""
        self._heard_at = core.clock()
        self._others = False
        self._seen = self._written = (0, 0)
        self._written_at = float("-inf")
        self._busy_at = core.clock()
        self._retries = 0
        core.on_refresh = self._refresh

    def read(self, reply: Any) -> None:
        """The reply of `READ_SCRIPT`, or of a plain GET with this machine's clock in the server's place."""
        document, clock = reply
        self.feed.offer(document, int(clock[0]) + int(clock[1]) / 1e6 if clock else time.time())
        self.error = ""
        self._retries = 0

    def beat(self) -> tuple[str, str, int, int]:
        """ARGV of the next heartbeat."""
        self._written, self._written_at = (self.core.picks, self.core.held), self.core.clock()
        return self.heartbeat.arguments(self.core.in_flight(), self.core.recent_failures(), self.core.evidence())

    def unchanged(self) -> bool:
        """Whether this beat need only read the sum, because this client's row is as it was written a moment ago."""
        young = self.core.clock() - self._written_at < WRITE_SECONDS
        return young and (self.core.picks, self.core.held) == self._written

    def beaten(self, reply: Any) -> None:
        """The reply of the heartbeat. Raises ValueError when it is not one."""
        self._share(self.heartbeat.others(reply))

    def glanced(self, total: Any) -> bool:
        """The sum as it stands was read. False when there is none, and only a heartbeat makes it. Raises ValueError likewise."""
        counts = self.heartbeat.glance(total)
        if counts is not None:
            self._share(counts)
        return counts is not None

    def _share(self, counts: dict[str, float]) -> None:
        # One's own reading is half a period old when it is used, and what it read was half a period old: others beat alike.
        self.core.share(counts, self.heartbeat.served, self._period_seconds())
        self._heard_at = self.core.clock()
        self._others = True

    def next_beat_seconds(self) -> float:
        """How long to wait until the next heartbeat: longest while nobody asks this client for an endpoint."""
        now = self.core.clock()
        seen = (self.core.picks, self.core.held)
        if seen != self._seen:
            self._seen, self._busy_at = seen, now
        period = self._period_seconds() if now - self._busy_at < BUSY_SECONDS else PERIOD_SECONDS[1]
        return period * random.uniform(1.0 - JITTER, 1.0 + JITTER)  # noqa: S311 - nothing to guess

    def _period_seconds(self) -> float:
        return self.heartbeat.period_seconds(len(self.core.names()))

    def failed(self, error: Exception) -> float:
        """Redis did not do as asked. Returns the seconds to wait before the next attempt."""
        self.error = f"{type(error).__name__}: {error}".splitlines()[0]
        least, most = RETRY_SECONDS
        self._retries = min(self._retries + 1, 8)
        return min(most, least * 2.0 ** (self._retries - 1))

    def _refresh(self, now: float) -> None:
        """Let everything grow older, whether Redis answers or not: a client without timeouts may never come to say that it does not."""
        self.feed.advance(now)
        if self._others and now - self._heard_at > LIFE_SECONDS:
            self._others = False
            self.core.alone()
