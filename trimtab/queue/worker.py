"""The worker loop for threads: settle what is done and take the next in one round trip, block when there is nothing."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from trimtab.errors import QueueUnavailable
from trimtab.queue.job import Job
from trimtab.queue.protocol import MAX_BATCH, Settlement, done

if TYPE_CHECKING:
    from trimtab.queue.synchronous import RequestQueue

log = logging.getLogger("trimtab.queue")

Handler = Callable[[Job], bytes | None]

FLUSH_SECONDS = 0.05
"""In a batch, a finished request waits at most this long, and the rest of one job, for its result to be written."""
DOWN_PAUSE_SECONDS = 0.5


@contextlib.contextmanager
def stopped_by_signals(stop: threading.Event, wanted: bool) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop` while this lasts. Only the main thread may ask for that."""
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def work(
    queue: RequestQueue, handler: Handler, *, threads: int, batch: int, stop: threading.Event, signals: bool
) -> None:
    """See `RequestQueue.work`."""
    if threads < 1 or not 1 <= batch <= MAX_BATCH:
        raise ValueError(
            f"threads is {threads} and batch is {batch}; they must be at least 1, and batch at most {MAX_BATCH}"
        )
    with stopped_by_signals(stop, signals):
        others = [
            threading.Thread(target=_loop, args=(queue, handler, batch, stop), name=f"trimtab-worker-{index}")
            for index in range(1, threads)
        ]
        for thread in others:
            thread.start()
        try:
            _loop(queue, handler, batch, stop)
        finally:
            stop.set()
            for thread in others:
                thread.join()


def _loop(queue: RequestQueue, handler: Handler, batch: int, stop: threading.Event) -> None:
    settled: list[Settlement] = []
    jobs: list[Job] = []
    try:
        while not stop.is_set():
            try:
                pause, jobs, lost = queue.step(settled, batch)
                settled.clear()
                if lost:
                    log.warning("lease lost, result dropped: %s", ", ".join(lost))
                if not jobs:
                    queue.idle(pause)
                    continue
            except QueueUnavailable as error:
                # The settlements are kept and tried again: only Redis knows whether the leases are still ours.
                log.warning("queue unavailable, trying again: %s", error)
                stop.wait(DOWN_PAUSE_SECONDS)
                continue
            _handle(queue, handler, jobs, settled, stop)
    finally:
        settled += [(b"back", job, b"") for job in jobs]
        if settled:
            with contextlib.suppress(QueueUnavailable):  # then the leases run out
                queue.step(settled, 0)


def _handle(
    queue: RequestQueue, handler: Handler, jobs: list[Job], settled: list[Settlement], stop: threading.Event
) -> None:
    """Empty `jobs` into `settled`. Stops between two jobs; what is left in `jobs` was not started."""
    flush_at = time.monotonic() + FLUSH_SECONDS
    jobs.reverse()
    while jobs and not stop.is_set():
        job = jobs.pop()
        try:
            settled.append(done(job, handler(job)))
        except Exception as error:  # noqa: BLE001 - the handler's failure is this request's, not the worker's
            settled.append(queue.protocol.outcome(job, error))
        except BaseException:
            settled.append(queue.protocol.failure(job, "the worker was interrupted", retry=True, after_seconds=0.0))
            raise
        if jobs and time.monotonic() > flush_at:
            with contextlib.suppress(QueueUnavailable):
                queue.step(settled, 0)
                settled.clear()
            flush_at = time.monotonic() + FLUSH_SECONDS
