"""Ways to choose a server for each request, all of one shape: that of `trimtab.AsyncBalancer`, so that it fits beside them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from trimtab import NoEndpoints


class Claim(AbstractContextManager[str], Protocol):
    """One request on one endpoint, until it is released; leaving the block releases it, too. The first release counts."""

    @property
    def endpoint(self) -> str:
        """Where to send it."""

    def release(self, ok: bool | None = True, seconds: float | None = None) -> None:
        """It is over; `ok` says whether the endpoint served it."""


class Picker(Protocol):
    """Who chooses."""

    def pick(self, *, exclude: Collection[str] = ()) -> Claim:
        """An endpoint that is not excluded. Raises NoEndpoints when there is none."""


class RoundRobin:
    """Each endpoint in turn."""

    def __init__(self, endpoints: Sequence[str] = ()) -> None:
        self._turn = 0
        self.replace(endpoints)

    def replace(self, endpoints: Sequence[str]) -> None:
        """Use these from now on."""
        self.endpoints = tuple(endpoints)

    def pick(self, *, exclude: Collection[str] = ()) -> Claim:
        """The next one."""
        for _ in self.endpoints:
            endpoint = self.endpoints[self._turn % len(self.endpoints)]
            self._turn += 1
            if endpoint not in exclude:
                return _Counted(endpoint, Counter())
        raise NoEndpoints(excluded=exclude)


class LeastInFlight:
    """The endpoint with the fewest requests of this client's own; at random among equals. The usual `least_conn`."""

    def __init__(self, endpoints: Sequence[str] = (), seed: int = 0) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - load balancing, not secrets
        self.in_flight: Counter[str] = Counter()
        self.replace(endpoints)

    def replace(self, endpoints: Sequence[str]) -> None:
        """Use these from now on; what is in flight elsewhere stays counted."""
        self.endpoints = tuple(endpoints)

    def pick(self, *, exclude: Collection[str] = ()) -> Claim:
        """The least busy one."""
        left = [endpoint for endpoint in self.endpoints if endpoint not in exclude]
        if not left:
            raise NoEndpoints(excluded=exclude)
        return _Counted(min(left, key=lambda name: (self.in_flight[name], self._rng.random())), self.in_flight)


class _Counted:
    """A claim that is counted while it is open."""

    def __init__(self, endpoint: str, counts: Counter[str]) -> None:
        self.endpoint = endpoint
        self._counts = counts
        self._open = True
        counts[endpoint] += 1

    def release(self, ok: bool | None = True, seconds: float | None = None) -> None:  # noqa: ARG002 - learns nothing
        if self._open:
            self._open = False
            self._counts[self.endpoint] -= 1

    def __enter__(self) -> str:
        return self.endpoint

    def __exit__(self, *_: object) -> None:
        self.release()
