"""Vegas, as in Netflix's concurrency-limits (VegasLimit): queue = L (1 - rtt0 / rtt) kept between 3 and 6 log10 L."""

from __future__ import annotations

import random
from math import ceil, log10

from bench.limit.plant import Observed

MAX_LIMIT = 1000.0
PROBE_MULTIPLIER = 30


class Vegas:
    def __init__(self, initial: float, seed: int) -> None:
        self.limit = initial
        self.rng = random.Random(seed)
        self.rtt0 = 0.0
        self.probes, self.jitter = 0, self.rng.uniform(0.5, 1.0)

    def update(self, seen: Observed) -> float:
        self.probes += 1
        if self.jitter * PROBE_MULTIPLIER * self.limit <= self.probes:
            self.probes, self.jitter = 0, self.rng.uniform(0.5, 1.0)
            self.rtt0 = seen.response
            return self.limit
        if self.rtt0 <= 0.0 or seen.response < self.rtt0:
            self.rtt0 = seen.response
            return self.limit
        step = max(1, int(log10(self.limit)))
        queue = ceil(self.limit * (1.0 - self.rtt0 / seen.response))
        if seen.timed_out:
            self.limit -= step
        elif 2 * seen.in_flight < self.limit:
            return self.limit
        elif queue <= step:
            self.limit += 6 * step
        elif queue < 3 * step:
            self.limit += step
        elif queue > 6 * step:
            self.limit -= step
        self.limit = min(max(self.limit, 1.0), MAX_LIMIT)
        return self.limit
