"""Splitting one among several, within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum

ROUNDS = 200
"""Halvings of the search: more than the bits of a float."""
LEAST_TARGET = 1e-12
"""A target of nothing still rises with the scale, else its share could never leave its lower bound for the sum's sake."""


def project(
    targets: Mapping[str, float], low: Mapping[str, float], high: Mapping[str, float], total: float
) -> dict[str, float]:
    """Shares as proportional to `targets` as the bounds allow, summing to `total`.

    Finds the one scale s for which Σ clamp(s × target, low, high) = total: the sum rises with s, so halving finds it.
    Bounds that cannot be kept give way evenly: the result always sums to `total`.
    """
    least, most = fsum(low.values()), fsum(high.values())
    if least >= total:
        return _scaled(low, total)
    if most <= total:
        return _scaled(high, total)

    def at(scale: float) -> dict[str, float]:
        return {name: min(max(scale * max(targets[name], LEAST_TARGET), low[name]), high[name]) for name in targets}

    bottom, top = 0.0, 1.0
    while fsum(at(top).values()) < total and top < 1e300:
        top *= 2.0
    for _ in range(ROUNDS):
        middle = 0.5 * (bottom + top)
        if middle in {bottom, top}:
            break
        if fsum(at(middle).values()) < total:
            bottom = middle
        else:
            top = middle
    return _scaled(at(top), total)


def _scaled(shares: Mapping[str, float], total: float) -> dict[str, float]:
    whole = fsum(shares.values())
    if whole <= 0.0:
        return {name: total / len(shares) for name in shares}
    return {name: share / whole * total for name, share in shares.items()}
