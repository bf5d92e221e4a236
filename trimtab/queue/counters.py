"""The counters that the scripts keep, as values. Pure: the controller may use it too."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

BUCKETS_PER_OCTAVE = 4
"""Bucket i of the service-time histogram holds times up to 1 ms x 2^(i/4); the last one, 80, all above 1,024 s."""


TOTALS = (
    *("at", "inflight_ms", "extra_ms", "extra", "starts", "completions", "waited_us", "service_us"),
    *("window_at", "window_starts", "prev_at", "prev_starts", "results_slot", "swept_at"),
)
"""What the field `totals` holds, as little-endian doubles in this order; all are whole numbers below 2^53."""


def pack_totals(values: Mapping[str, float]) -> bytes:
    """The field `totals`; what is not given is 0."""
    return struct.pack(f"<{len(TOTALS)}d", *(values.get(name, 0) for name in TOTALS))


def unpack_totals(packed: bytes) -> dict[str, str]:
    """The values in the field `totals`, as the other counters are stored: decimal text."""
    return {name: f"{value:.0f}" for name, value in zip(TOTALS, struct.unpack(f"<{len(TOTALS)}d", packed), strict=True)}


def bucket_bound_seconds(bucket: int) -> float:
    """Upper bound of a bucket of the service-time histogram."""
    return 0.001 * math.exp2(bucket / BUCKETS_PER_OCTAVE)


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the queue was first used; never reset. Two readings and a subtraction give any rate or mean.

    arrivals + requeued = completions + expired + dead + waiting + delayed + in flight, and
    starts = completions + failures + lost + released + in flight, at every instant.
    """

    arrivals: int = 0
    starts: int = 0
    completions: int = 0
    failures: int = 0
    """Attempts that a worker reported as failed."""
    lost: int = 0
    """Attempts whose lease ran out."""
    released: int = 0
    """Starts that were given back unstarted."""
    retries: int = 0
    dead: int = 0
    requeued: int = 0
    expired: int = 0
    refused: int = 0
    """Requests that found the queue full."""
    inflight_seconds: float = 0.0
    """Integral of the requests in flight over time, up to `at`."""
    slots_seconds: float = 0.0
    """The same, weighted by cost."""
    waited_seconds: float = 0.0
    """Sum over the starts of the time since the enqueue."""
    service_seconds: float = 0.0
    """Sum over the completions of the time since the start."""
    at: float = 0.0
    """Unix time, seconds, up to which the integrals go."""
    since: float = 0.0
    """Unix time, seconds, of the first request ever counted: another value means that the counters began anew."""
    extra: int = 0
    """Sum of charged cost - 1 over the leases: slots in use = leases + extra."""
    service: Mapping[int, int] = field(default_factory=dict)
    """Service-time histogram: bucket -> completions. `bucket_bound_seconds` gives the bounds."""

    @classmethod
    def parse(cls, fields: Mapping[bytes, bytes] | Mapping[str, str]) -> Counters:
        """From `inspect.lua`, decoded or not, or HGETALL of `QueueKeys.counters`, as bytes.

        Absent fields are zero: nothing of the kind happened.
        """
        text: dict[str, str] = {}
        for key, value in fields.items():
            if _text(key) == "totals" and isinstance(value, bytes):
                text.update(unpack_totals(value))
            else:
                text[_text(key)] = _text(value)

        def number(name: str) -> float:
            return float(text.get(name, 0))

        prefix = "service:"
        service: dict[int, int] = {}
        for key, value in text.items():
            if key.startswith(prefix):  # older scripts wrote a bucket -0 beside 0
                bucket = int(key[len(prefix) :])
                service[bucket] = service.get(bucket, 0) + int(value)
        return cls(
            **{name: int(number(name)) for name in _WHOLE},
            inflight_seconds=number("inflight_ms") / 1000,
            slots_seconds=(number("inflight_ms") + number("extra_ms")) / 1000,
            waited_seconds=number("waited_us") / 1e6,
            service_seconds=number("service_us") / 1e6,
            at=number("at") / 1000,
            since=number("since") / 1e6,
            service=service,
        )

    def service_quantile_seconds(self, quantile: float) -> float | None:
        """Upper bound of the bucket that holds this quantile of all service times; None before the first completion."""
        target = quantile * sum(self.service.values())
        seen = 0
        for bucket in sorted(self.service):
            seen += self.service[bucket]
            if seen >= target:
                return bucket_bound_seconds(bucket)
        return None


MONOTONIC = (
    *("arrivals", "starts", "completions", "failures", "lost", "released", "retries"),
    *("dead", "requeued", "expired", "refused"),
)
"""Fields of `Counters` that only grow."""
_WHOLE = (*MONOTONIC, "extra")


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the queue held at one instant of the server's clock.

    Attributes:
        at: Unix time, seconds.
        limit: in force: the controller's, or the default when that is absent.
        oldest_seconds: how long the first in line has waited; 0 when nothing waits.
        counters: with both integrals brought up to `at`.
    """

    at: float
    limit: int
    waiting: int
    delayed: int
    in_flight: int
    slots_in_use: int
    dead: int
    oldest_seconds: float
    counters: Counters
