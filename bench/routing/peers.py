"""How others choose. Each is as good as we know how to make it; a chooser sees only what its original would see."""

from __future__ import annotations

from bisect import bisect
from collections import deque
from collections.abc import Sequence
from heapq import heapify, heapreplace
from itertools import accumulate
from math import exp
from random import Random
from typing import Any

from bench.routing.scrape import Scraper
from bench.routing.servers import Job, Server
from bench.routing.world import World


class Chooser:
    """Picks a server for each request and hears how it went. `tick` comes at the daemon's interval."""

    name = ""
    probes = False

    def __init__(self, world: World, servers: Sequence[Server], clients: int, scraper: Scraper, rng: Random) -> None:
        self.world = world
        self.servers = servers
        self.clients = clients
        self.scraper = scraper
        self.rng = rng
        self.active: list[int] = []
        self.membership()

    def membership(self) -> None:
        """Servers came or went."""
        self.active = [s.index for s in self.servers if s.active]

    def choose(self, job: Job) -> int:
        raise NotImplementedError

    def finished(self, job: Job, ok: bool, seconds: float) -> None:
        """A request is over."""

    def tick(self) -> None:
        """The control loop's turn."""


class RoundRobin(Chooser):
    name = "round robin"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._next = [self.rng.randrange(1000) for _ in range(self.clients)]

    def choose(self, job: Job) -> int:
        self._next[job.client] += 1
        return self.active[self._next[job.client] % len(self.active)]


class MinMean(Chooser):
    """The article's: least mean of the last 100 response times, kept in one place; no data is 0; ties go to the first."""

    name = "least mean latency"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._last: list[deque[float]] = [deque(maxlen=100) for _ in self.servers]
        self._mean = [0.0] * len(self.servers)

    def choose(self, job: Job) -> int:  # noqa: ARG002 - every chooser's form
        return min(self.active, key=self._mean.__getitem__)

    def finished(self, job: Job, ok: bool, seconds: float) -> None:  # noqa: ARG002 - every chooser's form
        last = self._last[job.server]
        last.append(seconds)
        self._mean[job.server] = sum(last) / len(last)


class Weighted(Chooser):
    """Weights made from scraped data at each tick; clients follow them by earliest deadline, from a random start."""

    def __init__(self, *args: Any) -> None:
        self._schedules: list[list[tuple[float, int]]] = []
        self._weights: dict[int, float] = {}
        super().__init__(*args)

    def membership(self) -> None:
        super().membership()
        self._install()

    def tick(self) -> None:
        self._install()

    def weigh(self) -> dict[int, float]:
        """By server; those without data are left out and get the mean."""
        raise NotImplementedError

    def _install(self) -> None:
        known = {i: w for i, w in self.weigh().items() if w > 0.0}
        mean = sum(known.values()) / len(known) if known else 1.0
        self._weights = {i: known.get(i, mean) for i in self.active}
        self._schedules = []
        for _ in range(self.clients):
            schedule = [(self.rng.random() / w, i) for i, w in self._weights.items()]
            heapify(schedule)
            self._schedules.append(schedule)

    def choose(self, job: Job) -> int:
        schedule = self._schedules[job.client]
        deadline, index = schedule[0]
        heapreplace(schedule, (deadline + 1.0 / self._weights[index], index))
        return index


class InverseLatency(Weighted):
    name = "1 / latency"

    def weigh(self) -> dict[int, float]:
        rows = {i: self.scraper.row(i) for i in self.active}
        return {i: 1.0 / row.latency for i, row in rows.items() if row and row.latency}


class A58(Weighted):
    """gRPC's weighted round robin: qps ÷ (utilisation + errors/qps); without two usable reports it is round robin."""

    name = "A58 weights"

    def weigh(self) -> dict[int, float]:
        found = {}
        for i in self.active:
            row = self.scraper.row(i)
            if row and row.rate and row.utilisation:
                found[i] = row.rate / (row.utilisation + (row.errors or 0.0))
        return found if len(found) > 1 else {}


class LeastRequest(Chooser):
    """Envoy's: the less loaded of two, by what this client has in flight."""

    name = "least request P2C"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._in_flight = [[0] * len(self.servers) for _ in range(self.clients)]

    def choose(self, job: Job) -> int:
        mine = self._in_flight[job.client]
        a, b = self.rng.sample(self.active, 2) if len(self.active) > 1 else (self.active * 2)
        chosen = a if mine[a] <= mine[b] else b
        mine[chosen] += 1
        return chosen

    def finished(self, job: Job, ok: bool, seconds: float) -> None:  # noqa: ARG002 - every chooser's form
        self._in_flight[job.client][job.server] -= 1


