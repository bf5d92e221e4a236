"""What the limiter is told at each update, and whether it may be believed."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

LARGEST = 1e9
"""Requests or requests/s; beyond it, or below its inverse, a number is a fault of who counted."""


@dataclass(frozen=True, slots=True)
class LimiterRules:
    """What a person wrote. Requests, fleet-wide, but `per_instance`; the SLO is in seconds at its quantile."""

    per_instance: int
    least: int
    most: int
    slo_seconds: float

    def default(self, ready: int) -> float:
        """The static limit, `per_instance` × instances, inside the range."""
        return self.clamp(float(self.per_instance * ready))

    def clamp(self, limit: float) -> float:
        """The nearest limit inside the range."""
        return min(max(limit, float(self.least)), float(self.most))


@dataclass(frozen=True, slots=True)
class LimiterSample:
    """Means over one control period in which the limit stood still. None where nothing is known.

    Args:
        in_flight: requests in flight, fleet-wide.
        throughput: requests finished per second, fleet-wide.
        latency: response time at the SLO's quantile, seconds.
        memory: the fullest instance's memory, ratio of its limit.
        ready: instances that serve.
        doubt: why the sums may lack something (an instance, fresh data), in words; empty when they are whole.
    """

    in_flight: float | None
    throughput: float | None
    latency: float | None = None
    memory: float | None = None
    ready: int | None = None
    doubt: str = ""

    def fault(self) -> str | None:
        """Why nothing may be learnt from this sample, in words; None when it is whole."""
        if self.doubt:
            return self.doubt
        for name, value in (("in-flight", self.in_flight), ("throughput", self.throughput)):
            if value is None:
                return f"no {name}"
            if not isfinite(value) or value < 0.0 or value > LARGEST or 0.0 < value < 1.0 / LARGEST:
                return f"{name} is {value:g}"
        if self.latency is not None and not (isfinite(self.latency) and self.latency > 0.0):
            return f"latency is {self.latency:g}"
        if self.throughput == 0.0 and self.in_flight and self.latency is None:
            return "nothing finished, and no response time says why"
        return None
