"""The queue for asyncio: the same scripts, settings and guarantees as `RequestQueue`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from redis import Redis, RedisCluster
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio import RedisCluster as AsyncRedisCluster

from trimtab.errors import LeaseLost, WaitTimedOut
from trimtab.queue import protocol as wire
from trimtab.queue.asynclink import Ears, connect, persist
from trimtab.queue.asyncworker import AsyncHandler, work
from trimtab.queue.counters import Inspection
from trimtab.queue.job import DeadLetter, Job
from trimtab.queue.keeper import Keeper
from trimtab.queue.protocol import Protocol, Request, Settings, Settlement, script

LOOK_AGAIN_SECONDS = 5.0
"""A waiter is told by a message; should that get lost with a connection, it looks by itself."""


class AsyncRequestQueue:
    """`RequestQueue` for asyncio; see there for the arguments that are not listed. One per event loop.

    Args:
        redis: URL or client (`redis.asyncio.Redis`, a Sentinel's `master_for`, `redis.asyncio.RedisCluster`).
        keeper: URL or client of `redis` (not `redis.asyncio`) for the thread that renews leases; not needed when `redis` is an
            URL. A thread, so that a handler which computes for longer than a lease keeps it.
    """

    def __init__(
        self,
        policy: str,
        *,
        redis: str | AsyncRedis | AsyncRedisCluster = "redis://localhost:6379/0",
        keeper: str | Redis | RedisCluster | None = None,
        name: str = "model_requests",
        default_limit: int = 5,
        lease_seconds: float = 10.0,
        max_length: int | None = 10_000,
        max_attempts: int = 3,
        result_ttl_seconds: float = 600.0,
        priority_seconds: float = 30.0,
        backoff_seconds: float = 1.0,
        timeout_seconds: float = 5.0,
    ) -> None:
        if keeper is None and not isinstance(redis, str):
            raise ValueError(
                "give `keeper`: an URL or a client of `redis` to the same server, for the thread that renews leases"
            )
        self.settings = Settings(
            default_limit,
            lease_seconds,
            max_length,
            max_attempts,
            result_ttl_seconds,
            priority_seconds,
            backoff_seconds,
            timeout_seconds,
        )
        self.protocol = Protocol(policy, name, self.settings)
        self._link = connect(redis, self.protocol.all_keys)
        self._keeper = Keeper(self.protocol, keeper if keeper is not None else str(redis))
        self._ears = Ears(self._link.client, f"{self.protocol.keys.waiters}:")
        self._enqueue = script("enqueue")
        self._next = script("next")

    # Producers

    async def enqueue(
        self,
        payload: bytes,
        *,
        id: str | None = None,  # noqa: A002 - the public word for it
        priority: int = 0,
        deadline: float | None = None,
        cost: int = 1,
    ) -> str:
        """Put one request in line and return its id. See `RequestQueue.enqueue`."""
        return (await self.enqueue_many([Request(payload, id, priority, deadline, cost)]))[0]

    async def enqueue_many(self, requests: Iterable[Request | bytes]) -> list[str]:
        """Put up to 500 requests in line in one round trip: all of them or, with QueueFull, none. Returns their ids."""
        batch = [Request(request) if isinstance(request, bytes) else request for request in requests]
        if not batch:
            return []
        arguments, ids = self.protocol.enqueue(batch)

        def call(repeated: bool) -> Awaitable[Any]:
            if repeated:
                arguments[wire.FRESH] = b"0"
            return self._link.evaluate(self._enqueue, arguments, wire.enqueue_keys(arguments))

        self.protocol.check_accepted(await persist(call, self.settings.timeout_seconds))
        return ids

    async def wait(self, id: str, timeout_seconds: float | None = None) -> bytes:  # noqa: A002 - the public word for it
        """The result of a request, as soon as it is there; raises as `RequestQueue.wait`. All waiters share one connection."""
        result = await self._look(id, register=False)
        if result is not None:
            return result
        try:
            async with asyncio.timeout(timeout_seconds):
                async with self._ears.on(id) as heard:
                    # Subscribed; now register, and look: whatever ends the request from here on is heard.
                    while True:
                        result = await self._look(id, register=True)
                        if result is not None:
                            return result
                        try:
                            async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                                await heard.wait()
                        except TimeoutError:
                            await self.step([], 0)  # see RequestQueue.wait
        except TimeoutError:
            raise WaitTimedOut(id, timeout_seconds or 0.0) from None

    async def _look(self, name: str, *, register: bool) -> bytes | None:
        return wire.final(name, await self._call(script("look"), [name.encode(), b"1" if register else b"0"]))

    # Workers

    async def take(self, n: int = 1, wait_seconds: float = 0.0) -> list[Job]:
        """Lease up to `n` requests, at most 500, waiting up to `wait_seconds` for the first. Renewed until settled."""
        end = asyncio.get_running_loop().time() + wait_seconds
        while True:
            pause, jobs, _ = await self.step([], n)
            left = end - asyncio.get_running_loop().time()
            if jobs or left <= 0:
                return jobs
            await self.idle(min(pause, left))

    async def idle(self, seconds: float) -> None:
        """Wait until there may be something to take; at most `seconds`."""
        self._keeper.listen()
        key = self.protocol.keys.wake
        await persist(
            lambda _: self._link.pop(key, max(seconds, wire.LEAST_BLOCK_SECONDS)), self.settings.timeout_seconds
        )

    async def complete(self, job: Job, result: bytes = b"", *, take: int = 0) -> list[Job]:
        """Settle a job with its result and, in the same round trip, take the next ones. Raises LeaseLost."""
        return await self.settle([wire.done(job, result)], take=take)

    async def complete_many(self, results: Iterable[tuple[Job, bytes]], *, take: int = 0) -> list[Job]:
        """The same for several jobs. LeaseLost names the lost ones; the others are settled all the same."""
        return await self.settle([wire.done(job, result) for job, result in results], take=take)

    async def fail(
        self, job: Job, reason: str = "failed", *, retry: bool = True, after_seconds: float | None = None
    ) -> None:
        """Settle a job as failed: tried again after a back-off until `max_attempts`, or with `retry=False` a dead letter."""
        await self.settle([self.protocol.failure(job, reason, retry, after_seconds)])

    async def release(self, jobs: Iterable[Job]) -> None:
        """Give jobs back unstarted, to their old place in line; no attempt is counted."""
        await self.settle([(b"back", job, b"") for job in jobs])

    async def settle(self, settlements: Sequence[Settlement], *, take: int = 0) -> list[Job]:
        """Settle several jobs, each in its way, and take the next ones, in one round trip. Raises LeaseLost."""
        _, jobs, lost = await self.step(settlements, take)
        if lost:
            if jobs:
                await self.release(jobs)
            raise LeaseLost(lost)
        return jobs

    async def step(self, settlements: Sequence[Settlement], take: int) -> tuple[float, list[Job], tuple[str, ...]]:
        """One call of the script; see `RequestQueue.step`."""
        arguments = self.protocol.next(take, settlements)

        def call(repeated: bool) -> Awaitable[Any]:
            if repeated:
                arguments[wire.REPEATED] = b"1"
            return self._link.evaluate(self._next, arguments)

        for _, job, _ in settlements:
            job.settling = True
        reply = await persist(call, self.settings.timeout_seconds)
        self._keeper.drop(settlements)
        jobs = wire.jobs(reply) if len(reply) > 2 else []
        if jobs:
            self._keeper.hold(jobs)
        return reply[0] / 1000, jobs, wire.lost(reply, settlements)

    async def work(
        self,
        handler: AsyncHandler,
        *,
        concurrency: int = 10,
        stop: asyncio.Event | None = None,
        signals: bool = True,
    ) -> None:
        """Take and handle requests until stopped.

        Args:
            handler: coroutine function; gets a Job, returns the result (bytes, or None for an empty one). An exception is a
                failed attempt; `Reject` and `Retry` say more.
            concurrency: handlers at once in this process.
            stop: when set, jobs in progress are finished and `work` returns.
            signals: SIGTERM and SIGINT set `stop`; only in the main thread.
        """
        await work(self, handler, concurrency=concurrency, stop=stop or asyncio.Event(), signals=signals)

    # Operators

    async def set_limit(self, limit: int, valid_for_seconds: float | None = None) -> None:
        """Set the limit by hand, for queues with no controller, and wake the workers. Without a time it holds for ever."""
        if limit < 0:
            raise ValueError(f"limit is {limit}; it must be at least 0")
        expiry = None if valid_for_seconds is None else max(1, int(valid_for_seconds * 1000))
        client: Any = self._link.client
        await persist(lambda _: client.set(self.protocol.limit, limit, px=expiry), self.settings.timeout_seconds)
        await self._call(script("poke"), [self.protocol.default_limit])

    async def inspect(self) -> Inspection:
        """What the queue holds and has counted, at one instant."""
        return wire.inspection(await self._call(script("inspect"), [self.protocol.default_limit]))

    async def dead_letters(self, offset: int = 0, count: int = 100) -> list[DeadLetter]:
        """Requests that were given up, the oldest first."""
        return wire.dead_letters(await self._call(script("dead"), [b"list", b"%d" % offset, b"%d" % count]))

    async def requeue(self, ids: Iterable[str]) -> int:
        """Give dead letters a new life, with all attempts and no deadline. Returns how many."""
        named = [name.encode() for name in ids]
        arguments = [b"requeue", self.protocol.default_limit, self.protocol.aging_us, *named]
        return int(await self._call(script("dead"), arguments))

    async def purge(self, ids: Iterable[str]) -> int:
        """Forget dead letters for ever. Returns how many."""
        return int(await self._call(script("dead"), [b"purge", *(name.encode() for name in ids)]))

    async def close(self) -> None:
        """Stop renewing and close the connections. Jobs in hand are not settled: their leases run out."""
        self._keeper.close()
        await self._ears.close()
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, lua: wire.Script, arguments: list[bytes]) -> Any:
        evaluate: Callable[[wire.Script, list[bytes]], Awaitable[Any]] = self._link.evaluate
        return await persist(lambda _: evaluate(lua, arguments), self.settings.timeout_seconds)
