"""What a Prometheus would know: counters as last scraped, rates over a window, and how old they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from bench.routing.servers import Server
from bench.routing.world import World


@dataclass(frozen=True, slots=True)
class Row:
    """One instance's signals now; None where there is no data. Rates are over the window."""

    age: float
    rate: float | None
    utilisation: float | None
    errors: float | None
    latency: float | None
    in_flight: float


class Scraper:
    """Scrapes each server with a phase of its own and keeps one window of samples."""

    def __init__(self, world: World, servers: Sequence[Server], period: float, window: float, rng: Random) -> None:
        self._world = world
        self._window = window
        self.blackout = False
        self._kept: list[deque[tuple[float, int, int, float, float, int]]] = [deque() for _ in servers]
        for server in servers:
            world.every(rng.uniform(0.0, period), period, lambda server=server: self._scrape(server))  # type: ignore[misc]

    def _scrape(self, server: Server) -> None:
        if self.blackout or not server.active:
            return
        sample = (self._world.now, server.done, server.failed, server.seconds, server.busy_seconds(), server.inside)
        self._kept[server.index].append(sample)

    def row(self, index: int) -> Row | None:
        """The signals of one server; None when nothing was scraped inside the window."""
        kept, now = self._kept[index], self._world.now
        while kept and kept[0][0] < now - self._window:
            kept.popleft()
        if not kept:
            return None
        at, done, failed, seconds, busy, inside = kept[-1]
        first_at, first_done, first_failed, first_seconds, first_busy, _ = kept[0]
        span = at - first_at
        if span <= 0.0:
            return Row(now - at, None, None, None, None, inside)
        count = done - first_done
        return Row(
            age=now - at,
            rate=count / span,
            utilisation=(busy - first_busy) / span,
            errors=(failed - first_failed) / count if count else None,
            latency=(seconds - first_seconds) / count if count else None,
            in_flight=inside,
        )
