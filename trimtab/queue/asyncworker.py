"""The worker loop for asyncio: one taker, many handlers; each trip settles what has finished and takes for the free places."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from trimtab.errors import QueueUnavailable
from trimtab.queue.job import Job
from trimtab.queue.protocol import MAX_BATCH, Settlement, done
from trimtab.queue.worker import DOWN_PAUSE_SECONDS

if TYPE_CHECKING:
    from trimtab.queue.asynchronous import AsyncRequestQueue

log = logging.getLogger("trimtab.queue")

AsyncHandler = Callable[[Job], Awaitable[bytes | None]]


@contextlib.contextmanager
def stopped_by_signals(stop: asyncio.Event, wanted: bool) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop` while this lasts. Only the main thread may ask for that."""
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def work(
    queue: AsyncRequestQueue, handler: AsyncHandler, *, concurrency: int, stop: asyncio.Event, signals: bool
) -> None:
    """See `AsyncRequestQueue.work`."""
    if not 1 <= concurrency <= MAX_BATCH:
        raise ValueError(f"concurrency is {concurrency}; it must be 1 to {MAX_BATCH}")
    with stopped_by_signals(stop, signals):
        await _Crew(queue, handler, concurrency, stop).run()


class _Crew:
    def __init__(self, queue: AsyncRequestQueue, handler: AsyncHandler, concurrency: int, stop: asyncio.Event) -> None:
        self.queue = queue
        self.handler = handler
        self.concurrency = concurrency
        self.stop = stop
        self.running: set[asyncio.Task[None]] = set()
        self.settled: list[Settlement] = []
        self.finished = asyncio.Event()

    async def run(self) -> None:
        stopped = asyncio.create_task(self.stop.wait())
        idle: asyncio.Task[None] | None = None
        try:
            while not self.stop.is_set():
                pause, took = await self._trip(self.concurrency - len(self.running))
                if self.stop.is_set() or took or self.settled:
                    continue
                # Wake for whichever comes first: a finished handler, new work (when there is a free place), the stop.
                full = len(self.running) >= self.concurrency
                if idle is None and not full:
                    idle = asyncio.create_task(self.queue.idle(pause))
                finished = asyncio.create_task(self.finished.wait())
                watched: set[asyncio.Task[object]] = {stopped, finished}
                if idle is not None and not full:
                    watched.add(idle)
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                finished.cancel()
                if idle is not None and idle.done():
                    with contextlib.suppress(QueueUnavailable):
                        idle.result()
                    idle = None
        finally:
            stopped.cancel()
            if idle is not None:
                idle.cancel()
                await asyncio.gather(idle, return_exceptions=True)
            await self._finish()

    async def _trip(self, free: int) -> tuple[float, bool]:
        """Settle and take. Returns how long to stay idle, seconds, and whether the next trip may be made at once."""
        self.finished.clear()
        sending = self.settled[:MAX_BATCH]
        try:
            pause, jobs, lost = await self.queue.step(sending, free)
        except QueueUnavailable as error:
            # The settlements are kept and tried again: only Redis knows whether the leases are still ours.
            log.warning("queue unavailable, trying again: %s", error)
            await asyncio.sleep(DOWN_PAUSE_SECONDS)
            return DOWN_PAUSE_SECONDS, True
        del self.settled[: len(sending)]
        if lost:
            log.warning("lease lost, result dropped: %s", ", ".join(lost))
        for job in jobs:
            task = asyncio.create_task(self._handle(job))
            self.running.add(task)
            task.add_done_callback(self.running.discard)
        return pause, bool(jobs) and len(self.running) < self.concurrency

    async def _handle(self, job: Job) -> None:
        try:
            outcome = done(job, await self.handler(job))
        except asyncio.CancelledError:
            self.settled.append(self.queue.protocol.failure(job, "the worker was interrupted", True, 0.0))
            raise
        except Exception as error:  # noqa: BLE001 - the handler's failure is this request's, not the worker's
            outcome = self.queue.protocol.outcome(job, error)
        self.settled.append(outcome)
        self.finished.set()

    async def _finish(self) -> None:
        """Let handlers end, or when this task is being cancelled end them, and settle."""
        cancelled = not self.stop.is_set()
        for task in self.running if cancelled else ():
            task.cancel()
        while self.running or self.settled:
            if self.settled:
                with contextlib.suppress(QueueUnavailable):  # then the leases run out
                    await self.queue.step(self.settled[:MAX_BATCH], 0)
                del self.settled[:MAX_BATCH]
            if self.running:
                await asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
