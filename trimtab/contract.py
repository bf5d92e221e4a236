"""Redis key names and document shapes: the one place where they are written down.

Everything that concerns one policy lives in one hash slot: `{namespace/name}` is the hash tag. Names and shapes here are
public; a change is an entry in CHANGELOG.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

DOCUMENT_VERSION = 1
"""`v` of the ranking document."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one policy, by its key `namespace/name`."""

    policy: str

    def _key(self, suffix: str) -> str:
        return f"trimtab:{{{self.policy}}}:{suffix}"

    @property
    def ranking(self) -> str:
        """String, JSON: the ranked endpoints. Replaced whole; expires after the last-good time."""
        return self._key("ranking")

    @property
    def weights(self) -> str:
        """Sorted set: endpoint -> weight. `ZREVRANGE key 0 0` is the best endpoint."""
        return self._key("weights")

    @property
    def limit(self) -> str:
        """String, integer: requests that may be in flight, fleet-wide."""
        return self._key("limit")

    @property
    def limiter(self) -> str:
        """String: why the inner loop set the limit that stands. While it lives, the limit is the inner loop's alone."""
        return self._key("limiter")

    @property
    def overloaded(self) -> str:
        """String: seconds until what waits now is served, or `unknown`. Absent while the service can still be scaled."""
        return self._key("overloaded")

    @property
    def fence(self) -> str:
        """Hash `epoch`, `seq`: the newest publish that was accepted; never expires, so an older one is refused for ever."""
        return self._key("fence")

    @property
    def changed(self) -> str:
        """Pub/sub channel: the new `seq` after each publish."""
        return self._key("changed")

    @property
    def inflight(self) -> str:
        """Each client's own in-flight counts by endpoint; a heartbeat that expires with its client."""
        return self._key("inflight")

    def queue(self, name: str) -> QueueKeys:
        """The keys of the request queue `name`."""
        return QueueKeys(self._key(f"queue:{name}"))


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one request queue, all in its policy's hash slot. docs/queue.md describes what they hold, byte by byte.

    A ticket is `attempt:cost:priority:deadline_ms:enqueued_us:id`; a lease is `start_us:nonce:charged:` and the ticket.
    """

    prefix: str

    @property
    def waiting(self) -> str:
        """Sorted set: ticket -> enqueued_us less the priority's head start. Its size is the backlog."""
        return f"{self.prefix}:waiting"

    @property
    def leases(self) -> str:
        """Sorted set: lease -> its expiry, ms. Its size is the number of requests in flight."""
        return f"{self.prefix}:leases"

    @property
    def requests(self) -> str:
        """Hash: request id -> payload, until the request is done or expired, or purged from the dead letters."""
        return f"{self.prefix}:requests"

    @property
    def counters(self) -> str:
        """Hash: exact counters; `trimtab.queue.Counters` reads them. Its field `default_limit` is the controller's: what
        holds once the limit has expired.
        """
        return f"{self.prefix}:counters"

    @property
    def wake(self) -> str:
        """List of at most one element: an idle worker blocks on it."""
        return f"{self.prefix}:wake"

    @property
    def delayed(self) -> str:
        """Sorted set: ticket -> when it may be tried again, ms."""
        return f"{self.prefix}:delayed"

    @property
    def deadlines(self) -> str:
        """Sorted set: ticket -> deadline, ms; only requests that wait and have one."""
        return f"{self.prefix}:deadlines"

    @property
    def dead(self) -> str:
        """Sorted set: request id -> when it was given up, ms."""
        return f"{self.prefix}:dead"

    @property
    def reasons(self) -> str:
        """Hash: id of a dead letter -> `attempts:cost:priority:0:enqueued_us`, a line feed, and the reason."""
        return f"{self.prefix}:reasons"

    @property
    def results(self) -> tuple[str, str]:
        """Two hashes that take turns: request id -> `state stamp`, a line feed, and the result or the reason."""
        return f"{self.prefix}:results:0", f"{self.prefix}:results:1"

    @property
    def waiters(self) -> str:
        """Set: ids that somebody waits for. Their end is published on the channel `waiters` and `:id`."""
        return f"{self.prefix}:waiters"

    def script_keys(self, limit: str) -> tuple[str, ...]:
        """KEYS of the queue's scripts, in their order; `limit` is `Keys.limit` of the policy."""
        return (
            self.waiting,
            self.leases,
            self.requests,
            self.counters,
            limit,
            self.wake,
            self.delayed,
            self.deadlines,
            self.dead,
            self.reasons,
            *self.results,
            self.waiters,
        )


