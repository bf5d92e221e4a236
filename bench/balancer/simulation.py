"""A fleet in simulated time, driven by the shipped choice: what does sharing in-flight counts buy?

Ten servers of 4 first-come-first-served slots; speeds 1 x4, 0.7 x3, 0.5 x2, 0.25 x1; service times lognormal, mean 0.5 s / speed,
coefficient of variation 1; each server is slowed to half at random, on for 30 s and off for 60 s on average; Poisson
arrivals split over independent clients. Weights are the true speeds, so that only the client's part is judged.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from math import log, sqrt

from trimtab.balancer.core import Core
from trimtab.balancer.ticket import Ticket

SPEEDS = (1.0,) * 4 + (0.7,) * 3 + (0.5,) * 2 + (0.25,)
ALIKE = (1.0,) * 10
SLOTS = 4
MEAN_SECONDS = 0.5
SIGMA = sqrt(log(2.0))
SLOW_SECONDS, WELL_SECONDS = 30.0, 60.0
FAILURE_SECONDS = 0.005


@dataclass(frozen=True)
class Fleet:
    """One run. `load` is a ratio of the fleet's mean capacity; `shared` the heartbeat's period in seconds, None for none;
    `failing` the index of a server that fails every request at once."""

    clients: int = 20
    load: float = 0.75
    seconds: float = 300.0
    shared: float | None = 1.0
    seed: int = 1
    speeds: tuple[float, ...] = SPEEDS
    slowdowns: bool = True
    failing: int | None = None


class Server:
    def __init__(self, speed: float) -> None:
        self.speed, self.slowed, self.busy = speed, 1.0, 0
        self.queue: deque[tuple[Ticket, float]] = deque()


class Simulation:
    """Discrete events; time is `now`, in seconds."""

    def __init__(self, fleet: Fleet, make: Callable[..., Core] = Core) -> None:
        self.fleet, self.now = fleet, 0.0
        self.rng = random.Random(fleet.seed)
        self.order = count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.names = [f"s{i}" for i in range(len(fleet.speeds))]
        self.servers = {name: Server(speed) for name, speed in zip(self.names, fleet.speeds, strict=True)}
        total = sum(fleet.speeds)
        slow = SLOW_SECONDS / (SLOW_SECONDS + WELL_SECONDS) / 2 if fleet.slowdowns else 0.0
        self.rate = fleet.load * total * SLOTS / MEAN_SECONDS * (1.0 - slow)
        self.clients = [
            make(clock=lambda: self.now, random=random.Random(self.rng.random()).random) for _ in range(fleet.clients)
        ]
        for client in self.clients:
            client.install([(name, speed / total) for name, speed in zip(self.names, fleet.speeds, strict=True)])
        self.rows: dict[int, list[Mapping[str, float]]] = {}
        self.seen: dict[int, dict[str, tuple[float, float]]] = {}
        self.latencies: list[float] = []
        self.failed = 0

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(self.order), what))

    def flip(self, server: Server) -> None:
        server.slowed = 0.5 if server.slowed == 1.0 else 1.0
        mean = SLOW_SECONDS if server.slowed == 0.5 else WELL_SECONDS
        self.at(self.now + self.rng.expovariate(1 / mean), lambda: self.flip(server))

    def start(self, server: Server, job: tuple[Ticket, float]) -> None:
        server.busy += 1
        work = MEAN_SECONDS * self.rng.lognormvariate(-SIGMA * SIGMA / 2, SIGMA)
        self.at(self.now + work / (server.speed * server.slowed), lambda: self.end(server, job))

    def end(self, server: Server, job: tuple[Ticket, float]) -> None:
        ticket, arrived = job
        server.busy -= 1
        ticket.release()
        if arrived > self.fleet.seconds / 5:
            self.latencies.append(self.now - arrived)
        if server.queue:
            self.start(server, server.queue.popleft())

    def arrive(self) -> None:
        self.at(self.now + self.rng.expovariate(self.rate), self.arrive)
        ticket = self.rng.choice(self.clients).take()
        if ticket.endpoint == f"s{self.fleet.failing}":
            self.failed += self.now > self.fleet.seconds / 5
            self.at(self.now + FAILURE_SECONDS, lambda: ticket.release(ok=False))
            return
        server = self.servers[ticket.endpoint]
        if server.busy < SLOTS:
            self.start(server, (ticket, self.now))
        else:
            server.queue.append((ticket, self.now))

    def beat(self, index: int, period: float) -> None:
        self.at(self.now + period, lambda: self.beat(index, period))
        client = self.clients[index]
        self.rows[index] = [client.in_flight(), client.recent_failures()]
        self.seen[index] = client.evidence()
        sums: dict[str, float] = {}
        served: dict[str, tuple[float, float]] = {}
        for other, both in self.rows.items():
            if other != index:
                for row in both:
                    for name, n in row.items():
                        sums[name] = sums.get(name, 0.0) + n
                for name, (n, work) in self.seen[other].items():
                    before = served.get(name, (0.0, 0.0))
                    served[name] = (before[0] + n, before[1] + work)
        client.share(sums, served, period)

    def run(self) -> dict[str, float]:
        """Seconds; of requests that arrived after the first fifth of the run."""
        self.at(0.0, self.arrive)
        if self.fleet.slowdowns:
            for server in self.servers.values():
                self.at(self.rng.expovariate(1 / WELL_SECONDS), lambda server=server: self.flip(server))  # type: ignore[misc]
        if period := self.fleet.shared:
            for index in range(self.fleet.clients):
                self.at(self.rng.random() * period, lambda index=index: self.beat(index, period))  # type: ignore[misc]
        while self.events and self.events[0][0] < self.fleet.seconds:
            self.now, _, what = heapq.heappop(self.events)
            what()
        ordered = sorted(self.latencies)
        n = len(ordered)
        return {
            "mean": sum(ordered) / n,
            "p50": ordered[n // 2],
            "p99": ordered[int(n * 0.99)],
            "failed_ratio": self.failed / (n + self.failed),
        }


def simulate(fleet: Fleet, make: Callable[..., Core] = Core) -> dict[str, float]:
    """One run's figures."""
    return Simulation(fleet, make).run()
