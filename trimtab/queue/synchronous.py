"""The queue for threads and processes. The scripts do the thinking; read lua/next.lua first."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from redis import Redis, RedisCluster

from trimtab.errors import LeaseLost, WaitTimedOut
from trimtab.queue import protocol as wire
from trimtab.queue.counters import Inspection
from trimtab.queue.job import DeadLetter, Job
from trimtab.queue.keeper import Keeper
from trimtab.queue.link import connect, persist
from trimtab.queue.protocol import Protocol, Request, Settings, Settlement, script
from trimtab.queue.worker import Handler, work

LOOK_AGAIN_SECONDS = 5.0
"""A waiter is told by a message; should that get lost with a connection, it looks by itself."""


class RequestQueue:
    """At most `limit` requests in flight, fleet-wide, and none lost. Safe to share between threads, and across forks.

    Args:
        policy: `namespace/name` of the load policy whose limit the controller sets.
        redis: URL (`redis://`, `rediss://`, `unix://`), or a client: `redis.Redis`, a Sentinel's `master_for`, `RedisCluster`.
            The queue repeats calls itself, so a client of yours should be made with few retries of its own.
        name: of the queue, as in the policy's `concurrency.queue`.
        default_limit: requests in flight while the controller has set no limit. 0 pauses.
        lease_seconds: a worker that dies gives its requests and slots back after this long; live ones renew.
        max_length: requests that may wait; None for no bound.
        max_attempts: starts, before a request becomes a dead letter.
        result_ttl_seconds: results and ids are remembered for at least this long after the end.
        priority_seconds: one level of priority is worth this much waiting, so nothing starves.
        backoff_seconds: pause before the second attempt; doubles with each.
        timeout_seconds: how long a call may take when Redis does not answer, before QueueUnavailable.
    """

    def __init__(
        self,
        policy: str,
        *,
        redis: str | Redis | RedisCluster = "redis://localhost:6379/0",
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
        self._keeper = Keeper(self.protocol, redis)
        self._enqueue = script("enqueue")
        self._next = script("next")

    # Producers

    def enqueue(
        self,
        payload: bytes,
        *,
        id: str | None = None,  # noqa: A002 - the public word for it
        priority: int = 0,
        deadline: float | None = None,
        cost: int = 1,
    ) -> str:
        """Put one request in line.

        Args:
            payload: opaque bytes; `to_json` makes some.
            id: at most 200 bytes; the same id again is the same request, until its result is forgotten. Made when not given.
            priority: higher starts sooner; each level is worth `priority_seconds` of waiting.
            deadline: seconds from now, by the server's clock, after which it must not be started.
            cost: slots that it occupies while in flight, out of `limit`.

        Returns:
            The id.

        Raises:
            QueueFull: with `retry_after_seconds`.
            QueueUnavailable: it may have been accepted; repeat with the same id.
        """
        return self.enqueue_many([Request(payload, id, priority, deadline, cost)])[0]

    def enqueue_many(self, requests: Iterable[Request | bytes]) -> list[str]:
        """Put up to 500 requests in line in one round trip: all of them or, with QueueFull, none. Returns their ids."""
        batch = [Request(request) if isinstance(request, bytes) else request for request in requests]
        if not batch:
            return []
        arguments, ids = self.protocol.enqueue(batch)

        def call(repeated: bool) -> Any:
            if repeated:
                arguments[wire.FRESH] = b"0"
            return self._link.evaluate(self._enqueue, arguments, wire.enqueue_keys(arguments))

        self.protocol.check_accepted(persist(call, self.settings.timeout_seconds))
        return ids

    def wait(self, id: str, timeout_seconds: float | None = None) -> bytes:  # noqa: A002 - the public word for it
        """The result of a request, as soon as it is there.

        Raises:
            RequestDead: given up, with the reason.
            RequestExpired: its deadline passed.
            UnknownRequest: never enqueued, or forgotten.
            WaitTimedOut: none within `timeout_seconds`.
        """
        result = self._look(id, register=False)
        if result is not None:
            return result
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        client: Any = self._link.client
        with contextlib.closing(client.pubsub()) as channel:
            # Subscribe, then register, then look: whatever ends the request from here on is heard.
            persist(lambda _: channel.subscribe(f"{self.protocol.keys.waiters}:{id}"), self.settings.timeout_seconds)
            while True:
                message = persist(
                    lambda _: channel.get_message(timeout=LOOK_AGAIN_SECONDS), self.settings.timeout_seconds
                )
                if message is None or message["type"] == "subscribe":
                    break
            while True:
                result = self._look(id, register=True)
                if result is not None:
                    return result
                left = LOOK_AGAIN_SECONDS if end is None else min(LOOK_AGAIN_SECONDS, end - time.monotonic())
                if left <= 0:
                    raise WaitTimedOut(id, timeout_seconds or 0.0)
                if self._hear(channel, left) is None:
                    self.step([], 0)  # should no worker be there, nobody else sees that deadlines and leases end

    def _hear(self, channel: Any, seconds: float) -> Any:
        return persist(lambda _: channel.get_message(timeout=seconds), self.settings.timeout_seconds)

    def _look(self, name: str, *, register: bool) -> bytes | None:
        return wire.final(name, self._call(script("look"), [name.encode(), b"1" if register else b"0"]))

    # Workers

    def take(self, n: int = 1, wait_seconds: float = 0.0) -> list[Job]:
        """Lease up to `n` requests, in order of priority and age. The leases are renewed until the jobs are settled.

        Args:
            n: at most 500.
            wait_seconds: how long to wait for the first one. 0: what is there now.
        """
        end = time.monotonic() + wait_seconds
        while True:
            pause, jobs, _ = self.step([], n)
            left = end - time.monotonic()
            if jobs or left <= 0:
                return jobs
            self.idle(min(pause, left))

    def idle(self, seconds: float) -> None:
        """Block until there may be something to take; at most `seconds`."""
        self._keeper.listen()
        persist(
            lambda _: self._link.pop(self.protocol.keys.wake, max(seconds, wire.LEAST_BLOCK_SECONDS)),
            self.settings.timeout_seconds,
        )

    def complete(self, job: Job, result: bytes = b"", *, take: int = 0) -> list[Job]:
        """Settle a job with its result and, in the same round trip, take the next ones.

        Raises:
            LeaseLost: another worker has the request by now; this result was dropped, nothing was taken.
        """
        return self.settle([wire.done(job, result)], take=take)

    def complete_many(self, results: Iterable[tuple[Job, bytes]], *, take: int = 0) -> list[Job]:
        """The same for several jobs. LeaseLost names the lost ones; the others are settled all the same."""
        return self.settle([wire.done(job, result) for job, result in results], take=take)

    def fail(self, job: Job, reason: str = "failed", *, retry: bool = True, after_seconds: float | None = None) -> None:
        """Settle a job as failed: tried again after a back-off until `max_attempts`, or with `retry=False` a dead letter."""
        self.settle([self.protocol.failure(job, reason, retry, after_seconds)])

    def release(self, jobs: Iterable[Job]) -> None:
        """Give jobs back unstarted, to their old place in line; no attempt is counted."""
        self.settle([(b"back", job, b"") for job in jobs])

    def settle(self, settlements: Sequence[Settlement], *, take: int = 0) -> list[Job]:
        """Settle several jobs, each in its way, and take the next ones, in one round trip.

        Raises:
            LeaseLost: names the jobs that were not this worker's any more. What was taken beside is given back.
        """
        _, jobs, lost = self.step(settlements, take)
        if lost:
            if jobs:
                self.release(jobs)
            raise LeaseLost(lost)
        return jobs

    def step(self, settlements: Sequence[Settlement], take: int) -> tuple[float, list[Job], tuple[str, ...]]:
        """One call of the script: what `work` is made of.

        Returns:
            How long to stay idle when no job came, seconds; the jobs; ids of the settled jobs whose lease was lost.
        """
        arguments = self.protocol.next(take, settlements)

        def call(repeated: bool) -> Any:
            if repeated:
                arguments[wire.REPEATED] = b"1"
            return self._link.evaluate(self._next, arguments)

        for _, job, _ in settlements:
            job.settling = True
        reply = persist(call, self.settings.timeout_seconds)
        self._keeper.drop(settlements)
        jobs = wire.jobs(reply) if len(reply) > 2 else []
        if jobs:
            self._keeper.hold(jobs)
        return reply[0] / 1000, jobs, wire.lost(reply, settlements)

    def work(
        self,
        handler: Handler,
        *,
        threads: int = 1,
        batch: int = 1,
        stop: threading.Event | None = None,
        signals: bool = True,
    ) -> None:
        """Take and handle requests until stopped.

        Args:
            handler: gets a Job, returns the result (bytes, or None for an empty one). An exception is a failed attempt;
                `Reject` and `Retry` say more.
            threads: handlers at once in this process. For handlers that compute in Python, start processes instead.
            batch: jobs leased at a time by each thread. More than 1 pays when a job takes less than some 10 ms.
            stop: when set, jobs in progress are finished, leased but unstarted ones go back to the queue, and `work` returns.
            signals: SIGTERM and SIGINT set `stop`; only in the main thread.
        """
        work(self, handler, threads=threads, batch=batch, stop=stop or threading.Event(), signals=signals)

    # Operators

    def set_limit(self, limit: int, valid_for_seconds: float | None = None) -> None:
        """Set the limit by hand, for queues with no controller, and wake the workers. Without a time it holds for ever."""
        if limit < 0:
            raise ValueError(f"limit is {limit}; it must be at least 0")
        expiry = None if valid_for_seconds is None else max(1, int(valid_for_seconds * 1000))
        client: Any = self._link.client
        persist(lambda _: client.set(self.protocol.limit, limit, px=expiry), self.settings.timeout_seconds)
        self._call(script("poke"), [self.protocol.default_limit])

    def inspect(self) -> Inspection:
        """What the queue holds and has counted, at one instant."""
        return wire.inspection(self._call(script("inspect"), [self.protocol.default_limit]))

    def dead_letters(self, offset: int = 0, count: int = 100) -> list[DeadLetter]:
        """Requests that were given up, the oldest first."""
        return wire.dead_letters(self._call(script("dead"), [b"list", b"%d" % offset, b"%d" % count]))

    def requeue(self, ids: Iterable[str]) -> int:
        """Give dead letters a new life, with all attempts and no deadline. Returns how many."""
        named = [name.encode() for name in ids]
        arguments = [b"requeue", self.protocol.default_limit, self.protocol.aging_us, *named]
        return int(self._call(script("dead"), arguments))

    def purge(self, ids: Iterable[str]) -> int:
        """Forget dead letters for ever. Returns how many."""
        return int(self._call(script("dead"), [b"purge", *(name.encode() for name in ids)]))

    def close(self) -> None:
        """Stop renewing and close the connections. Jobs in hand are not settled: their leases run out."""
        self._keeper.close()
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, lua: wire.Script, arguments: list[bytes]) -> Any:
        evaluate: Callable[[wire.Script, list[bytes]], Any] = self._link.evaluate
        return persist(lambda _: evaluate(lua, arguments), self.settings.timeout_seconds)
