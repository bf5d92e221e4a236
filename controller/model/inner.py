"""What flows through the inner loop, which sets the limit every second from the queue's own counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.model.limiter import LimiterMemory


@dataclass(frozen=True, slots=True)
class QueueCount:
    """A queue's totals at one instant. Two of them and a subtraction give any rate or mean, exactly.

    Args:
        at: until when they go, seconds on Redis' clock. Nothing has started or ended since.
        completions: results accepted.
        slots_seconds: integral of the slots in use over time; a request uses as many as its cost.
        service: completions by bucket of their service time (`trimtab.queue.counters`).
        in_flight: requests in flight now.
        waiting: requests that wait now.
        since: when the first request was counted; another value means that the counters began anew.
    """

    at: float
    completions: int
    slots_seconds: float
    service: Mapping[int, int]
    in_flight: int
    waiting: int
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class LimitView:
    """One policy as the inner loop reads it: the limit that stands, and the count of its queue.

    Either is None when there is none: nothing published yet, or a queue that nobody has used.
    """

    limit: int | None
    count: QueueCount | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the outer loop last said of a service: all that the queue's counters cannot tell.

    Args:
        at: when, on the inner loop's clock, seconds.
        ready: instances that serve; None when not known.
        memory: the fullest instance's memory, ratio of its limit.
        doubt: why the view was not whole, in words; empty when it was.
        default: what the queue is to go back to when the limit has expired; None when not known.
        starved: why the limit must not be cut below the knee, in words; empty when it may.
    """

    at: float
    ready: int | None
    memory: float | None = None
    doubt: str = ""
    starved: str = ""
    default: int | None = None


@dataclass(frozen=True, slots=True)
class InnerMemory:
    """What the inner loop remembers of one policy. Losing it costs one period.

    Args:
        limiter: of the adaptive limit.
        start: the count from which the running period is measured; None until its settling time is over.
        since: when that was, on the inner loop's clock.
        not_before: when a period may begin: what is in flight must have followed the last move first.
        response: mean response time of the last period, seconds; None before the first.
        outlook_at: the outlook whose memory has been acted on.
        doubt_since: since when the outer loop's view is not to be trusted; None while it is.
        ceiling: what stood then: no growth beyond it in doubt.
        told_at: when the limit was last to be written.
        why: what the last period said.
    """

    limiter: LimiterMemory | None = None
    start: QueueCount | None = None
    since: float = 0.0
    not_before: float = 0.0
    response: float | None = None
    outlook_at: float | None = None
    doubt_since: float | None = None
    ceiling: int | None = None
    told_at: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class LimitPlan:
    """What one turn of the inner loop wants written: the limit alone.

    Args:
        before: what stood when this was decided; the write is refused when that has changed since.
        after: what should stand; the same as `before` to keep it alive.
        default: what the queue goes back to when the limit has expired; None when not known.
        valid_for_seconds: until when the limit counts.
    """

    policy: str
    queue: str
    before: int
    after: int
    default: int | None
    valid_for_seconds: float
    why: str
