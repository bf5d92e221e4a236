"""One run: a fleet, a load, a chooser, and what may happen on the way. Seeded; the same arrivals for every chooser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import log, sqrt
from random import Random

from bench.routing.peers import Chooser
from bench.routing.scrape import Scraper
from bench.routing.servers import MEAN_SECONDS, SLOTS, BatchServer, Job, Server, SlotServer
from bench.routing.world import World

UNEQUAL = (1.0,) * 4 + (0.7,) * 3 + (0.5,) * 2 + (0.25,)
ON_SECONDS, OFF_SECONDS, SLOWED = 30.0, 60.0, 0.5
FAILED_SECONDS = 60.0
"""What a failed request counts as: a client that waits for a timeout."""
SIGMA = sqrt(log(2.0))
PARETO = 1.5


@dataclass(frozen=True)
class Setting:
    """What a run is made of. `load` is a share of the fleet's mean capacity; `scrape` and `seconds` in seconds."""

    speeds: tuple[float, ...] = UNEQUAL
    antagonists: bool = True
    load: float = 0.75
    clients: int = 20
    scrape: float = 5.0
    seconds: float = 420.0
    warm: float = 100.0
    batch: bool = False
    heavy: bool = False
    idle: int = 0
    """Servers at the end of `speeds` that are not there at the start."""
    events: tuple[tuple[float, str, int], ...] = ()
    """(seconds, what, which server): see `Run._happen`."""
    routing: tuple[tuple[str, object], ...] = ()


@dataclass
class Result:
    """Seconds, shares, counts."""

    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    mean: float = 0.0
    failed: float = 0.0
    left: int = 0
    peak: float = 0.0
    """Largest share of one server in any 5 s, over its fair share by capacity."""
    shares: dict[int, list[int]] = field(default_factory=dict)
    """Requests by 5 s of arrival and server."""


class Run:
    """Builds the world, plays it, measures."""

    def __init__(self, setting: Setting, make: Callable[..., Chooser], seed: int) -> None:
        self.setting = setting
        self.world = World()
        kind = BatchServer if setting.batch else SlotServer
        self.servers: list[Server] = [kind(self.world, i, v, self._finished) for i, v in enumerate(setting.speeds)]
        for server in self.servers[len(self.servers) - setting.idle :] if setting.idle else ():
            server.active = False
        self._arrivals = Random(f"arrivals {seed}")
        self._rng = Random(f"chooser {seed}")
        self._slow = Random(f"antagonists {seed}")
        self.window = 4.0 * setting.scrape
        self.scraper = Scraper(self.world, self.servers, setting.scrape, self.window, Random(f"scrape {seed}"))
        self.interval = min(setting.scrape, 15.0)
        self.chooser = make(self.world, self.servers, setting.clients, self.scraper, self._rng)
        self._took: list[float] = []
        self._failures = self._measured = 0
        self._open: dict[int, Job] = {}
        self.result = Result()

    def play(self) -> Result:
        setting, world = self.setting, self.world
        self._rate = setting.load * sum(s.speed for s in self.servers if s.active) * SLOTS / MEAN_SECONDS
        if setting.antagonists:
            self._rate *= 1.0 - SLOWED * ON_SECONDS / (ON_SECONDS + OFF_SECONDS)
            for server in self.servers:
                world.at(self._slow.expovariate(1.0 / OFF_SECONDS), self._slow_down, server)
        for when, what, which in setting.events:
            world.at(when, self._happen, what, which)
        world.every(self._rng.uniform(0.0, self.interval), self.interval, self.chooser.tick)
        world.at(self._arrivals.expovariate(self._rate), self._arrive)
        world.run(setting.seconds)
        return self._measure()

    def _arrive(self) -> None:
        world, draw = self.world, self._arrivals
        if self.setting.heavy:
            # Pareto of mean MEAN_SECONDS, cut at 100 times it, which changes the mean by a few percent only.
            work = min(MEAN_SECONDS * (PARETO - 1.0) / PARETO * draw.paretovariate(PARETO), 100.0 * MEAN_SECONDS)
        else:
            work = MEAN_SECONDS * draw.lognormvariate(-SIGMA * SIGMA / 2.0, SIGMA)
        job = Job(world.now, work, draw.randrange(self.setting.clients))
        self._open[id(job)] = job
        index = self.chooser.choose(job)
        slot = int(world.now / 5.0)
        counts = self.result.shares.get(slot)
        if counts is None:
            counts = self.result.shares[slot] = [0] * len(self.servers)
        counts[index] += 1
        self.servers[index].accept(job)
        world.at(world.now + draw.expovariate(self._rate), self._arrive)

    def _finished(self, job: Job, ok: bool) -> None:
        del self._open[id(job)]
        seconds = self.world.now - job.arrived
        self.chooser.finished(job, ok, seconds)
        if job.arrived >= self.setting.warm:
            self._measured += 1
            self._failures += not ok
            self._took.append(seconds if ok else FAILED_SECONDS)

    def _slow_down(self, server: Server) -> None:
        slow = server.factor != SLOWED
        server.change(SLOWED if slow else 1.0)
        mean = ON_SECONDS if slow else OFF_SECONDS
        self.world.at(self.world.now + self._slow.expovariate(1.0 / mean), self._slow_down, server)

    def _happen(self, what: str, which: int) -> None:  # noqa: C901 - a table of mishaps
        server = self.servers[which]
        match what:
            case "slow":
                server.change(0.25)
            case "usual":
                server.change(1.0)
                server.failing = False
            case "fail":
                server.failing = True
            case "dark":
                self.scraper.blackout = True
            case "light":
                self.scraper.blackout = False
            case "come":
                server.active = True
                self.chooser.membership()
            case "cold":
                # A cold cache: a quarter of the speed for its first 30 s.
                server.active = True
                server.change(0.25)
                self.world.at(self.world.now + 30.0, server.change, 1.0)
                self.chooser.membership()
            case "go":
                server.active = False
                self.chooser.membership()
            case "redis down" | "redis up":
                if hasattr(self.chooser, "redis_up"):
                    self.chooser.redis_up = what == "redis up"
            case "more" | "less":
                self._rate *= 2.0 if what == "more" else 0.5
            case _:
                raise ValueError(what)

    def _measure(self) -> Result:
        setting, result = self.setting, self.result
        waiting = [setting.seconds - j.arrived for j in self._open.values() if j.arrived >= setting.warm]
        took = sorted(self._took + waiting)
        count = len(took)
        result.left = len(waiting)
        result.mean = sum(took) / count
        result.p50, result.p99, result.p999 = (took[min(count - 1, int(q * count))] for q in (0.5, 0.99, 0.999))
        result.failed = self._failures / max(1, self._measured)
        total = sum(s.speed for s in self.servers)
        fair = [s.speed / total for s in self.servers]
        for slot, counts in result.shares.items():
            if slot * 5.0 >= setting.warm and (whole := sum(counts)):
                result.peak = max(result.peak, *(c / whole / f for c, f in zip(counts, fair, strict=True)))
        return result


def run(setting: Setting, make: Callable[..., Chooser], seed: int) -> Result:
    """Play one setting with one chooser."""
    if hasattr(make, "interval"):
        fields = {
            "interval": min(setting.scrape, 15.0),
            "window": 4.0 * setting.scrape,
            "routing": {**dict(make.routing), **dict(setting.routing)},  # type: ignore[attr-defined]
        }
        make = type(make.__name__, (make,), fields)  # type: ignore[call-arg, arg-type]
    return Run(setting, make, seed).play()
