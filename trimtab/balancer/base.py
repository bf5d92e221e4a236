"""The public calls that both forms share. None of them touches Redis, none waits."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from weakref import WeakSet

from trimtab.balancer.core import Core
from trimtab.balancer.feed import Feed, State
from trimtab.balancer.session import Session
from trimtab.balancer.ticket import Ticket
from trimtab.contract import Keys


@dataclass(frozen=True, slots=True)
class Status:
    """What a balancer knows, for health pages and logs.

    Attributes:
        state: fresh, last_good, uniform, fallback or none.
        seq: number of the publish in use; None without one.
        age_seconds: since that publish; None without one.
        endpoints: best first.
        in_flight: this process's own requests by endpoint, those at zero left out.
        clients: clients that share their counts, this one included; 0 while none is known.
        fault: why the newest document, or Redis, was of no use; empty while all is well.
    """

    state: State
    seq: int | None
    age_seconds: float | None
    endpoints: tuple[str, ...]
    in_flight: dict[str, int]
    clients: int
    fault: str


class BalancerBase:
    """What `Balancer` and `AsyncBalancer` have in common; see there."""

    def __init__(
        self, policy: str, *, fallback: Sequence[str], choices: int, share_inflight: bool, last_good_seconds: float
    ) -> None:
        if isinstance(fallback, str):
            raise TypeError("fallback is a string; give a list of endpoints")
        if policy.count("/") != 1 or not all(policy.split("/")):
            raise ValueError(f"policy is {policy!r}; it must be 'namespace/name', as in the policy's metadata")
        self.policy = policy
        self._core = Core(choices=choices)
        self._feed = Feed(self._core, policy, fallback, last_good_seconds)
        self._session = Session(self._core, self._feed, Keys(policy), share=share_inflight)
        self._dormant = False
        _all.add(self)

    def pick(self, *, exclude: Collection[str] = ()) -> Ticket:
        """Choose an endpoint for one request and count the request on it until the ticket is released.

        Takes microseconds, never waits for Redis or the network.

        Args:
            exclude: endpoints not to use, for retries: those that failed this request already.

        Raises:
            NoEndpoints: none is known, or all are excluded.
        """
        if self._dormant:
            self._wake()
        return self._core.take(exclude)

    def best(self) -> str:
        """The endpoint with the best rank. For a look, not for traffic: everybody's best is soon nobody's.

        Raises:
            NoEndpoints: none is known.
        """
        if self._dormant:
            self._wake()
        return self._core.best()

    def record(self, endpoint: str, seconds: float, ok: bool | None = True) -> None:
        """Teach the balancer of a request that it did not see, such as one sent to `best()`.

        Args:
            endpoint: as published; one that is not known is ignored.
            seconds: how long the request took, 0 or more, finite.
            ok: whether the endpoint served it; None when it was given up.

        Raises:
            ValueError: `seconds` is negative, infinite or NaN.
        """
        self._core.record(endpoint, seconds, ok)

    def status(self) -> Status:
        """What the balancer knows now."""
        now = self._core.clock()
        self._feed.advance(now)
        ranking = self._feed.ranking
        return Status(
            state=self._feed.state,
            seq=None if ranking is None else ranking.seq,
            age_seconds=self._feed.age_seconds(now),
            endpoints=self._core.names(),
            in_flight=self._core.in_flight(),
            clients=self._session.heartbeat.clients,
            fault=self._session.error or self._feed.fault,
        )

    def _wake(self) -> None:
        """Start following Redis (again, after a fork)."""
        raise NotImplementedError

    def _after_fork(self) -> None:
        """In the child of a fork: zero counts, its own client id, and its own connection at the first pick."""
        self._feed.after_fork()
        old = self._session
        self._session = Session(self._core, self._feed, old.keys, share=old.share)


_all: WeakSet[BalancerBase] = WeakSet()


def _after_fork_in_child() -> None:
    for balancer in list(_all):
        balancer._after_fork()  # noqa: SLF001 - the same class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
