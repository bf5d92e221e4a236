"""Carry scripts to Redis and bring replies back, for threads.

A plain client (a Sentinel's too) is used through its own connections, with the script's keys packed once: that halves the
client's share of a call. Over a client that was made here, from an URL, replies are read by resp.py. A cluster client is used as it is. Either way a reply that was lost is asked for again, which every
script is made for, until `timeout_seconds` have passed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis import Redis, RedisCluster
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.client import NEVER_DECODE
from redis.retry import Retry

from trimtab.errors import QueueUnavailable
from trimtab.queue import resp
from trimtab.queue.protocol import ALL_KEYS, Script

TRANSIENT = (
    redis_errors.ConnectionError,  # with BusyLoadingError and Sentinel's MasterNotFoundError
    redis_errors.TimeoutError,
    redis_errors.ReadOnlyError,  # a master that has just become a replica
    redis_errors.ClusterDownError,
    redis_errors.TryAgainError,
    redis_errors.MasterDownError,
)
MOVED_MASTER = ("-READONLY ", "-MASTERDOWN ")
"""How Redis 6.2 says it from inside a script: behind `Error running script`, so that redis-py sees no kind."""
REFUSED = (redis_errors.AuthenticationError, redis_errors.AuthorizationError)
FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.5
CALL_SECONDS = 2.0
"""How long one exchange may take, beyond the time for which it was asked to block, before the connection counts as dead."""


def pack(arguments: Sequence[bytes]) -> bytes:
    """Arguments in Redis' wire form, without the leading count."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments])


def from_url(url: str, socket_timeout: float = CALL_SECONDS) -> Redis:
    """A client whose calls end: bounded, and repeated by the queue only, which knows how."""
    return Redis.from_url(
        url,
        socket_timeout=socket_timeout,
        socket_connect_timeout=socket_timeout,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        protocol=2,
    )


def read_only(error: Exception) -> bool:
    """Whether a master that has become a replica answered: another one is wanted, over another connection."""
    return isinstance(error, redis_errors.ReadOnlyError) or any(word in str(error) for word in MOVED_MASTER)


def explain(error: Exception) -> QueueUnavailable:
    """One clear line; redis-py's messages name the address and never the password."""
    return QueueUnavailable(f"Redis: {error}")


def _talk(connection: Any, packed: bytes) -> Any:
    """One exchange over a connection of redis-py's, RESP2, without its layers. Errors are redis-py's."""
    socket = connection._sock  # noqa: SLF001 - it has no public name, and redis-py is pinned to one major version
    if socket is None:
        raise redis_errors.ConnectionError("the connection was closed here")
    try:
        socket.sendall(packed)
        return resp.read(socket.recv)
    except resp.Refusal as error:
        raise connection._parser.parse_error(str(error)) from None  # noqa: SLF001 - the same
    except resp.Closed:
        raise redis_errors.ConnectionError("the server closed the connection") from None
    except resp.Malformed as error:
        raise redis_errors.ConnectionError(str(error)) from None
    except TimeoutError:
        raise redis_errors.TimeoutError(f"no answer within {CALL_SECONDS:g} s") from None
    except OSError as error:
        raise redis_errors.ConnectionError(f"connection broken: {error}") from error


