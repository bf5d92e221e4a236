"""Chaos on real processes: what `chaos()` breaks, for how long, and what must hold all the while and at the end."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

from support.redis_lab import Proxy, RedisServer, until
from support.skew import SKEWS, library, skewed

from trimtab import RequestQueue
from trimtab.errors import QueueError, QueueUnavailable, RequestDead, RequestExpired

AOF = ("--appendonly", "yes", "--appendfsync", "always")
FORMS = ("threads", "batch", "asyncio")
CLOCKS = (None, *SKEWS)
"""Of the workers, in turn: a true one, and wrong ones where libfaketime is installed."""


class Workers:
    """Worker processes. All of them end with the context, whatever happens."""

    def __init__(self, folder: Path, url: str, policy: str, lease_seconds: float, job_seconds: float = 0.3) -> None:
        self.arguments = [url, policy, str(lease_seconds), str(job_seconds)]
        self.log = folder / "workers.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.skewed: Counter[str] = Counter()
        """Workers that were started with a wrong clock, by form."""

    def start(self, form: str = "threads", skew: str | None = None) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            script = Path(__file__).with_name("queue_worker.py")
            command = [sys.executable, str(script), form, *self.arguments]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=skewed(skew))
        self.processes.append(process)
        if skew is not None and library() is not None:
            self.skewed[form] += 1
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        self.processes.remove(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in list(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            self.kill(process)


class Watch:
    """Samples the queue past the proxy, changes the limit between two samples, and keeps what it saw wrong."""

    def __init__(self, queue: RequestQueue) -> None:
        self.queue = queue
        self.samples = 0
        self.over: list[tuple[int, int, int]] = []
        self.limit = 4
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        slots, change_at = 0, 0.0
        limits = {self.queue.settings.default_limit, self.limit}
        while not self.stop.is_set():
            try:
                if time.monotonic() >= change_at:
                    limits.add(self.limit)
                    self.queue.set_limit(self.limit)
                    self.limit = random.choice([3, 6, 10, 16, 24])
                    change_at = time.monotonic() + 1.0
                seen = self.queue.inspect()
            except QueueError:
                continue  # Redis is down just now
            self.samples += 1
            # More slots than then, and than any limit since then, is a start above the limit.
            if seen.slots_in_use > max(slots, *limits, seen.limit):
                self.over.append((slots, seen.slots_in_use, seen.limit))
            slots, limits = seen.slots_in_use, {seen.limit}
            self.stop.wait(0.002)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def produce(queue: RequestQueue, stop: threading.Event, acknowledged: list[str]) -> None:
    """Enqueue until stopped. An id counts only when its enqueue was acknowledged."""
    while not stop.is_set():
        name = uuid.uuid4().hex
        payload = random.choice([b"plain", b"plain", b"fails at first"])
        deadline = random.choice([None, None, None, 1.0])
        with contextlib.suppress(QueueUnavailable):
            queue.enqueue(
                payload, id=name, cost=random.choice([1, 1, 2, 9]), priority=random.randint(-1, 1), deadline=deadline
            )
            acknowledged.append(name)
        stop.wait(0.05)


def chaos(folder: Path, seconds: float, lease_seconds: float = 1.0) -> dict[str, float]:
    """Break things for `seconds`, or until a lease was lost, then let the queue drain.

    Returns:
        What happened: acknowledged, done, dead, expired, over_limit, samples, lost_leases, dropped_replies, kills, stops,
        restarts, and skewed:FORM, the workers of a form that had a wrong clock.

    Raises:
        AssertionError: a request did not end.
    """
    policy = f"chaos/{uuid.uuid4().hex}"
    done: Counter[str] = Counter()
    acknowledged: list[str] = []
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer(folder / "redis", *AOF))
        proxy = stack.enter_context(Proxy(server.port))
        queue = stack.enter_context(RequestQueue(policy, redis=server.url, timeout_seconds=20))
        producer = stack.enter_context(RequestQueue(policy, redis=proxy.url, timeout_seconds=20))
        workers = stack.enter_context(Workers(folder, proxy.url, policy, lease_seconds))
        # A wrong clock for each form from the start, and a true one.
        for form, skew in ((FORMS[0], "+1h"), (FORMS[1], "-20s"), (FORMS[2], "-1h"), (FORMS[0], None)):
            workers.start(form, skew)
        with Watch(queue) as watch:
            thread = threading.Thread(target=produce, args=(producer, stop, acknowledged))
            thread.start()
            try:
                until(lambda: queue.inspect().counters.completions > 0, timeout_seconds=60)
                _break(server, proxy, workers, queue, seconds=seconds, lease_seconds=lease_seconds, done=done)
            finally:
                stop.set()
                thread.join()
            until(lambda: _drained(queue), timeout_seconds=60 + seconds)
        for name in acknowledged:
            done[_end(queue, name)] += 1
        counters = queue.inspect().counters
        assert counters.completions + counters.expired + counters.dead == counters.arrivals
        return {
            "acknowledged": len(acknowledged),
            "over_limit": len(watch.over),
            "samples": watch.samples,
            "lost_leases": counters.lost,
            "dropped_replies": proxy.dropped,
            **{f"skewed:{form}": workers.skewed[form] for form in FORMS},
            **{name: done[name] for name in ("done", "dead", "expired", "unfinished", "kills", "stops", "restarts")},
        }


def _break(server, proxy, workers, queue, *, seconds, lease_seconds, done) -> None:
    """For so long, and on until chance has let a worker lose a lease; at most six times as long."""
    end = time.monotonic() + seconds
    latest = end + 5 * seconds
    faults = ["kill", "drop", "stop", "drop", "restart", "kill", "drop"]
    turn = 0
    while time.monotonic() < end or (time.monotonic() < latest and not queue.inspect().counters.lost):
        time.sleep(0.4)  # the pace of the chaos
        fault = faults[turn % len(faults)]
        turn += 1
        if fault == "drop":
            proxy.drop_replies(3)
        elif fault == "kill":
            workers.kill(random.choice(workers.processes))
            workers.start(random.choice(FORMS), random.choice(CLOCKS))
            done["kills"] += 1
        elif fault == "stop":
            process = random.choice(workers.processes)
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(3 * lease_seconds)  # for several leases
            os.kill(process.pid, signal.SIGCONT)
            done["stops"] += 1
        else:
            server.kill()
            server.start()
            done["restarts"] += 1


def _drained(queue: RequestQueue) -> bool:
    seen = queue.inspect()
    return seen.waiting + seen.delayed + seen.in_flight == 0


def _end(queue: RequestQueue, name: str) -> str:
    try:
        queue.wait(name, timeout_seconds=0.01)
    except RequestDead:
        return "dead"
    except RequestExpired:
        return "expired"
    except QueueError:
        return "unfinished"
    return "done"


def recovery(folder: Path, lease_seconds: float = 1.0, holders: int = 2) -> float:
    """Kill -9 every worker that holds a slot; seconds until idle workers have started all of that work, by Redis' clock."""
    policy = f"recovery/{uuid.uuid4().hex}"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer(folder / "redis", *AOF))
        queue = stack.enter_context(
            RequestQueue(policy, redis=server.url, lease_seconds=lease_seconds, default_limit=2 * holders)
        )
        workers = stack.enter_context(Workers(folder, server.url, policy, lease_seconds, job_seconds=600))
        queue.set_limit(2 * holders)
        queue.enqueue_many([b"long"] * (2 * holders))
        held = [workers.start() for _ in range(holders)]
        until(lambda: queue.inspect().in_flight == 2 * holders)
        for process in held:
            workers.kill(process)
        killed_at = queue.inspect().at
        jobs = []
        while len(jobs) < 2 * holders:
            jobs += queue.take(2 * holders, wait_seconds=10)
            assert jobs, "nothing came back"
        assert all(job.attempt == 2 for job in jobs)
        return max(job.started_at for job in jobs) - killed_at
