"""A fleet that serves a real queue on the pods of a real control plane: what the limit, the weights and the HPA act on.

Each ready pod lends its slots to one pool, first come, first served; serving is sleeping. How busy the slots are is what
metrics.k8s.io and the exporter say, and how long requests take is measured: the loop is closed through every real part.
"""

import asyncio
import threading
import time

from acceptance_world import SIGNALS
from support.eventually import eventually

from trimtab import AsyncRequestQueue
from trimtab.contract import Keys

SLOTS, SERVICE_SECONDS = 4, 0.15
LOW, HIGH = 20.0, 90.0
"""Requests/s: two pods at 38 %, and six at 56 %; the HPA aims at 60 %."""
TARGET = 60
ENOUGH = 6


class Fleet(threading.Thread):
    """Producer, workers and meters of one world, in a thread. A context manager."""

    def __init__(self, world, default_limit):
        super().__init__(name="fleet", daemon=True)
        self.world, self.default_limit = world, default_limit
        self.rate, self.pods, self.busy, self.done = LOW, 1, 0, 0
        self.response, self.fullness = SERVICE_SECONDS, 0.0
        self.waiting = 0
        self.seen = []
        self._waiters = []
        self._began = threading.Event()
        self._ended = threading.Event()
        self.error = None

    def __enter__(self):
        self.start()
        assert self._began.wait(30)
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.join(30)
        if self.error:
            raise self.error

    def run(self):
        try:
            asyncio.run(self._run())
        except Exception as error:  # noqa: BLE001 - told by __exit__
            self.error = error

    async def _run(self):
        url = self.world.settings().redis_url
        queue = AsyncRequestQueue(
            self.world.key(), name="web_jobs", redis=url, default_limit=self.default_limit, max_length=100_000
        )
        stop = asyncio.Event()
        async with queue:
            work = asyncio.ensure_future(queue.work(self._serve, concurrency=200, stop=stop, signals=False))
            produce = asyncio.ensure_future(self._produce(queue))
            self._began.set()
            await asyncio.to_thread(self._measure)
            stop.set()
            produce.cancel()
            await asyncio.gather(work, produce, return_exceptions=True)

    async def _produce(self, queue):
        owed, then = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(0.05)
            now = time.monotonic()
            owed, then = owed + self.rate * (now - then), now
            count, owed = int(owed), owed - int(owed)
            if count:
                await queue.enqueue_many([b""] * min(count, 500))
            self.waiting = (await queue.inspect()).waiting

    async def _serve(self, _job):
        began = time.monotonic()
        while self.busy >= SLOTS * max(self.pods, 1):
            turn = asyncio.get_running_loop().create_future()
            self._waiters.append(turn)
            await turn
        self.busy += 1
        try:
            await asyncio.sleep(SERVICE_SECONDS)
        finally:
            self.busy -= 1
            self._call()
        self.done += 1
        self.response += 0.05 * (time.monotonic() - began - self.response)

    def _call(self):
        for turn in self._waiters[: SLOTS * max(self.pods, 1) - self.busy]:
            if not turn.done():
                turn.set_result(None)
        del self._waiters[: SLOTS * max(self.pods, 1) - self.busy]

    def _measure(self):
        """What the world sees of the fleet, and what stands: every quarter of a second."""
        done, then = self.done, time.monotonic()
        while not self._ended.wait(0.25):
            self.pods = self.world.ready()
            now = time.monotonic()
            capacity = SLOTS * max(self.pods, 1) * (now - then) / SERVICE_SECONDS
            share = min((self.done - done) / capacity, 1.0)
            rate = (self.done - done) / (now - then)
            done, then = self.done, now
            self.fullness += 0.3 * (share - self.fullness)
            self.world.cluster.metrics.set(self.world.namespace, "*", self.fullness, 0.5 * 2**30)
            level = (self.response, self.fullness, rate / max(self.pods, 1))
            self.world.exporter.set(self.world.namespace, level)
            keys = Keys(self.world.key())
            weights = {k: float(w) for k, w in self.world.redis.zrange(keys.weights, 0, -1, withscores=True)}
            limit = self.world.redis.get(keys.limit)
            self.seen.append((None if limit is None else int(limit), weights))

    def load(self, rate):
        self.rate = rate

    def drained(self):
        return self.waiting < 20

    def turns(self, count, timeout_seconds=60.0):
        """Wait for so many looks of the meters."""
        until = len(self.seen) + count
        eventually(lambda: len(self.seen) >= until, timeout_seconds)


def policy(world, **scaling):
    world.policy(
        least=(2, ENOUGH),
        most=(8, 8),
        sections={
            "signals": {**SIGNALS, "cpu": SIGNALS["utilisation"]},
            "concurrency": {"queue": "web_jobs", "perInstance": SLOTS, "min": 2, "max": 64, "adaptive": True},
            "slo": {"latency": "600ms", "errors": "5%"},
            "routing": {"slowStart": "2s", "validFor": "5s"},
        },
        cpu={"target": TARGET},
        memory=None,
        steps={"replicas": 2, "every": "1s", "lowerEvery": "4s"},
        **scaling,
    )


def direction_changes(values, slack=0.0):
    """How often a series turns round; moves within `slack` (a ratio) of its last extreme are none."""
    turns, direction, extreme = 0, 0, None
    for value in values:
        if extreme is None:
            extreme = value
        elif direction >= 0 and value > extreme:
            direction, extreme = 1, value
        elif direction <= 0 and value < extreme:
            direction, extreme = -1, value
        elif abs(value - extreme) > slack * abs(extreme):
            turns, direction, extreme = turns + 1, -direction, value
    return turns