class DirectLink:
    """Over the connections of a plain `redis.Redis`."""

    def __init__(self, client: Redis, keys: Sequence[bytes], *, owned: bool = False) -> None:
        self.client = client
        self._owned = owned
        self._pool: Any = client.connection_pool
        self._keys = keys
        self._heads: dict[tuple[bytes, int], bytes] = {}
        self._idle: list[Any] = []
        self._process = os.getpid()

    def _exchange(self, packed: bytes, block_seconds: float | None = None) -> Any:
        if self._process != os.getpid():  # forked: these sockets are the parent's
            self._idle, self._process = [], os.getpid()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._pool.get_connection()
        try:
            if self._owned and block_seconds is None:
                reply = _talk(connection, packed)
                self._idle.append(connection)
                return reply
            connection.send_packed_command([packed], check_health=False)
            if block_seconds is None:
                reply = connection.read_response(disable_decoding=True)
            else:
                reply = connection.read_response(disable_decoding=True, timeout=block_seconds + CALL_SECONDS)
        except redis_errors.ResponseError as error:
            if read_only(error):
                self._drop(connection)  # so that Sentinel is asked again
            else:
                self._idle.append(connection)
            raise
        except BaseException:
            self._drop(connection)
            raise
        self._idle.append(connection)
        return reply

    def _drop(self, connection: Any) -> None:
        connection.disconnect()
        self._pool.release(connection)

    def evaluate(self, script: Script, arguments: Sequence[bytes], first: int = ALL_KEYS) -> Any:
        """Run a script with the `first` of the queue's keys."""
        count = 3 + first + len(arguments)
        head = self._heads.get((script.sha, first))
        if head is None:
            head = pack([b"EVALSHA", script.sha, b"%d" % first, *self._keys[:first]])
            self._heads[script.sha, first] = head
        try:
            return self._exchange(b"*%d\r\n%b%b" % (count, head, pack(arguments)))
        except redis_errors.NoScriptError:
            whole = pack([b"EVAL", script.text, b"%d" % first, *self._keys[:first], *arguments])
            return self._exchange(b"*%d\r\n%b" % (count, whole))

    def pop(self, key: str, seconds: float) -> bool:
        """Block on a list for up to `seconds`; whether an element came."""
        packed = b"*3\r\n" + pack([b"BRPOP", key.encode(), b"%.3f" % seconds])
        return self._exchange(packed, block_seconds=seconds) is not None

    def close(self) -> None:
        """Give the connections back, closed. A client of the caller's stays usable."""
        while self._idle:
            self._drop(self._idle.pop())
        if self._owned:
            self.client.close()


class ClusterLink:
    """Over a `RedisCluster`, which finds the queue's one slot by its hash tag."""

    def __init__(self, client: RedisCluster, keys: Sequence[bytes]) -> None:
        self.client: Any = client
        self._keys = keys

    def evaluate(self, script: Script, arguments: Sequence[bytes], first: int = ALL_KEYS) -> Any:
        """Run a script with the `first` of the queue's keys."""
        rest = (first, *self._keys[:first], *arguments)
        try:
            return self.client.execute_command("EVALSHA", script.sha, *rest, **{NEVER_DECODE: True})
        except redis_errors.NoScriptError:
            return self.client.execute_command("EVAL", script.text, *rest, **{NEVER_DECODE: True})

    def pop(self, key: str, seconds: float) -> bool:
        """Block on a list for up to `seconds`; whether an element came."""
        return self.client.brpop([key], timeout=seconds) is not None

    def close(self) -> None:
        """Nothing is held."""


Link = DirectLink | ClusterLink


def connect(redis: str | Redis | RedisCluster, keys: Sequence[bytes], socket_timeout: float = CALL_SECONDS) -> Link:
    """A link over an URL or a client of the caller's."""
    if isinstance(redis, str):
        return DirectLink(from_url(redis, socket_timeout), keys, owned=True)
    if isinstance(redis, RedisCluster):
        return ClusterLink(redis, keys)
    if isinstance(redis, Redis):
        return DirectLink(redis, keys)
    raise TypeError(f"redis must be an URL, a redis.Redis or a redis.RedisCluster, not {type(redis).__name__}")


def persist(
    call: Callable[[bool], Any],
    timeout_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Any:
    """Make a call until it is answered. `call` is told whether an earlier try may have been carried out.

    Raises:
        QueueUnavailable: no answer within `timeout_seconds`, or Redis refused.
    """
    end = clock() + timeout_seconds
    pause = FIRST_PAUSE_SECONDS
    repeated = False
    while True:
        try:
            return call(repeated)
        except REFUSED as error:
            raise explain(error) from error
        except TRANSIENT as error:
            if clock() + pause >= end:
                raise explain(error) from error
        except redis_errors.RedisError as error:
            if not read_only(error) or clock() + pause >= end:
                raise explain(error) from error
        sleep(pause)
        repeated = True
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
