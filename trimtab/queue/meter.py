"""Read a queue's counters in a pipeline of your own, and make rates of two readings. Pure: no sockets, no clock.

inspect_command() -> [your Redis client] -> parse_inspection() -> Inspection
between(before, after) -> Window: rates, means and quantiles of that time; or Discontinuity, with the reason
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trimtab.contract import Keys
from trimtab.errors import QueueError
from trimtab.queue.counters import MONOTONIC, Counters, Inspection, bucket_bound_seconds
from trimtab.queue.protocol import inspection, script


def inspect_command(policy: str, name: str = "model_requests", default_limit: int = 5) -> tuple[str | int, ...]:
    """The command whose reply `parse_inspection` reads: `pipeline.execute_command(*inspect_command("models/m"))`.

    It writes nothing, and its reply is text and integers only, so a client that decodes replies may send it. It is an EVAL
    with the script's 1.5 kB: unlike an EVALSHA it cannot fail for a script that Redis does not know, which inside a pipeline
    nobody could mend, and redis-py's cluster pipelines accept it. All its keys lie in the policy's hash slot.

    Args:
        policy: `namespace/name`.
        name: of the queue.
        default_limit: what `Inspection.limit` says while no limit is set.
    """
    keys = Keys(policy)
    names = keys.queue(name).script_keys(keys.limit)
    return "EVAL", script("inspect").text.decode(), len(names), *names, default_limit


def parse_inspection(reply: Any) -> Inspection:
    """What the queue held and had counted at one instant of the server's clock, the integrals brought up to it.

    Args:
        reply: of `inspect_command`, as bytes or text.

    Raises:
        QueueError: it is no such reply, for example an error that a pipeline returned.
    """
    if isinstance(reply, Exception):
        raise QueueError(f"no counters: {reply}") from reply
    try:
        seen = inspection(reply)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise QueueError(f"no reply of inspect: {error}") from error
    numbers = [getattr(seen.counters, name) for name in (*MONOTONIC, *SUMS, "at")]
    if min(seen.waiting, seen.delayed, seen.in_flight, seen.dead, *numbers) < 0 or not math.isfinite(sum(numbers)):
        raise QueueError("no reply of inspect: a number is below 0 or not finite")
    return seen


@dataclass(frozen=True, slots=True)
class Discontinuity:
    """Two readings between which nothing can be said. `reason` says why, in words."""

    reason: str


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two readings. Counts are exact; times are seconds of the server's clock.

    Attributes:
        seconds: its length, above 0.
        mean_in_flight: requests in flight, averaged over the time.
        mean_slots: the same, weighted by cost.
        mean_wait_seconds: from enqueue to start, over the starts; None without any.
        mean_service_seconds: from start to completion, over the completions; None without any.
        service: completions by bucket of their service time; see `bucket_bound_seconds`.
    """

    seconds: float
    arrivals: int
    starts: int
    completions: int
    failures: int
    lost: int
    released: int
    retries: int
    dead: int
    requeued: int
    expired: int
    refused: int
    mean_in_flight: float
    mean_slots: float
    mean_wait_seconds: float | None
    mean_service_seconds: float | None
    service: Mapping[int, int] = field(default_factory=dict)

    @property
    def arrivals_per_second(self) -> float:
        """Demand that was accepted; with `refused` / `seconds` the whole of it."""
        return self.arrivals / self.seconds

    @property
    def starts_per_second(self) -> float:
        """Leases given."""
        return self.starts / self.seconds

    @property
    def completions_per_second(self) -> float:
        """Throughput: results accepted."""
        return self.completions / self.seconds

    def service_quantile_seconds(self, quantile: float) -> float | None:
        """This quantile, 0 to 1, of the service times in the window; None without a completion.

        Interpolated on a logarithmic scale within its bucket, so right to within a bucket's width, 19 %.
        """
        rank = quantile * sum(self.service.values())
        seen = 0.0
        for bucket, count in sorted(self.service.items()):
            if count and seen + count >= rank:
                low, high = (0.0, bucket_bound_seconds(0)) if bucket == 0 else _bounds(bucket)
                part = (rank - seen) / count
                return high * part if bucket == 0 else low * (high / low) ** part
            seen += count
        return None


def _bounds(bucket: int) -> tuple[float, float]:
    return bucket_bound_seconds(bucket - 1), bucket_bound_seconds(bucket)


def between(before: Inspection, after: Inspection) -> Window | Discontinuity:
    """What happened between two readings of one queue.

    A `Discontinuity` when no time passed or the server's clock went back; when the counters began anew (the key was deleted,
    Redis lost its data); or when one of them fell (a fail-over to a replica that had not all writes).
    """
    old, new = before.counters, after.counters
    seconds = after.at - before.at
    if seconds <= 0:
        return Discontinuity("no time passed" if seconds == 0 else f"the server's clock went back by {-seconds:.3f} s")
    if old.since != new.since and old != Counters():  # of an unused queue nothing can have been lost
        return Discontinuity("the counters began anew")
    counts = {name: getattr(new, name) - getattr(old, name) for name in MONOTONIC}
    service = {
        bucket: new.service.get(bucket, 0) - old.service.get(bucket, 0) for bucket in {*old.service, *new.service}
    }
    sums = {name: getattr(new, name) - getattr(old, name) for name in SUMS}
    for name, value in (*counts.items(), *sums.items(), *((f"service:{bucket}", n) for bucket, n in service.items())):
        if value < -ROUNDING_SECONDS:
            return Discontinuity(f"the counter {name} fell by {-value:g}")
    starts, completions = counts["starts"], counts["completions"]
    return Window(
        seconds=seconds,
        **counts,
        mean_in_flight=max(0.0, sums["inflight_seconds"]) / seconds,
        mean_slots=max(0.0, sums["slots_seconds"]) / seconds,
        mean_wait_seconds=max(0.0, sums["waited_seconds"]) / starts if starts else None,
        mean_service_seconds=max(0.0, sums["service_seconds"]) / completions if completions else None,
        service={bucket: count for bucket, count in sorted(service.items()) if count},
    )


SUMS: Sequence[str] = ("inflight_seconds", "slots_seconds", "waited_seconds", "service_seconds")
ROUNDING_SECONDS = 1e-6
"""Sums are whole milliseconds or microseconds; as floating-point seconds they may seem to fall by less than this."""
