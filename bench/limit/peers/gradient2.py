"""Gradient2, as in Netflix's concurrency-limits (Gradient2Limit): L' = L g + 4, g = clamp(1.5 long / short, 0.5, 1)."""

from __future__ import annotations

from bench.limit.plant import Observed

SMOOTHING, QUEUE, TOLERANCE = 0.2, 4.0, 1.5
LONG_WINDOW, WARMUP = 600, 10
LEAST, MOST = 1.0, 1000.0
"""The published 20 and 200 would end the run at a bound; with these the algorithm itself is seen."""


class Gradient2:
    def __init__(self, initial: float, seed: int) -> None:  # noqa: ARG002 - one signature for all
        self.limit = initial
        self.long, self.count = 0.0, 0

    def update(self, seen: Observed) -> float:
        short = seen.response
        self.count += 1
        if self.count <= WARMUP:
            self.long += (short - self.long) / self.count
        else:
            self.long += (short - self.long) * 2.0 / (LONG_WINDOW + 1)
        if self.long / short > 2.0:
            self.long *= 0.95
        if seen.in_flight < self.limit / 2:
            return self.limit
        gradient = min(max(TOLERANCE * self.long / short, 0.5), 1.0)
        wanted = self.limit * gradient + QUEUE
        self.limit = min(max(self.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING, LEAST), MOST)
        return self.limit
