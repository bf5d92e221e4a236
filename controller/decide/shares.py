"""Splitting one among several, within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum, inf

ROUNDS = 200
"""Steps of the search at the most; a handful is usual."""
CLOSE = 1e-13
"""Relative error of a sum that is left to the last scaling."""
LEAST_TARGET = 1e-12
"""A target of nothing still rises with the scale, else its share could never leave its lower bound for the sum's sake."""


def project(
    targets: Mapping[str, float], low: Mapping[str, float], high: Mapping[str, float], total: float
) -> dict[str, float]:
    """Shares as proportional to `targets` as the bounds allow, summing to `total`.

    Finds the one scale s for which Σ clamp(s × target, low, high) = total. The sum is piecewise linear in s, so
    its corners lead to it. Bounds that cannot be kept give way evenly: the result always sums to `total`.
    """
    least, most = fsum(low.values()), fsum(high.values())
    if least >= total:
        return _scaled(low, total)
    if most <= total:
        return _scaled(high, total)
    rows = [(max(target, LEAST_TARGET), low[name], high[name]) for name, target in targets.items()]
    scale = _scale(rows, total)
    found = [least if (x := scale * aim) < least else min(most, x) for aim, least, most in rows]
    return _scaled(dict(zip(targets, found, strict=True)), total)


def fill(capacities: Mapping[str, float], backlogs: Mapping[str, float], amount: float) -> dict[str, float]:
    """Water-filling: `amount` poured over what each already holds, so that level ÷ capacity is the same wherever it flows.

    x_i = max(0, θ × capacity_i − backlog_i) with Σ x = amount (Dahlin 2000: load interpreted by its age). The greater the
    amount against the backlogs, the closer to shares by capacity.

    Args:
        capacities: above 0.
        backlogs: requests inside, by the same names.
        amount: requests to come, above 0.
    """
    width = sum(sorted(capacity for name, capacity in capacities.items() if not backlogs[name]))
    order = sorted((backlogs[name] / capacity, capacity) for name, capacity in capacities.items() if backlogs[name])
    held, level = 0.0, amount / width if width > 0.0 else inf
    for mark, capacity in order:
        if level <= mark:
            break
        width += capacity
        held += mark * capacity
        level = (amount + held) / width
    levels = {name: level * capacity - backlogs[name] for name, capacity in capacities.items()}
    return {name: max(0.0, share) for name, share in levels.items()}


def _scale(rows: Sequence[tuple[float, float, float]], total: float) -> float:
    """The scale at which the clamped shares sum to `total`, for rows of target, lower and upper bound.

    Newton's steps, which are exact on a line, inside a bracket.
    """
    bottom, top, scale = 0.0, max(most / aim for aim, _, most in rows), 1.0
    for _ in range(ROUNDS):
        if not bottom < scale < top:
            scale = 0.5 * (bottom + top)
            if scale in {bottom, top}:
                break
        found = [scale * aim for aim, _, _ in rows]
        whole = fsum(
            least if value < least else min(most, value) for value, (_, least, most) in zip(found, rows, strict=True)
        )
        if abs(whole - total) <= CLOSE * total:
            return scale
        if whole < total:
            bottom = scale
        else:
            top = scale
        slope = fsum(aim for value, (aim, least, most) in zip(found, rows, strict=True) if least <= value <= most)
        scale = scale + (total - whole) / slope if slope > 0.0 else 0.5 * (bottom + top)
    return top


def _scaled(shares: Mapping[str, float], total: float) -> dict[str, float]:
    whole = fsum(shares.values())
    if whole <= 0.0:
        return {name: total / len(shares) for name in shares}
    return {name: share / whole * total for name, share in shares.items()}
