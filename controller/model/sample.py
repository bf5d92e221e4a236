"""One number from the world, and how far to trust it. "No data" is a type here, never a zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never


class Signal(StrEnum):
    """What may be known about one instance. Base units: seconds, requests, requests/s, ratios."""

    LATENCY = "latency"
    """Mean response time over the window, seconds."""
    LATENCY_QUANTILE = "latencyQuantile"
    """Response time at the SLO's quantile, seconds."""
    RATE = "rate"
    """Requests finished per second."""
    ERRORS = "errors"
    """Failed share of the finished requests, 0..1."""
    CPU = "cpu"
    """CPU used, as a ratio of the limit (else of the request)."""
    MEMORY = "memory"
    """Memory used, as a ratio of the limit."""
    UTILISATION = "utilisation"
    """How full the server itself says it is, 0..1: KV cache, GPU, running ÷ slots."""
    IN_FLIGHT = "inFlight"
    """Requests inside the server: running and waiting."""
    QUEUE = "queue"
    """Requests waiting inside the server."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A finite value, young enough to act on in either direction."""

    value: float
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Stale:
    """A finite value that is too old to lower anything on."""

    value: float
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Absent:
    """No series answered. `reason` says whose fault that looks like."""

    reason: str


@dataclass(frozen=True, slots=True)
class Invalid:
    """An answer that is no number: NaN, ±Inf, a negative rate, text."""

    reason: str


Sample = Fresh | Stale | Absent | Invalid


def sample_of(value: float, age_seconds: float, *, fresh_for_seconds: float) -> Sample:
    """Judge one answered value by its finiteness and age. A negative age (clock skew) counts as zero; one that is no number is none."""
    if not math.isfinite(value):
        return Invalid(f"not a finite number: {value}")
    if not math.isfinite(age_seconds):
        return Invalid(f"its age is not a finite number: {age_seconds}")
    age_seconds = max(0.0, age_seconds)
    return Fresh(value, age_seconds) if age_seconds <= fresh_for_seconds else Stale(value, age_seconds)


def fresh_value(sample: Sample) -> float | None:
    """The value if it may be acted on in either direction, else None."""
    return sample.value if isinstance(sample, Fresh) else None


def last_value(sample: Sample) -> float | None:
    """The value however old, else None: good enough to hold on to, never to lower anything."""
    return sample.value if isinstance(sample, Fresh | Stale) else None


def describe(sample: Sample, unit: str = "") -> str:
    """A few words for logs and reasons: `0.52 s`, `0.52 s, 48 s old`, `no data (...)`."""
    match sample:
        case Fresh(value=value):
            return f"{value:.3g}{unit}"
        case Stale(value=value, age_seconds=age_seconds):
            return f"{value:.3g}{unit}, {age_seconds:.0f} s old"
        case Absent(reason=reason):
            return f"no data ({reason})"
        case Invalid(reason=reason):
            return f"invalid ({reason})"
        case _:
            assert_never(sample)