class PeakEwma(Chooser):
    """Finagle's: the cheaper of two by peak-sensitive latency × (in flight + 1), this client's own; decay 10 s."""

    name = "peak EWMA P2C"
    TAU = 10.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        count = len(self.servers)
        self._in_flight = [[0] * count for _ in range(self.clients)]
        self._cost = [[0.0] * count for _ in range(self.clients)]
        self._at = [[0.0] * count for _ in range(self.clients)]

    def _load(self, client: int, i: int) -> float:
        in_flight, cost = self._in_flight[client][i], self._cost[client][i]
        cost *= exp((self._at[client][i] - self.world.now) / self.TAU)
        if cost <= 0.0 and in_flight:
            return 1e9 + in_flight
        return cost * (in_flight + 1)

    def choose(self, job: Job) -> int:
        a, b = self.rng.sample(self.active, 2) if len(self.active) > 1 else (self.active * 2)
        chosen = a if self._load(job.client, a) <= self._load(job.client, b) else b
        self._in_flight[job.client][chosen] += 1
        return chosen

    def finished(self, job: Job, ok: bool, seconds: float) -> None:
        client, i, now = job.client, job.server, self.world.now
        self._in_flight[client][i] -= 1
        # A failure counts as very slow, as Finagle's failure accrual would see to.
        seconds = seconds if ok else max(seconds, 60.0)
        keep = exp((self._at[client][i] - now) / self.TAU)
        cost = self._cost[client][i]
        self._cost[client][i] = seconds if seconds > cost else cost * keep + seconds * (1.0 - keep)
        self._at[client][i] = now


class Prequal(Chooser):
    """Google's: a pool of 16 probes per client, 3 per request, hot above the 0.84 quantile of requests in flight.

    Favoured: probes cost nothing, answer at once, and are sent before the choice instead of after it.
    """

    name = "Prequal (free probes)"
    probes = True
    POOL, PROBES, QUANTILE, LIFE_SECONDS = 16, 3, 0.84, 1.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Entries: [at, server, requests in flight, latency, uses left]
        self._pools: list[list[list[float]]] = [[] for _ in range(self.clients)]
        self._seen: list[deque[float]] = [deque(maxlen=64) for _ in range(self.clients)]
        self._oldest_next = [True] * self.clients
        self._failed = [[0.0] * len(self.servers) for _ in range(self.clients)]

    def choose(self, job: Job) -> int:
        now, client = self.world.now, job.client
        pool, seen = self._pools[client], self._seen[client]
        pool[:] = [e for e in pool if now - e[0] <= self.LIFE_SECONDS and e[4] > 0 and self.servers[int(e[1])].active]
        count = len(self.active)
        reuse = max(1.0, 2.0 / max(0.1, (1.0 - self.POOL / max(count, self.POOL + 1)) * self.PROBES - 1.0))
        for i in self.rng.sample(self.active, min(self.PROBES, count)):
            server = self.servers[i]
            pool.append([now, i, server.inside, self._latency(server, client), reuse])
            seen.append(server.inside)
        del pool[: max(0, len(pool) - self.POOL)]
        hot = sorted(seen)[min(len(seen) - 1, int(self.QUANTILE * len(seen)))]
        cold = [e for e in pool if e[2] <= hot]
        best = min(cold, key=lambda e: (e[3], self.rng.random())) if cold else min(pool, key=lambda e: e[2])
        best[2] += 1
        best[4] -= 1
        self._remove(pool, hot, client)
        return int(best[1])

    def _remove(self, pool: list[list[float]], hot: float, client: int) -> None:
        """One per request, the oldest and the worst in turn, but never the last few."""
        if len(pool) <= self.PROBES:
            return
        if self._oldest_next[client]:
            del pool[0]
        else:
            hots = [e for e in pool if e[2] > hot]
            pool.remove(max(hots, key=lambda e: e[2]) if hots else max(pool, key=lambda e: e[3]))
        self._oldest_next[client] = not self._oldest_next[client]

    def _latency(self, server: Server, client: int) -> float:
        # Error aversion: a failure that this client saw in the last 30 s makes the server look very slow.
        if self.world.now - self._failed[client][server.index] < 30.0 and self._failed[client][server.index]:
            return 1e9
        return server.latency_at_load() or 0.0

    def finished(self, job: Job, ok: bool, seconds: float) -> None:  # noqa: ARG002 - every chooser's form
        if not ok:
            self._failed[job.client][job.server] = self.world.now


class ShortestDelay(Chooser):
    """The oracle: all queues and true speeds at this very instant; the least expected delay. Nobody can have this."""

    name = "oracle (shortest delay)"
    probes = True

    def choose(self, job: Job) -> int:  # noqa: ARG002 - every chooser's form
        servers, draw = self.servers, self.rng.random
        return min(self.active, key=lambda i: (servers[i].expected_seconds(), draw()))


class ShortestQueue(Chooser):
    """The other oracle: fewest requests inside, known at this very instant."""

    name = "oracle (shortest queue)"
    probes = True

    def choose(self, job: Job) -> int:  # noqa: ARG002 - every chooser's form
        servers, draw = self.servers, self.rng.random
        return min(self.active, key=lambda i: (servers[i].inside, draw()))


def weighted_draw(weights: Sequence[float], rng: Random) -> int:
    """An index in proportion to the weights."""
    cumulative = list(accumulate(weights))
    return min(bisect(cumulative, rng.random() * cumulative[-1]), len(weights) - 1)
