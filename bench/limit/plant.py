"""A fleet behind a queue, seen once per control period: what the limit does to throughput and response time.

In flight n, knee K (slots), service time s. Throughput follows min(n, K) / s, rounded at the knee as a fleet's is, whose
servers do not fill up evenly, and falls a little beyond it, as servers do that thrash. Response time is n / throughput
(Little's law). Noise multiplies the service itself, independently per period, lognormal: throughput and response time
both carry it, so nothing that a limiter may look at is clean.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import erf, exp, log, log1p, sqrt

SERVICE_SECONDS = 0.5
SLO_SECONDS = 1.5
"""For the 95th percentile; 1.5 times what it is with nothing waiting."""
TIMEOUT_SECONDS = 5.0
ROUNDING = 8.0
THRASH = 0.1
SPREAD = sqrt(log1p(0.5**2))
"""Of response times within one period: lognormal with coefficient of variation 0.5, mean 1."""
P95 = exp(1.645 * SPREAD - SPREAD * SPREAD / 2)


@dataclass(frozen=True)
class Observed:
    """One period. Means; requests and seconds; `good` is completions/s within the SLO."""

    in_flight: float
    throughput: float
    response: float
    p95: float
    good: float
    timed_out: bool


class Plant:
    def __init__(self, seed: int, noise: float) -> None:
        self.rng = random.Random(seed)
        self.sigma = sqrt(log1p(noise * noise))

    def period(self, limit: float, knee: float, demand: float | None, *, stuck: bool = False) -> Observed:
        """One period at `limit`; `demand` is how many would be in flight without it, None for a backlog without end."""
        factor = exp(self.sigma * self.rng.gauss(0.0, 1.0) - self.sigma * self.sigma / 2)
        n = limit if demand is None else min(limit, demand)
        if stuck:
            return Observed(n, n / TIMEOUT_SECONDS, TIMEOUT_SECONDS, TIMEOUT_SECONDS, 0.0, timed_out=True)
        used = (n**-ROUNDING + knee**-ROUNDING) ** (-1 / ROUNDING)
        service = SERVICE_SECONDS * factor * (1.0 + THRASH * max(0.0, n / knee - 1.0))
        throughput = used / service
        response = n / throughput
        within = 0.5 * (1.0 + erf((log(SLO_SECONDS / response) + SPREAD * SPREAD / 2) / SPREAD / sqrt(2.0)))
        return Observed(n, throughput, response, response * P95, throughput * within, timed_out=False)
