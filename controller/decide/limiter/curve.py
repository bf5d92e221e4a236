"""Throughput against requests in flight: the curve with a knee that fits what was seen best.

ln X(n) = ln softmin(n, K) - ln b: below the knee K throughput X grows with the requests in flight n, each taking the base
time b; beyond it X stays. By Little's law the response time is n / X, so one curve holds both.

What was seen is kept in cells, `STEP` wide in ln n: each holds a weight and the mean of ln X. So any number of samples takes
the room and the time of some dozens, and the curve at all knees is one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, fsum, log

ROUNDING = 6.0
"""Of the knee: a fleet's servers do not fill up evenly, so its knee is a bend."""
STEP = 0.025
"""Width of a cell, in ln n."""
EVERY = 2
"""Cells between two candidates for the knee."""
BEYOND = 0.5
"""How far the candidates reach beyond what was seen, in ln n."""
KNEE_SPREAD = 0.25
"""How far ln K is expected to move between two fits: where the samples do not tell, it stays near what was found before."""
REACH = 400
"""Cells between n and K from which softmin is the smaller of both."""

Cell = tuple[int, float, float]
"""round(ln n / STEP), weight, mean of ln throughput."""
Cells = tuple[Cell, ...]


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
        place = round(log(knee / self.knees[0]) / (EVERY * STEP))
        return min(max(place, 0), len(self.knees) - 1)


def bend(in_flight: float, knee: float) -> float:
    """Logarithm of softmin(n, K)."""
    ratio = log(in_flight / knee)
    return log(in_flight) - log(1.0 + exp(min(ROUNDING * ratio, 600.0))) / ROUNDING


_BENDS = tuple(log(1.0 + exp(ROUNDING * STEP * d)) / ROUNDING for d in range(-REACH, REACH + 1))
"""ln n - ln softmin(n, K) by cells between n and K."""


def cell_of(in_flight: float) -> int:
    """The cell of n."""
    return round(log(in_flight) / STEP)


def add(cells: Cells, in_flight: float, throughput: float, *, memory: float) -> Cells:
    """The cells after one sample more; what was there before counts 1/e after `memory` samples."""
    place, value, fade = cell_of(in_flight), log(throughput), exp(-1.0 / memory)
    kept = {i: (w * fade, x) for i, w, x in cells if w * fade > 1e-3}
    weight, mean = kept.get(place, (0.0, value))
    kept[place] = (weight + 1.0, mean + (value - mean) / (weight + 1.0))
    return tuple((i, w, x) for i, (w, x) in sorted(kept.items()))


def shifted(cells: Cells, share: float) -> Cells:
    """The cells of a fleet that is `share` times as large."""
    cells_off, off = round(log(share) / STEP), log(share)
    return tuple((i + cells_off, w, x + off) for i, w, x in cells)


def weight_of(cells: Cells) -> float:
    """How many samples they count as."""
    return fsum(w for _, w, _ in cells)


def fit(cells: Cells, noise: float, *, base: float | None, trust: float, knee: float | None) -> Curve:
    """The curve through what was seen: mean of ln K and ln b over the candidates, each as likely as the samples make it.

    Args:
        cells: at least one.
        noise: standard deviation of ln throughput.
        base: as found before, seconds; it counts as much as `trust` samples.
        knee: as found before, requests; None when nothing is known or it has changed.
    """
    prior = 0.0 if base is None else trust
    prior_log = 0.0 if base is None else log(base)
    whole = weight_of(cells)
    total = whole + prior
    reach = round(BEYOND / STEP)
    places = range(cells[0][0] - reach, cells[-1][0] + reach + 1, EVERY)
    known = [(i, w, i * STEP - x) for i, w, x in cells]
    scale = 1.0 / (2.0 * noise * noise)
    bases, costs, told = [], [], []
    for place in places:
        first = second = 0.0
        for i, w, apart in known:
            gap = apart - _BENDS[min(max(i - place, -REACH), REACH) + REACH]
            first += w * gap
            second += w * gap * gap
        log_base = (first + prior * prior_log) / total
        bases.append(log_base)
        costs.append((second + prior * prior_log * prior_log - total * log_base * log_base) * scale)
        told.append((second - first * first / whole) * scale)
    centre = None if knee is None else log(knee)
    pulls = [0.0 if centre is None else 0.5 * ((p * STEP - centre) / KNEE_SPREAD) ** 2 for p in places]
    least, least_told = min(costs), min(told)
    best = min(c + p for c, p in zip(costs, pulls, strict=True))
    odds = [exp(best - c - p) for c, p in zip(costs, pulls, strict=True)]
    sure = fsum(odds)
    mean_knee = exp(fsum(o * p * STEP for o, p in zip(odds, places, strict=True)) / sure)
    mean_base = exp(fsum(o * b for o, b in zip(odds, bases, strict=True)) / sure)
    return Curve(
        mean_knee,
        mean_base,
        tuple(exp(p * STEP) for p in places),
        tuple(c - least for c in costs),
        tuple(t - least_told for t in told),
    )


def cells_of(samples: Sequence[tuple[float, float]], *, memory: float) -> Cells:
    """The cells of some samples, oldest first."""
    cells: Cells = ()
    for in_flight, throughput in samples:
        cells = add(cells, in_flight, throughput, memory=memory)
    return cells
