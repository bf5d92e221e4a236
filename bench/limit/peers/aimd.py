"""AIMD, as in Netflix's concurrency-limits (AIMDLimit): x 0.9 on a drop or a slow answer, else + 1.

Its timeout is given as an oracle's: 1.5 times the response time with nothing waiting. The published 5 s never fires here.
"""

from __future__ import annotations

from bench.limit.plant import SERVICE_SECONDS, Observed

BACKOFF = 0.9
TIMEOUT = 1.5 * SERVICE_SECONDS
LEAST, MOST = 1.0, 1000.0


class Aimd:
    def __init__(self, initial: float, seed: int) -> None:  # noqa: ARG002 - one signature for all
        self.limit = initial

    def update(self, seen: Observed) -> float:
        if seen.timed_out or seen.response > TIMEOUT:
            self.limit = float(int(self.limit * BACKOFF))
        elif 2 * seen.in_flight >= self.limit:
            self.limit += 1.0
        self.limit = min(max(self.limit, LEAST), MOST)
        return self.limit
