"""Carry scripts to Redis and bring replies back, for asyncio. The counterpart of link.py; see there for the reasons."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.client import NEVER_DECODE

from trimtab.queue.link import (
    CALL_SECONDS,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    REFUSED,
    TRANSIENT,
    explain,
    pack,
    read_only,
)
from trimtab.queue.protocol import ALL_KEYS, Script

log = logging.getLogger("trimtab.queue")


class DirectLink:
    """Over the connections of a plain `redis.asyncio.Redis`."""

    def __init__(self, client: Redis, keys: Sequence[bytes], *, owned: bool) -> None:
        self.client = client
        self._owned = owned
        self._pool: Any = client.connection_pool
        self._keys = keys
        self._heads: dict[tuple[bytes, int], bytes] = {}
        self._idle: list[Any] = []

    async def _exchange(self, packed: bytes, block_seconds: float = 0.0) -> Any:
        task = asyncio.current_task()
        cancels = task.cancelling() if task is not None else 0
        connection = None
        try:
            # One timeout around all: redis-py's own, for a read, gives None and leaves the late reply to the next call.
            async with asyncio.timeout(block_seconds + CALL_SECONDS):
                connection = self._idle.pop() if self._idle else await self._pool.get_connection()
                await connection.send_packed_command(packed, check_health=False)
                if task is not None and task.cancelling() > cancels:
                    raise asyncio.CancelledError  # noqa: TRY301 - swallowed by wait_for, before Python 3.12
                reply = await connection.read_response(disable_decoding=True, timeout=math.inf)
        except redis_errors.ResponseError as error:
            if read_only(error):
                await self._drop(connection)  # so that Sentinel is asked again
            elif connection is not None:
                self._idle.append(connection)
            raise
        except BaseException as error:  # cancelled too: a reply may still come, so this connection is spent
            await self._drop(connection)
            if isinstance(error, TimeoutError):
                raise redis_errors.TimeoutError(f"no answer within {block_seconds + CALL_SECONDS:g} s") from error
            raise
        self._idle.append(connection)
        return reply

    async def _drop(self, connection: Any) -> None:
        if connection is None:
            return
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)

    async def evaluate(self, script: Script, arguments: Sequence[bytes], first: int = ALL_KEYS) -> Any:
        """Run a script with the `first` of the queue's keys."""
        count = 3 + first + len(arguments)
        head = self._heads.get((script.sha, first))
        if head is None:
            head = pack([b"EVALSHA", script.sha, b"%d" % first, *self._keys[:first]])
            self._heads[script.sha, first] = head
        try:
            return await self._exchange(b"*%d\r\n%b%b" % (count, head, pack(arguments)))
        except redis_errors.NoScriptError:
            whole = pack([b"EVAL", script.text, b"%d" % first, *self._keys[:first], *arguments])
            return await self._exchange(b"*%d\r\n%b" % (count, whole))

    async def pop(self, key: str, seconds: float) -> bool:
        """Wait on a list for up to `seconds`; whether an element came."""
        packed = b"*3\r\n" + pack([b"BRPOP", key.encode(), b"%.3f" % seconds])
        return await self._exchange(packed, block_seconds=seconds) is not None

    async def close(self) -> None:
        """Give the connections back, closed. A client of the caller's stays usable."""
        while self._idle:
            connection = self._idle.pop()
            # TLS says goodbye first: a socket that nobody waits for stays open when the event loop ends.
            with contextlib.suppress(TimeoutError, redis_errors.TimeoutError):
                async with asyncio.timeout(CALL_SECONDS):
                    await connection.disconnect()
            await self._drop(connection)
        if self._owned:
            await self.client.aclose()


