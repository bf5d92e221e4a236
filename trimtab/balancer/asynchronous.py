"""The balancer for asyncio: follows Redis in a background task of the running loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, NoScriptError, RedisError

from trimtab.balancer.base import BalancerBase
from trimtab.balancer.heartbeat import SCRIPT, SHA
from trimtab.balancer.session import CALL_SECONDS, READ_SCRIPT, SLICE_SECONDS, Session

RedisLike = Redis | RedisCluster | str


class AsyncBalancer(BalancerBase):
    """Chooses an endpoint for each request, for asyncio. One per process and policy.

        async with AsyncBalancer("models/model-service", "redis://redis:6379/0") as balancer:
            async with balancer.pick() as endpoint:
                reply = await client.post(f"{endpoint}/predict", json=payload)

    `pick()`, `best()`, `record()` and `status()` are plain calls: they never wait. The arguments are those of `Balancer`; `redis` is a URL or
    a client of `redis.asyncio`. Nothing is read before `start()`, or `async with`, which waits up to `wait_seconds`.
    """

    def __init__(
        self,
        policy: str,
        redis: RedisLike | None = None,
        *,
        fallback: Sequence[str] = (),
        wait_seconds: float = 1.0,
        choices: int = 8,
        share_inflight: bool = True,
        last_good_seconds: float = 600.0,
        poll_seconds: float = 5.0,
    ) -> None:
        super().__init__(
            policy,
            fallback=fallback,
            choices=choices,
            share_inflight=share_inflight,
            last_good_seconds=last_good_seconds,
        )
        if isinstance(redis, str):
            _client(redis)  # a wrong URL is told of here, not in the background
        self._redis = redis
        self._wait_seconds = wait_seconds
        self._poll_seconds = poll_seconds
        self._task: asyncio.Task[None] | None = None
        self._known = asyncio.Event()
        self._dormant = redis is not None

    async def start(self) -> Self:
        """Follow Redis from now on; waits up to `wait_seconds` for the first ranking. Never raises for want of one."""
        if self._dormant:
            self._wake()
        if self._task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_seconds):
                    await self._known.wait()
        return self

    async def close(self) -> None:
        """Stop following Redis and take back this client's counts; takes a few seconds at most. Picks still work."""
        task, self._task, self._dormant = self._task, None, False
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task], timeout=3.0 * CALL_SECONDS)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _wake(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # picked outside a loop: what is known must do
        self._dormant = False
        self._known = asyncio.Event()
        follower = _Follower(self._session, self._redis, self._poll_seconds, self._known)
        self._task = loop.create_task(follower.run(), name=f"trimtab {self.policy}")
        # Its loop may end before the balancer does; the next pick, in another loop, starts anew.
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task is self._task:
            self._task = None
            self._dormant = True

    def _after_fork(self) -> None:
        super()._after_fork()
        self._task = None
        self._dormant = self._redis is not None


def _client(url: str) -> Redis:
    return Redis.from_url(
        url,
        socket_timeout=CALL_SECONDS,
        socket_connect_timeout=CALL_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        decode_responses=True,
    )


def _wanted() -> bool:
    """Whether nobody cancelled this task. A cancellation that meets a timeout half-way is lost inside redis-py, so it is asked for."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


class _Follower:
    """The background task's work: read the ranking, listen for changes, beat. Never dies of an error."""

    def __init__(self, session: Session, redis: Any, poll_seconds: float, known: asyncio.Event) -> None:
        self._session = session
        self._owned = isinstance(redis, str)
        # Made here, inside the loop that it is bound to.
        self._client: Any = _client(redis) if isinstance(redis, str) else redis
        self._poll_seconds = poll_seconds
        self._plain_get = False
        self._beats = session.share
        self._sha = True
        self._known = known

    async def run(self) -> None:
        try:
            while _wanted():
                try:
                    await self._follow()
                except Exception as error:  # noqa: BLE001 - whatever it was, requests go on and it is tried again
                    wait = self._session.failed(error)
                    self._tell()
                    await asyncio.sleep(wait)
        finally:
            await self._leave()

    async def _follow(self) -> None:
        clock = self._session.core.clock
        await self._read()
        async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
            listening = await self._listen(pubsub)
            read_at = clock()  # again: a change may have come between the first read and the subscription
            beat_at = clock()
            while _wanted():
                if clock() >= beat_at:
                    await self._beat()
                    beat_at = clock() + self._session.next_beat_seconds()
                if clock() >= read_at:
                    read_at = clock() + self._poll_seconds
                    await self._read()
                wait = max(0.0, min(SLICE_SECONDS, beat_at - clock(), read_at - clock()))
                if not listening:
                    await asyncio.sleep(wait)
                elif await pubsub.get_message(timeout=wait) is not None:
                    read_at = clock()

    async def _listen(self, pubsub: Any) -> bool:
        try:
            await pubsub.subscribe(self._session.keys.changed)
            await pubsub.get_message(timeout=CALL_SECONDS)
        except NoPermissionError:
            return False  # polling will do
        return True

    async def _read(self) -> None:
        key = self._session.keys.ranking
        if not self._plain_get:
            try:
                reply = await self._client.eval(READ_SCRIPT, 1, key)
            except NoPermissionError:
                self._plain_get = True
        if self._plain_get:
            reply = (await self._client.get(key), None)
        self._session.read(reply)
        self._tell()

    async def _beat(self) -> None:
        if self._beats:
            try:
                if self._session.unchanged():
                    total = await self._client.hget(self._session.keys.inflight, "total")
                    if self._session.glanced(total):
                        return
                self._session.beaten(await self._evaluate(*self._session.beat()))
            except NoPermissionError:
                self._beats = False

    async def _evaluate(self, *arguments: Any) -> Any:
        key = self._session.keys.inflight
        if self._sha:
            try:
                return await self._client.evalsha(SHA, 1, key, *arguments)
            except NoScriptError:
                pass  # EVAL brings it along, and the server keeps it
            except NoPermissionError:
                self._sha = False
        return await self._client.eval(SCRIPT, 1, key, *arguments)

    def _tell(self) -> None:
        if self._session.core.names():
            self._known.set()

    async def _leave(self) -> None:
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(CALL_SECONDS):
                if self._beats:
                    await self._evaluate(*self._session.heartbeat.farewell())
                if self._owned:
                    await self._client.aclose()
