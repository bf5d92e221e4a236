"""From published documents to the core's table, and what to do when they stop coming. Pure: told of time and documents.

    FRESH       the newest ranking is younger than its `valid_for`
    LAST_GOOD   older than that, but younger than `last_good_seconds`: its weights still stand
    UNIFORM     older still: the same endpoints, all alike
    FALLBACK    no ranking was ever read; the endpoints that the application was configured with, all alike
    NONE        nothing is known: `NoEndpoints`

An older publish is refused, whoever sends it. The one exception: once a ranking is so old that it is not used any more (UNIFORM),
a document that was published later by the clock starts a new history, for then Redis has lost its data, its fence included.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from threading import RLock

from trimtab.balancer.core import Core
from trimtab.contract import InvalidDocument, Ranking, parse_ranking


class State(StrEnum):
    """How good the balancer's knowledge is; see the module's table."""

    FRESH = "fresh"
    LAST_GOOD = "last_good"
    UNIFORM = "uniform"
    FALLBACK = "fallback"
    NONE = "none"


class Feed:
    """Keeps `core` on the best knowledge there is.

    Args:
        policy: `namespace/name`; a document of another policy is refused.
        fallback: endpoints to use, all alike, until a ranking was read.
        last_good_seconds: how long a ranking's weights are followed after it was published, at the least its `valid_for`.
    """

    def __init__(self, core: Core, policy: str, fallback: Sequence[str] = (), last_good_seconds: float = 600.0) -> None:
        self._core = core
        self._policy = policy
        self._last_good_seconds = last_good_seconds
        self._lock = RLock()
        self._fallback = tuple(dict.fromkeys(fallback))
        self._born = 0.0
        self._read_at: float | None = None
        self.ranking: Ranking | None = None
        self.fault = ""
        """Why the last document or attempt was of no use, one line; empty when it was."""
        self.state = State.FALLBACK if self._fallback else State.NONE
        self._install()

    def offer(self, document: str | bytes | None, server_now: float) -> bool:
        """A document was read. True when it is now in use; else `fault` says why not, and nothing changes.

        Args:
            document: the value of `Keys.ranking`; None when there is none.
            server_now: Unix time by the server's clock when it was read, so that a client's wrong clock does not matter.
        """
        now = self._core.clock()
        before, self._read_at = self._read_at, now
        if document is None:
            self.fault = "no ranking is published"
            return False
        try:
            ranking = parse_ranking(document)
        except (InvalidDocument, RecursionError) as error:
            self.fault = f"ranking: {error}"
            return False
        with self._lock:
            self.advance(now)
            self.fault = self._objection(ranking)
            if self.fault:
                return False
            current = self.ranking
            if current is not None and ranking.seq == current.seq:
                return True
            self.ranking = ranking
            age = max(0.0, server_now - ranking.published_at)
            if before is not None:
                # It was not there at the last look, so it is no older than that, however wrong the publisher's clock is.
                age = min(age, now - before)
            # From here on its age runs on the monotonic clock: steps of the wall clock do not age it.
            self._born = now - age
            self.state = self._state(now)
            self._install()
        return True

    def _objection(self, ranking: Ranking) -> str:
        if ranking.policy != self._policy:
            return f"ranking: it is of policy {ranking.policy}, not {self._policy}"
        if not ranking.endpoints:
            return "ranking: it has no endpoints"
        if len({row.endpoint for row in ranking.endpoints}) < len(ranking.endpoints):
            return "ranking: an endpoint is listed twice"
        current = self.ranking
        if current is None or ranking.seq >= current.seq:
            return ""
        if self.state is State.UNIFORM and ranking.published_at > current.published_at:
            return ""
        return f"ranking: publish {ranking.seq} is older than {current.seq}"

    def advance(self, now: float) -> None:
        """Let what is known grow older."""
        with self._lock:
            state = self._state(now)
            if state is not self.state:
                leaves = State.UNIFORM in (state, self.state)
                self.state = state
                if leaves:
                    self._install()

    def age_seconds(self, now: float) -> float | None:
        """Seconds since the ranking in use was published; None without one."""
        return None if self.ranking is None else max(0.0, now - self._born)

    def _state(self, now: float) -> State:
        age = self.age_seconds(now)
        if self.ranking is None or age is None:
            return State.FALLBACK if self._fallback else State.NONE
        if age <= self.ranking.valid_for:
            return State.FRESH
        return State.LAST_GOOD if age <= self._last_good_seconds else State.UNIFORM

    def _install(self) -> None:
        if self.ranking is None:
            rows = [(name, 1.0) for name in self._fallback]
        else:
            uniform = self.state is State.UNIFORM
            ranked = sorted(self.ranking.endpoints, key=lambda row: row.rank)
            rows = [(row.endpoint, 1.0 if uniform else row.weight) for row in ranked]
        total = sum(weight for _, weight in rows) or 1.0
        self._core.install((name, weight / total) for name, weight in rows)

    def after_fork(self) -> None:
        """In the child of a fork: the lock may have been held, and the table half made, by a thread that is gone."""
        self._lock = RLock()
        self._core.after_fork()
        self._install()
