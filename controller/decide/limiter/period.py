"""What happened between two counts of a queue, and when that is enough to go by. Pure arithmetic on exact totals."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp2

from controller.model.inner import QueueCount
from trimtab.queue.counters import BUCKETS_PER_OCTAVE, bucket_bound_seconds

ENOUGH = 100
"""Completions after which a period is over: a rate is then known to some 10 % of the spread of service times."""
SHORTEST_SECONDS = 0.9
"""A turn of the inner loop, less its jitter."""
LONGEST_SECONDS, LONGEST_SLOS = 10.0, 4.0
"""A period with fewer completions ends after this, or after so many times the SLO's response time, if that is more."""


@dataclass(frozen=True, slots=True)
class Period:
    """Means between two counts.

    Args:
        seconds: its length on Redis' clock; 0 when nothing started or ended.
        finished: completions in it.
        in_flight: mean slots in use.
        throughput: completions/s.
        response: mean response time by Little's law, seconds; None when nothing finished.
    """

    seconds: float
    finished: int
    in_flight: float
    throughput: float
    response: float | None


def between(start: QueueCount, end: QueueCount) -> Period | None:
    """The period from one count to a later one; None when the counters went back, so that nothing can be said of it."""
    seconds, finished = end.at - start.at, end.completions - start.completions
    slots = end.slots_seconds - start.slots_seconds
    if start.since != end.since or seconds < 0.0 or finished < 0 or slots < -0.5:
        return None
    if seconds == 0.0:
        return Period(0.0, finished, float(end.in_flight), 0.0, None)
    in_flight = max(slots, 0.0) / seconds
    throughput = finished / seconds
    return Period(seconds, finished, in_flight, throughput, in_flight / throughput if finished else None)


def is_over(period: Period, waited_seconds: float, slo_seconds: float) -> bool:
    """Whether a period says enough; `waited_seconds` is its length on the inner loop's own clock, which goes on when nothing happens."""
    if waited_seconds >= max(LONGEST_SECONDS, LONGEST_SLOS * slo_seconds):
        return True
    return waited_seconds >= SHORTEST_SECONDS and period.finished >= ENOUGH


def quantile(start: QueueCount, end: QueueCount, share: float) -> float | None:
    """Service time at this quantile of what finished between, seconds; None when nothing did.

    Inside its bucket the service time is taken to be spread evenly in its logarithm.
    """
    counts = [(i, n - start.service.get(i, 0)) for i, n in sorted(end.service.items())]
    total = sum(n for _, n in counts if n > 0)
    if total <= 0:
        return None
    target, seen = share * total, 0
    for bucket, count in counts:
        if count <= 0:
            continue
        seen += count
        if seen >= target:
            missing = (seen - target) / count
            return bucket_bound_seconds(bucket) * exp2(-missing / BUCKETS_PER_OCTAVE)
    return None
