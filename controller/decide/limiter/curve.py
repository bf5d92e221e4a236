"""Throughput against requests in flight: the curve with a knee that fits the last samples best.

ln X(n) = ln softmin(n, K) - ln b: below the knee K throughput X grows with the requests in flight n, each taking the base
time b; beyond it X stays. By Little's law the response time is n / X, so one curve holds both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, fsum, log

ROUNDING = 6.0
"""Of the knee: a fleet's servers do not fill up evenly, so its knee is a bend."""
STEP, BEYOND = 0.05, 0.5
"""Of the candidates for ln K, and how far beyond the samples they reach."""
KNEE_SPREAD = 0.25
"""How far ln K is expected to move between two fits: where the samples do not tell, it stays near what was found before."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A fit. `lack(k)` is the evidence against a knee at k, a difference of log-likelihoods; `unaided` that of the samples alone."""

    knee: float
    base: float
    knees: tuple[float, ...]
    lacks: tuple[float, ...]
    unaided: tuple[float, ...]

    def predict(self, in_flight: float) -> float:
        """Logarithm of the throughput to expect."""
        return bend(in_flight, self.knee) - log(self.base)

    def lack(self, knee: float) -> float:
        """Evidence against a knee there, or where the candidate nearest to it is."""
        return self.lacks[self._nearest(knee)]

    def lack_unaided(self, knee: float) -> float:
        """Likewise from the samples alone: what is remembered of the base may have been seen under load."""
        return self.unaided[self._nearest(knee)]

    def _nearest(self, knee: float) -> int:
        return min(range(len(self.knees)), key=lambda i: abs(self.knees[i] - knee))


def bend(in_flight: float, knee: float) -> float:
    """Logarithm of softmin(n, K)."""
    ratio = log(in_flight / knee)
    return log(in_flight) - log(1.0 + exp(min(ROUNDING * ratio, 600.0))) / ROUNDING


def fit(
    samples: Sequence[tuple[float, float]],
    noise: float,
    *,
    memory: float,
    base: float | None,
    trust: float,
    knee: float | None,
) -> Curve:
    """The curve through the samples: mean of ln K and ln b over the candidates, each as likely as the samples make it.

    Args:
        samples: requests in flight and requests/s, all positive, oldest first.
        noise: standard deviation of ln throughput.
        memory: updates after which a sample counts 1/e.
        base: as found before, seconds; it counts as much as `trust` samples.
        knee: as found before, requests; None when nothing is known or it has changed.
    """
    weights = [exp((i + 1 - len(samples)) / memory) for i in range(len(samples))]
    logs = [(n, log(x)) for n, x in samples]
    prior = 0.0 if base is None else trust
    prior_log = 0.0 if base is None else log(base)
    whole_weight = fsum(weights)
    total = whole_weight + prior
    low, high = log(min(n for n, _ in logs)) - BEYOND, log(max(n for n, _ in logs)) + BEYOND
    count = round((high - low) / STEP) + 1
    knees, bases, costs, told = [], [], [], []
    for i in range(count):
        candidate = exp(low + i * STEP)
        gaps = [bend(n, candidate) - x for n, x in logs]
        log_base = (fsum(w * g for w, g in zip(weights, gaps, strict=True)) + prior * prior_log) / total
        cost = fsum(w * (g - log_base) ** 2 for w, g in zip(weights, gaps, strict=True))
        cost += prior * (log_base - prior_log) ** 2
        mean_gap = fsum(w * g for w, g in zip(weights, gaps, strict=True)) / whole_weight
        told.append(fsum(w * (g - mean_gap) ** 2 for w, g in zip(weights, gaps, strict=True)) / (2.0 * noise * noise))
        knees.append(candidate)
        bases.append(exp(log_base))
        costs.append(cost / (2.0 * noise * noise))
    pulls = [0.0 if knee is None else 0.5 * (log(k / knee) / KNEE_SPREAD) ** 2 for k in knees]
    least, least_told = min(costs), min(told)
    worst = min(c + p for c, p in zip(costs, pulls, strict=True))
    odds = [exp(worst - c - p) for c, p in zip(costs, pulls, strict=True)]
    whole = fsum(odds)
    mean_knee = exp(fsum(o * log(k) for o, k in zip(odds, knees, strict=True)) / whole)
    mean_base = exp(fsum(o * log(b) for o, b in zip(odds, bases, strict=True)) / whole)
    return Curve(
        mean_knee, mean_base, tuple(knees), tuple(c - least for c in costs), tuple(t - least_told for t in told)
    )