class ClusterLink:
    """Over a `redis.asyncio.RedisCluster`."""

    def __init__(self, client: RedisCluster, keys: Sequence[bytes]) -> None:
        self.client: Any = client
        self._keys = keys

    async def evaluate(self, script: Script, arguments: Sequence[bytes], first: int = ALL_KEYS) -> Any:
        """Run a script with the `first` of the queue's keys."""
        rest = (first, *self._keys[:first], *arguments)
        try:
            return await self.client.execute_command("EVALSHA", script.sha, *rest, **{NEVER_DECODE: True})
        except redis_errors.NoScriptError:
            return await self.client.execute_command("EVAL", script.text, *rest, **{NEVER_DECODE: True})

    async def pop(self, key: str, seconds: float) -> bool:
        """Wait on a list for up to `seconds`; whether an element came."""
        return await self.client.brpop([key], timeout=seconds) is not None

    async def close(self) -> None:
        """Nothing is held."""


def connect(redis: str | Redis | RedisCluster, keys: Sequence[bytes]) -> DirectLink | ClusterLink:
    """A link over an URL or a client of the caller's."""
    if isinstance(redis, str):
        client = Redis.from_url(
            redis,
            socket_timeout=None,  # the link bounds each exchange as a whole
            socket_connect_timeout=2.0,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            protocol=2,
        )
        return DirectLink(client, keys, owned=True)
    if isinstance(redis, RedisCluster):
        return ClusterLink(redis, keys)
    if isinstance(redis, Redis):
        return DirectLink(redis, keys, owned=False)
    raise TypeError(f"redis must be an URL or a client of redis.asyncio, not {type(redis).__name__}")


async def persist(call: Callable[[bool], Awaitable[Any]], timeout_seconds: float) -> Any:
    """Make a call until it is answered; see link.persist."""
    clock = asyncio.get_running_loop().time
    end = clock() + timeout_seconds
    pause = FIRST_PAUSE_SECONDS
    repeated = False
    while True:
        try:
            return await call(repeated)
        except REFUSED as error:
            raise explain(error) from error
        except TRANSIENT as error:
            if clock() + pause >= end:
                raise explain(error) from error
        except redis_errors.RedisError as error:
            if not read_only(error) or clock() + pause >= end:
                raise explain(error) from error
        await asyncio.sleep(pause)
        repeated = True
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


class Ears:
    """One subscription connection for all who wait for results in this process."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._waiting: dict[str, list[asyncio.Event]] = {}
        self._subscribed: dict[str, asyncio.Event] = {}
        self._channel: Any = None
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def on(self, request_id: str) -> AsyncIterator[asyncio.Event]:
        """Listen for the end of a request; the event is set when it is heard."""
        heard = asyncio.Event()
        name = self._prefix + request_id
        if self._channel is None:
            self._channel = self._client.pubsub()
        waiting = self._waiting.setdefault(name, [])
        waiting.append(heard)
        try:
            confirmed = self._subscribed.setdefault(name, asyncio.Event())
            if len(waiting) == 1:
                await self._channel.subscribe(name)
                if self._task is None or self._task.done():
                    self._task = asyncio.create_task(self._listen())
            with contextlib.suppress(TimeoutError):  # then looking again every few seconds has to do
                async with asyncio.timeout(CALL_SECONDS):
                    await confirmed.wait()
            yield heard
        finally:
            waiting.remove(heard)
            if not waiting:
                self._waiting.pop(name, None)
                self._subscribed.pop(name, None)
                with contextlib.suppress(redis_errors.RedisError):
                    await self._channel.unsubscribe(name)

    async def _listen(self) -> None:
        while self._waiting:
            try:
                message = await self._channel.get_message(timeout=1.0)
            except redis_errors.RedisError as error:
                log.info("not listening for results, trying again: %s", error)
                await asyncio.sleep(0.5)
                continue
            if message is None:
                continue
            name = message["channel"]
            name = name.decode() if isinstance(name, bytes) else name
            if message["type"] == "subscribe" and name in self._subscribed:
                self._subscribed[name].set()
            elif message["type"] == "message":
                for heard in self._waiting.get(name, ()):
                    heard.set()

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._channel is not None:
            await self._channel.aclose()
