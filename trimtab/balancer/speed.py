"""How fast each endpoint works now, from everybody's answers of the last seconds. Pure.

Published weights know an instance's capacity, some scrapes late. An answer knows it now: met by n others, a request takes about (n + 1) service
times of its instance, so seconds ÷ (n + 1 + LEAD) is the work of one place in its line. Clients add theirs up over the heartbeat; where that
differs from what the weight says by more than chance, the endpoint counts as so many times slower (or faster).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log

LEAD = 2.0
"""Added to the requests ahead: an idle endpoint is not infinitely better than one with a request, for places work in parallel."""
TAU_SECONDS = 4.0
"""How long an answer counts."""
CHANCE = 1.0
"""So many standard errors are believed by half; smaller differences hardly, larger ones nearly whole."""
ENOUGH = 5.0
"""Fewer answers from the whole fleet say nothing."""
SLOWEST = 5.0
"""The most that one answer, or all of them, can make an endpoint slower, in multiples of what its weight says."""
LEAST = 0.02
"""Evidence below this is left out of a heartbeat."""


class Speed:
    """Recent answers of one endpoint: `served`, their number, and `work`, their seconds per place in line, both fading."""

    __slots__ = ("at", "served", "work")

    def __init__(self) -> None:
        self.served = 0.0
        self.work = 0.0
        self.at = 0.0

    def observe(self, work: float, now: float) -> None:
        """One answer that took so many seconds per place in line."""
        keep = exp((self.at - now) / TAU_SECONDS) if self.served else 0.0
        self.served = self.served * keep + 1.0
        self.work = self.work * keep + work
        self.at = now

    def evidence(self, now: float) -> tuple[float, float]:
        """(served, work) as they count now."""
        if not self.served:
            return 0.0, 0.0
        keep = exp((self.at - now) / TAU_SECONDS)
        return self.served * keep, self.work * keep


def unit(rows: Iterable[tuple[float, float, float]]) -> float | None:
    """The fleet's seconds per place in line times weight: what an endpoint of weight 1 would need.

    Args:
        rows: (weight, served, work) of each endpoint.

    Returns:
        None when there is too little to tell.
    """
    whole = served = 0.0
    for weight, count, work in rows:
        served += count
        whole += work * weight
    return whole / served if served >= ENOUGH and whole > 0.0 else None


def slowness(weight: float, served: float, work: float, fleet: float, belief: float = 1.0) -> float:
    """How many times slower an endpoint works than its weight says; 1 without evidence.

    Args:
        weight: published, above 0.
        served: answers that count.
        work: their seconds per place in line, summed.
        fleet: what `unit` found.
        belief: how young the counts are that answers met, 0 to 1. With old ones a long line that nobody knew of looks like a slow endpoint, and
            turning from it together makes the next long line, so its square bends the result towards 1.
    """
    if served <= 0.0 or work <= 0.0:
        return 1.0
    far = log(work * weight / (served * fleet))
    surprise = far * far * served
    most = log(SLOWEST)
    return exp(belief * belief * min(most, max(-most, far * surprise / (surprise + CHANCE * CHANCE))))
