"""Values that a worker handles. Pure: no Redis here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


def to_json(value: Any) -> bytes:
    """A payload or result as compact JSON bytes. The queue itself never looks into payloads."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Reject(Exception):
    """Raised by a handler: this request can never succeed. It becomes a dead letter at once, with this reason."""


class Retry(Exception):
    """Raised by a handler: try again, after `after_seconds` or the queue's own back-off. Counts as an attempt."""

    def __init__(self, reason: str = "retry asked for", after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds


class Job:
    """One request, leased to this worker.

    Attributes:
        payload: the bytes that were enqueued.
        lease: proof of ownership, `start_us:nonce:charged:attempt:cost:priority:deadline_ms:enqueued_us:id`.
        lost: the lease ran out and was taken back; the request is somebody else's, so stop when convenient.
    """

    __slots__ = ("lease", "lost", "payload", "settling")

    def __init__(self, lease: bytes, payload: bytes) -> None:
        self.lease = lease
        self.payload = payload
        self.lost = False
        self.settling = False

    def _part(self, index: int) -> bytes:
        return self.lease.split(b":", 8)[index]

    @property
    def id(self) -> str:
        """The request's id."""
        return self._part(8).decode()

    @property
    def attempt(self) -> int:
        """1 at first, counted up by each failure and each lost worker."""
        return int(self._part(3))

    @property
    def cost(self) -> int:
        """Slots asked for. `charged` is what it occupies: never more than the limit was when it started."""
        return int(self._part(4))

    @property
    def charged(self) -> int:
        """Slots occupied."""
        return int(self._part(2))

    @property
    def priority(self) -> int:
        """As enqueued."""
        return int(self._part(5))

    @property
    def deadline_at(self) -> float | None:
        """Unix time, seconds, of the server's clock; None without a deadline."""
        milliseconds = int(self._part(6))
        return milliseconds / 1000 if milliseconds else None

    @property
    def enqueued_at(self) -> float:
        """Unix time, seconds, of the server's clock."""
        return int(self._part(7)) / 1e6

    @property
    def started_at(self) -> float:
        """Unix time, seconds, of the server's clock."""
        return int(self._part(0)) / 1e6

    def json(self) -> Any:
        """The payload, parsed as JSON."""
        return json.loads(self.payload)

    def __repr__(self) -> str:
        return f"<Job {self.id} attempt {self.attempt}, {len(self.payload)} bytes{', lost' if self.lost else ''}>"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A request that was given up.

    Attributes:
        died_at: Unix time, seconds, of the server's clock.
        attempts: how often it was started.
    """

    id: str
    died_at: float
    attempts: int
    reason: str
    payload: bytes
