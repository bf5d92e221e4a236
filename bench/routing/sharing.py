"""Heartbeats in virtual time: what each client knows of the others, as the session and the script in Redis make it.

A beat that changes nothing is not played, and what a client reads is worked out when it picks: the sum of all rows as it stood at its last beat.
That is what beating all the time would give, at a hundredth of the events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import exp, floor
from random import Random

from bench.routing.world import World
from trimtab.balancer.core import Core
from trimtab.balancer.health import FAILURE_TAU_SECONDS
from trimtab.balancer.heartbeat import LIFE_SECONDS
from trimtab.balancer.speed import TAU_SECONDS

_FORGOTTEN = 0.05


class _Sum:
    """Of one endpoint: requests in flight, and answers and work, each times exp(its time ÷ TAU), so that none has to fade by itself."""

    __slots__ = ("count", "waiting", "work")

    def __init__(self) -> None:
        self.waiting = 0
        self.count = self.work = 0.0

    def add(self, waiting: int, count: float, work: float) -> None:
        self.waiting += waiting
        self.count += count
        self.work += work


class Sharing:
    """Clients that beat every `period` seconds, each at a phase of its own."""

    def __init__(self, world: World, cores: Sequence[Core], names: Sequence[str], period: float, rng: Random) -> None:
        self._world = world
        self._cores = cores
        self._names = names
        self.period = period
        self.up = True
        self._phases = [rng.uniform(0.0, period) for _ in cores]
        self._total = {name: _Sum() for name in names}
        self._own = [{name: _Sum() for name in names} for _ in cores]
        self._log: deque[tuple[float, int, str, int]] = deque()
        self._pending: list[list[tuple[str, int, float, float]]] = [[] for _ in cores]
        self._failures: dict[int, tuple[float, dict[str, float]]] = {}
        self._read_at = [-1.0] * len(cores)
        self._heard_at = [0.0] * len(cores)

    def note(self, client: int, name: str, waiting: int, count: float = 0.0, work: float = 0.0) -> None:
        """Something changed in a client's row; others may know from its next beat on."""
        pending = self._pending[client]
        if not pending:
            self._world.at(self._last_beat(client) + self.period, self._write, client)
        grown = exp(self._world.now / TAU_SECONDS) if count else 0.0
        pending.append((name, waiting, count * grown, work * grown))

    def read(self, client: int) -> None:
        """The client is about to pick: let it know what it read at its last beat."""
        now, core = self._world.now, self._cores[client]
        at = self._last_beat(client)
        if not self.up:
            if now - self._heard_at[client] > LIFE_SECONDS:
                core.alone()
            return
        if at <= self._read_at[client]:
            return
        self._read_at[client] = self._heard_at[client] = at
        core.share(self._counts(client, at), self._served(client), self.period)

    def _counts(self, client: int, at: float) -> dict[str, float]:
        """What the others had in flight at that time, each recent failure counted as one request."""
        own = self._own[client]
        counts = {name: float(total.waiting - own[name].waiting) for name, total in self._total.items()}
        for when, writer, name, waiting in reversed(self._log):
            if when <= at:
                break
            if writer != client:
                counts[name] -= waiting
        for writer, (when, failures) in self._failures.items():
            keep = exp((when - self._world.now) / FAILURE_TAU_SECONDS)
            for name, value in failures.items():
                if writer != client and value * keep >= _FORGOTTEN:
                    counts[name] += value * keep
        return counts

    def _served(self, client: int) -> dict[str, tuple[float, float]]:
        """What the others saw served."""
        own, faded = self._own[client], exp(-self._world.now / TAU_SECONDS)
        return {
            name: (max(0.0, total.count - own[name].count) * faded, max(0.0, total.work - own[name].work) * faded)
            for name, total in self._total.items()
        }

    def _last_beat(self, client: int) -> float:
        phase = self._phases[client]
        return phase + floor((self._world.now - phase) / self.period + 1e-9) * self.period

    def _write(self, client: int) -> None:
        now = self._world.now
        if not self.up:
            self._world.at(now + self.period, self._write, client)
            return
        for name, waiting, count, work in self._pending[client]:
            self._total[name].add(waiting, count, work)
            self._own[client][name].add(waiting, count, work)
            self._log.append((now, client, name, waiting))
        self._pending[client].clear()
        failures = self._cores[client].recent_failures()
        if failures:
            self._failures[client] = (now, failures)
        else:
            self._failures.pop(client, None)
        while self._log and self._log[0][0] < now - 2.0 * self.period:
            self._log.popleft()
