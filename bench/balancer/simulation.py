"""A fleet in simulated time, driven by the shipped choice: what does sharing in-flight counts buy?

Ten servers of 4 first-come-first-served slots; speeds 1 x4, 0.7 x3, 0.5 x2, 0.25 x1; service times lognormal, mean 0.5 s / speed,
coefficient of variation 1; each server is slowed to half at random, on for 30 s and off for 60 s on average; Poisson
arrivals split over independent clients. Weights are the true speeds, so that only the client's part is judged.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import log, sqrt

from trimtab.balancer.core import Core

SPEEDS = (1.0,) * 4 + (0.7,) * 3 + (0.5,) * 2 + (0.25,)
SLOTS = 4
MEAN_SECONDS = 0.5
SIGMA = sqrt(log(2.0))
SLOWDOWN_SHARE = 30.0 / 90.0


@dataclass(frozen=True)
class Fleet:
    """One run. `load` is a ratio of the fleet's mean capacity; seconds; `shared` None for no heartbeat, else its period."""

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
        self.speed, self.slowed, self.busy, self.queue = speed, 1.0, 0, deque()


def simulate(fleet: Fleet, make: Callable[..., Core] = Core) -> dict[str, float]:
    """Percentiles of latency in seconds, of requests that arrived after the first fifth of the run."""
    rng = random.Random(fleet.seed)
    now = 0.0
    order = count()
    events: list = []

    def at(when: float, what: Callable[[], None]) -> None:
        heapq.heappush(events, (when, next(order), what))

    servers = {f"s{i}": Server(speed) for i, speed in enumerate(fleet.speeds)}
    total = sum(fleet.speeds)
    clients = [make(clock=lambda: now, random=random.Random(rng.random()).random) for _ in range(fleet.clients)]
    for client in clients:
        client.install([(f"s{i}", speed / total) for i, speed in enumerate(fleet.speeds)])
    lost = 1.0 - 0.5 * SLOWDOWN_SHARE if fleet.slowdowns else 1.0
    arrivals = fleet.load * total * SLOTS / MEAN_SECONDS * lost
    latencies: list[float] = []
    failed = 0
    rows: dict[int, list[dict[str, float]]] = {}

    def flip(server: Server) -> None:
        server.slowed = 0.5 if server.slowed == 1.0 else 1.0
        at(now + rng.expovariate(1 / (30.0 if server.slowed == 0.5 else 60.0)), lambda: flip(server))

    def start(server: Server, job) -> None:
        server.busy += 1
        service = MEAN_SECONDS * rng.lognormvariate(-SIGMA * SIGMA / 2, SIGMA) / (server.speed * server.slowed)
        at(now + service, lambda: finish(server, job))

    def finish(server: Server, job) -> None:
        ticket, arrived = job
        server.busy -= 1
        ticket.release()
        if arrived > fleet.seconds / 5:
            latencies.append(now - arrived)
        if server.queue:
            start(server, server.queue.popleft())

    def arrive() -> None:
        nonlocal failed
        at(now + rng.expovariate(arrivals), arrive)
        ticket = rng.choice(clients).take()
        if ticket.endpoint == f"s{fleet.failing}":
            failed += now > fleet.seconds / 5
            at(now + 0.005, lambda: ticket.release(ok=False))
            return
        server = servers[ticket.endpoint]
        job = (ticket, now)
        if server.busy < SLOTS:
            start(server, job)
        else:
            server.queue.append(job)

    def beat(index: int) -> None:
        at(now + fleet.shared, lambda: beat(index))
        rows[index] = [clients[index].in_flight(), clients[index].recent_failures()]
        sums: dict[str, float] = {}
        for other, both in rows.items():
            if other != index:
                for name, n in [*both[0].items(), *both[1].items()]:
                    sums[name] = sums.get(name, 0) + n
        clients[index].share(sums)

    at(0.0, arrive)
    if fleet.slowdowns:
        for server in servers.values():
            at(rng.expovariate(1 / 60.0), lambda server=server: flip(server))
    if fleet.shared:
        for index in range(fleet.clients):
            at(rng.random() * fleet.shared, lambda index=index: beat(index))
    while events and events[0][0] < fleet.seconds:
        now, _, what = heapq.heappop(events)
        what()
    latencies.sort()
    n = len(latencies)
    left = sum(len(s.queue) for s in servers.values())
    return {
        "n": n,
        "mean": sum(latencies) / n,
        "p50": latencies[n // 2],
        "p99": latencies[int(n * 0.99)],
        "left": left,
        "failed_ratio": failed / (n + failed),
    }