class InvalidDocument(ValueError):
    """Text that is no ranking document of this version. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of a ranking. Seconds and ratios; None where nothing is known. `weight` is 0 when `state` is `ejected`."""

    endpoint: str
    instance: str
    rank: int
    weight: float
    state: str
    age: float | None = None
    latency: float | None = None
    cpu: float | None = None
    memory: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """One ranking document: best endpoint first, weights sum to 1. `published_at` is seconds since the epoch."""

    policy: str
    seq: int
    published_at: float
    valid_for: float
    limit: int | None
    panic: bool
    endpoints: tuple[Endpoint, ...]
    retry_after: float | None = None
    """Seconds; None unless the service is overloaded."""


def ranking_document(
    *,
    policy: str,
    seq: int,
    published_at: float,
    valid_for: float,
    limit: int | None,
    panic: bool,
    endpoints: Iterable[Endpoint],
    retry_after: float | None = None,
) -> str:
    """The ranking document as text; the same arguments give the same bytes.

    Raises:
        ValueError: a number is not finite.
    """
    document = {
        "v": DOCUMENT_VERSION,
        "policy": policy,
        "seq": seq,
        "published_at": published_at,
        "valid_for": valid_for,
        "limit": limit,
        "panic": panic,
        **({} if retry_after is None else {"retry_after": retry_after}),
        "endpoints": [
            {
                "endpoint": row.endpoint,
                "instance": row.instance,
                "rank": row.rank,
                "weight": row.weight,
                "state": str(row.state),
                "age": row.age,
                "latency": row.latency,
                "cpu": row.cpu,
                "memory": row.memory,
                "why": row.why,
            }
            for row in endpoints
        ],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse_ranking(text: str | bytes) -> Ranking:
    """The ranking in a document. Fields that this version does not know are ignored.

    Raises:
        InvalidDocument: no JSON, another `v`, a field that is missing or has the wrong type.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidDocument(f"no JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidDocument("no JSON object")
    if document.get("v") != DOCUMENT_VERSION:
        raise InvalidDocument(f"version {document.get('v')!r} is not {DOCUMENT_VERSION}")
    rows = document.get("endpoints")
    if not isinstance(rows, list):
        raise InvalidDocument("endpoints is no list")
    limit = _number(document, "limit", optional=True)
    return Ranking(
        policy=_text(document, "policy"),
        seq=int(_number(document, "seq") or 0),
        published_at=_number(document, "published_at") or 0.0,
        valid_for=_number(document, "valid_for") or 0.0,
        limit=None if limit is None else int(limit),
        panic=document.get("panic") is True,
        endpoints=tuple(_endpoint(row) for row in rows),
        retry_after=_number(document, "retry_after", optional=True),
    )


def _endpoint(row: Any) -> Endpoint:
    if not isinstance(row, dict):
        raise InvalidDocument("an endpoint is no object")
    weight = _number(row, "weight") or 0.0
    if weight < 0:
        raise InvalidDocument(f"weight {weight} is negative")
    return Endpoint(
        endpoint=_text(row, "endpoint"),
        instance=_text(row, "instance"),
        rank=int(_number(row, "rank") or 0),
        weight=weight,
        state=_text(row, "state"),
        age=_number(row, "age", optional=True),
        latency=_number(row, "latency", optional=True),
        cpu=_number(row, "cpu", optional=True),
        memory=_number(row, "memory", optional=True),
        why=_text(row, "why") if "why" in row else "",
    )


def _text(mapping: Mapping[str, Any], name: str) -> str:
    value = mapping.get(name)
    if not isinstance(value, str):
        raise InvalidDocument(f"{name} is no text")
    return value


def _number(mapping: Mapping[str, Any], name: str, *, optional: bool = False) -> float | None:
    value = mapping.get(name)
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidDocument(f"{name} is no finite number")
    return value
