"""Every error that the client library raises on purpose.

* TrimtabError
  + NoEndpoints             there is nowhere to send a request: none was ever known, or all are excluded
  + QueueError
    - QueueFull             refused: the queue holds `max_length` requests; `retry_after_seconds` says when to come back
    - LeaseLost             this worker's lease ran out and the request was given to another: drop the result
    - RequestDead           given up after its last attempt, or rejected; `reason` says why
    - RequestExpired        its deadline passed before it started
    - UnknownRequest        no such id: never enqueued, or its result has been dropped by now
    - WaitTimedOut          no result yet; the request goes on
    - QueueUnavailable      Redis did not answer in time, or refused

Wrong arguments raise ValueError or TypeError.
"""

from __future__ import annotations

from collections.abc import Collection


class TrimtabError(Exception):
    """The root of the tree above."""


class NoEndpoints(TrimtabError):
    """There is nowhere to send a request.

    Args:
        message: one line, what is missing and what to do.
        excluded: the endpoints that the caller excluded, when that is why none is left.
    """

    def __init__(self, message: str = "", *, excluded: Collection[str] = ()) -> None:
        if not message:
            message = (
                f"every endpoint is excluded ({', '.join(sorted(excluded))})"
                if excluded
                else "no endpoint is known: no ranking has been read yet and no fallback endpoints were given"
            )
        super().__init__(message)
        self.excluded = frozenset(excluded)


class QueueError(TrimtabError):
    """Something about a request queue."""


class QueueFull(QueueError):
    """The queue holds `max_length` requests; nothing of the call was accepted.

    Attributes:
        retry_after_seconds: when there should be room, at the rate at which requests started in the last seconds; at most 60.
        depth: requests waiting now.
    """

    def __init__(self, name: str, depth: int, retry_after_seconds: float) -> None:
        super().__init__(f"queue {name} is full: {depth} requests wait; try again in {retry_after_seconds:.1f} s")
        self.depth = depth
        self.retry_after_seconds = retry_after_seconds


class LeaseLost(QueueError):
    """The lease ran out before the request was settled. Whoever holds it now settles it.

    Attributes:
        ids: the requests concerned.
    """

    def __init__(self, ids: tuple[str, ...]) -> None:
        super().__init__(f"lease lost, another worker has the request: {', '.join(ids)}")
        self.ids = ids


class RequestDead(QueueError):
    """The request was given up. `reason` is the last failure."""

    def __init__(self, request_id: str, reason: str) -> None:
        super().__init__(f"request {request_id} was given up: {reason}")
        self.id = request_id
        self.reason = reason


class RequestExpired(QueueError):
    """The deadline passed before the request started."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request {request_id} expired: its deadline passed before it started")
        self.id = request_id


class UnknownRequest(QueueError):
    """No such request: never enqueued, or done so long ago that its result is gone."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request {request_id} is unknown: never enqueued, or its result was dropped after its TTL")
        self.id = request_id


class WaitTimedOut(QueueError, TimeoutError):
    """No result within the time given. The request goes on."""

    def __init__(self, request_id: str, timeout_seconds: float) -> None:
        super().__init__(f"request {request_id} has no result after {timeout_seconds:g} s")
        self.id = request_id


class QueueUnavailable(QueueError, ConnectionError):
    """Redis did not answer within `timeout_seconds`, or refused. Calls may be repeated with the same id."""
