"""Envoy's adaptive_concurrency (gradient controller): g = clamp(1.25 minRTT / rtt, 0.5, 2); L' = L g + sqrt(L g).

minRTT is measured anew every 60 periods (+ up to 15 % jitter), and after 5 updates in a row at the floor, with the limit pinned to 3
meanwhile: what arrives above that is refused.
"""

from __future__ import annotations

import random
from math import sqrt

from bench.limit.plant import Observed

LEAST, MOST = 3.0, 1000.0
BUFFER = 1.25
EVERY, JITTER = 60, 0.15
AT_FLOOR = 5


class Envoy:
    def __init__(self, initial: float, seed: int) -> None:
        self.rng = random.Random(seed)
        self.limit = initial
        self.kept = initial
        self.min_rtt: float | None = None
        self.wait, self.low = 0, 0

    def update(self, seen: Observed) -> float:
        if self.wait == 0:
            self.kept, self.limit, self.wait = self.limit, LEAST, -1
        elif self.wait < 0:
            self.min_rtt = seen.response
            self.limit = max(self.kept, LEAST)
            self.wait, self.low = round(EVERY * (1 + self.rng.uniform(0, JITTER))), 0
        elif self.min_rtt is not None:
            self.wait -= 1
            gradient = min(max(self.min_rtt * BUFFER / seen.response, 0.5), 2.0)
            wanted = self.limit * gradient
            self.limit = min(max(wanted + sqrt(wanted), LEAST), MOST)
            self.low = self.low + 1 if self.limit <= LEAST else 0
            if self.low >= AT_FLOOR:
                self.wait = 0
        return self.limit
