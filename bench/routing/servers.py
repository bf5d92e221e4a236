"""Model servers in virtual time: a few slots with a queue before them, or a batch that is served together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from statistics import median

from bench.routing.world import World

MEAN_SECONDS = 0.5
"""Mean service time of a request alone on a server of speed 1."""
SLOTS = 4
BATCH = 16
"""Requests that a batching server serves together; its rate stops growing at SLOTS of them."""
FAIL_SECONDS = 0.005
MEMORY_RECENT = 8


class Job:
    """One request. `work` is in seconds on a server of speed 1; `token` is whatever the chooser wants back."""

    __slots__ = ("arrived", "client", "inside_then", "server", "token", "work")

    def __init__(self, arrived: float, work: float, client: int) -> None:
        self.arrived = arrived
        self.work = work
        self.client = client
        self.token: object = None
        self.server = -1
        self.inside_then = 0


class Server:
    """What both kinds share: counters as an exporter has them, and what a probe would answer."""

    kind = "slots"

    def __init__(self, world: World, index: int, speed: float, finished: Callable[[Job, bool], None]) -> None:
        self.world = world
        self.index = index
        self.name = f"s{index}"
        self.speed = speed
        self.factor = 1.0
        self.failing = False
        self.active = True
        self.memory = 0.5
        self.inside = 0
        self.done = self.failed = 0
        self.seconds = 0.0
        self._finished = finished
        self._busy_integral = 0.0
        self._busy_at = 0.0
        self._recent: dict[int, deque[float]] = {}

    def accept(self, job: Job) -> None:
        job.server = self.index
        job.inside_then = self.inside
        self.inside += 1
        if self.failing:
            self.world.at(self.world.now + FAIL_SECONDS, self._leave, job, False)
        else:
            self._enter(job)

    def change(self, factor: float) -> None:
        """Work goes on at `factor` of the speed from now on."""
        self.factor = factor

    def busy_seconds(self) -> float:
        """∫ utilisation dt so far."""
        self._integrate()
        return self._busy_integral

    def expected_seconds(self) -> float:
        """What one more request would take on average, known exactly: the oracle's view."""
        raise NotImplementedError

    def latency_at_load(self) -> float | None:
        """Median of recent response times at about the present number inside: what Prequal's probe answers."""
        if not self._recent:
            return None
        inside = self.inside
        recent = self._recent.get(inside)
        if recent is None:
            recent = self._recent[min(self._recent, key=lambda known: abs(known - inside))]
        return median(recent)

    def _utilisation(self) -> float:
        raise NotImplementedError

    def _enter(self, job: Job) -> None:
        raise NotImplementedError

    def _integrate(self) -> None:
        now = self.world.now
        self._busy_integral += self._utilisation() * (now - self._busy_at)
        self._busy_at = now

    def _leave(self, job: Job, ok: bool) -> None:
        self.inside -= 1
        took = self.world.now - job.arrived
        self.done += 1
        self.failed += not ok
        self.seconds += took
        recent = self._recent.get(job.inside_then)
        if recent is None:
            recent = self._recent[job.inside_then] = deque(maxlen=MEMORY_RECENT)
        recent.append(took)
        self._finished(job, ok)


class SlotServer(Server):
    """SLOTS requests at a time, first come, first served. A change of speed counts for those that start after it."""

    def __init__(self, world: World, index: int, speed: float, finished: Callable[[Job, bool], None]) -> None:
        super().__init__(world, index, speed, finished)
        self._busy = 0
        self._queue: deque[Job] = deque()

    def _utilisation(self) -> float:
        return self._busy / SLOTS

    def _enter(self, job: Job) -> None:
        if self._busy < SLOTS:
            self._integrate()
            self._busy += 1
            self._start(job)
        else:
            self._queue.append(job)

    def _start(self, job: Job) -> None:
        self.world.at(self.world.now + job.work / (self.speed * self.factor), self._end, job)

    def _end(self, job: Job) -> None:
        if self._queue:
            self._start(self._queue.popleft())
        else:
            self._integrate()
            self._busy -= 1
        self._leave(job, True)

    def expected_seconds(self) -> float:
        if self.failing:
            return 1e9
        service = MEAN_SECONDS / (self.speed * self.factor)
        waiting = len(self._queue) + 1 if self._busy >= SLOTS else 0
        return service * (1.0 + waiting / SLOTS)


class BatchServer(Server):
    """Up to BATCH requests together: each goes at full speed up to SLOTS of them, then they share what SLOTS would get."""

    kind = "batch"

    def __init__(self, world: World, index: int, speed: float, finished: Callable[[Job, bool], None]) -> None:
        super().__init__(world, index, speed, finished)
        self._batch: list[tuple[float, int, Job]] = []
        self._queue: deque[Job] = deque()
        self._progress = 0.0
        self._progress_at = 0.0
        self._version = 0
        self._order = 0

    def _utilisation(self) -> float:
        return len(self._batch) / BATCH

    def _rate(self, count: int) -> float:
        return self.speed * self.factor * min(1.0, SLOTS / count) if count else 0.0

    def _advance(self) -> None:
        self._integrate()
        now = self.world.now
        self._progress += self._rate(len(self._batch)) * (now - self._progress_at)
        self._progress_at = now

    def change(self, factor: float) -> None:
        self._advance()
        self.factor = factor
        self._plan()

    def _enter(self, job: Job) -> None:
        if len(self._batch) >= BATCH:
            self._queue.append(job)
            return
        self._advance()
        self._join(job)
        self._plan()

    def _join(self, job: Job) -> None:
        self._order += 1
        heappush(self._batch, (self._progress + job.work, self._order, job))

    def _plan(self) -> None:
        self._version += 1
        if self._batch:
            left = max(0.0, self._batch[0][0] - self._progress) / self._rate(len(self._batch))
            self.world.at(self.world.now + left, self._end, self._version)

    def _end(self, version: int) -> None:
        if version != self._version:
            return
        self._advance()
        _, _, job = heappop(self._batch)
        if self._queue:
            self._join(self._queue.popleft())
        self._plan()
        self._leave(job, True)

    def expected_seconds(self) -> float:
        if self.failing:
            return 1e9
        count = len(self._batch) + 1
        speed = self.speed * self.factor
        served = MEAN_SECONDS / (speed * min(1.0, SLOTS / min(count, BATCH)))
        return served + len(self._queue) * MEAN_SECONDS / (SLOTS * speed)
