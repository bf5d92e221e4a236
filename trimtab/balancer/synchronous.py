"""The balancer for threads: follows Redis in a background thread."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from contextlib import closing, suppress
from types import TracebackType
from typing import Any, Self

from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, NoScriptError, RedisError
from redis.retry import Retry

from trimtab.balancer.base import BalancerBase
from trimtab.balancer.heartbeat import SCRIPT, SHA
from trimtab.balancer.session import CALL_SECONDS, READ_SCRIPT, SLICE_SECONDS, Session

RedisLike = Redis | RedisCluster | str


class Balancer(BalancerBase):
    """Chooses an endpoint for each request. One per process and policy; share it between threads.

        balancer = Balancer("models/model-service", "redis://redis:6379/0")
        with balancer.pick() as endpoint:
            reply = requests.post(f"{endpoint}/predict", json=payload, timeout=30)

    Args:
        policy: `namespace/name` of the policy that publishes the ranking.
        redis: a URL, or a client of your own (`Redis`, `RedisCluster`, `Sentinel.master_for()`). None: `fallback` only.
        fallback: endpoints to use, all alike, until a ranking was read.
        wait_seconds: how long the constructor may wait for the first ranking. It never raises for want of one: `pick()` does.
        choices: how many endpoints each pick compares.
        share_inflight: share in-flight counts with the other clients, by heartbeats: 40 a second for a few clients, rarer the more there are.
        last_good_seconds: how long the weights of a ranking are followed once no newer one comes.
        poll_seconds: how often the ranking is read besides when a change is announced.

    Raises:
        ValueError: `policy` is not `namespace/name`, or `redis` is not a Redis URL.
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
        self._redis = redis
        self._poll_seconds = poll_seconds
        self._starting = threading.Lock()
        self._follower: _Follower | None = None
        self._stop: weakref.finalize[Any, Any] | None = None
        if redis is not None:
            self._start().known.wait(wait_seconds)

    def _start(self) -> _Follower:
        client = _client(self._redis) if isinstance(self._redis, str) else self._redis
        follower = _Follower(self._session, client, self._poll_seconds, owned=isinstance(self._redis, str))
        # The thread knows the follower only, so that a balancer that nobody uses any more is collected, and stops it.
        self._stop = weakref.finalize(self, follower.stopping.set)
        self._follower = follower
        self._dormant = False
        threading.Thread(target=follower.run, name=f"trimtab {self.policy}", daemon=True).start()
        return follower

    def _wake(self) -> None:
        with self._starting:
            if self._dormant:
                self._start()

    def _after_fork(self) -> None:
        super()._after_fork()
        self._starting = threading.Lock()
        if self._stop is not None:
            self._stop.detach()
        if self._follower is not None:
            self._follower = None
            self._dormant = True

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Stop following Redis and take back this client's counts; waits at most `timeout_seconds`. Picks still work."""
        follower, self._follower, self._dormant = self._follower, None, False
        if follower is not None:
            follower.stopping.set()
            follower.stopped.wait(timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _client(url: str) -> Redis:
    return Redis.from_url(
        url,
        socket_timeout=CALL_SECONDS,
        socket_connect_timeout=CALL_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        decode_responses=True,
    )


class _Follower:
    """The background thread's work: read the ranking, listen for changes, beat. Never dies of an error."""

    def __init__(self, session: Session, client: Any, poll_seconds: float, *, owned: bool) -> None:
        self._session = session
        self._client = client
        self._poll_seconds = poll_seconds
        self._owned = owned
        self._plain_get = False
        self._beats = session.share
        self._sha = True
        self.stopping = threading.Event()
        self.stopped = threading.Event()
        self.known = threading.Event()
        """Set once a ranking is in use, or once Redis had its chance and there is a fallback."""

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    self._follow()
                except Exception as error:  # noqa: BLE001 - whatever it was, requests go on and it is tried again
                    wait = self._session.failed(error)
                    self._tell()
                    self.stopping.wait(wait)
            self._leave()
        finally:
            self.stopped.set()

    def _follow(self) -> None:
        clock = self._session.core.clock
        self._read()
        with closing(self._client.pubsub(ignore_subscribe_messages=True)) as pubsub:
            listening = self._listen(pubsub)
            read_at = clock()  # again: a change may have come between the first read and the subscription
            beat_at = clock()
            while not self.stopping.is_set():
                if clock() >= beat_at:
                    self._beat()
                    beat_at = clock() + self._session.next_beat_seconds()
                if clock() >= read_at:
                    read_at = clock() + self._poll_seconds
                    self._read()
                wait = max(0.0, min(SLICE_SECONDS, beat_at - clock(), read_at - clock()))
                if not listening:
                    self.stopping.wait(wait)
                elif pubsub.get_message(timeout=wait) is not None:
                    read_at = clock()

    def _listen(self, pubsub: Any) -> bool:
        try:
            pubsub.subscribe(self._session.keys.changed)
            pubsub.get_message(timeout=CALL_SECONDS)
        except NoPermissionError:
            return False  # polling will do
        return True

    def _read(self) -> None:
        key = self._session.keys.ranking
        if not self._plain_get:
            try:
                reply = self._client.eval(READ_SCRIPT, 1, key)
            except NoPermissionError:
                self._plain_get = True
        if self._plain_get:
            reply = (self._client.get(key), None)
        self._session.read(reply)
        self._tell()

    def _beat(self) -> None:
        if self._beats:
            try:
                if self._session.unchanged():
                    total = self._client.hget(self._session.keys.inflight, "total")
                    if self._session.glanced(total):
                        return
                self._session.beaten(self._evaluate(*self._session.beat()))
            except NoPermissionError:
                self._beats = False

    def _evaluate(self, *arguments: Any) -> Any:
        key = self._session.keys.inflight
        if self._sha:
            try:
                return self._client.evalsha(SHA, 1, key, *arguments)
            except NoScriptError:
                pass  # EVAL brings it along, and the server keeps it
            except NoPermissionError:
                self._sha = False
        return self._client.eval(SCRIPT, 1, key, *arguments)

    def _tell(self) -> None:
        if self._session.core.names():
            self.known.set()

    def _leave(self) -> None:
        with suppress(RedisError, OSError):
            if self._beats:
                self._evaluate(*self._session.heartbeat.farewell())
            if self._owned:
                self._client.close()
