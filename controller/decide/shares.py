"""Splitting one among several, within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum

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
    aims = {name: max(target, LEAST_TARGET) for name, target in targets.items()}
    scale = _scale(aims, low, high, total)
    return _scaled({name: min(max(scale * aim, low[name]), high[name]) for name, aim in aims.items()}, total)


def fill(capacities: Mapping[str, float], backlogs: Mapping[str, float], amount: float) -> dict[str, float]:
    """Water-filling: `amount` poured over what each already holds, so that level ÷ capacity is the same wherever it flows.

    x_i = max(0, θ × capacity_i − backlog_i) with Σ x = amount (Dahlin 2000: load interpreted by its age). The greater the
    amount against the backlogs, the closer to shares by capacity.

    Args:
        capacities: above 0.
        backlogs: requests inside, by the same names.
        amount: requests to come, above 0.
    """
    order = sorted((backlogs[name] / capacity, capacity) for name, capacity in capacities.items())
    width = held = level = 0.0
    for index, (mark, capacity) in enumerate(order):
        width += capacity
        held += mark * capacity
        level = (amount + held) / width
        if index + 1 == len(order) or level <= order[index + 1][0]:
            break
    return {name: max(0.0, level * capacity - backlogs[name]) for name, capacity in capacities.items()}


def _scale(aims: Mapping[str, float], low: Mapping[str, float], high: Mapping[str, float], total: float) -> float:
    """The scale at which the clamped shares sum to `total`: the segment by halving the sorted corners, then by its line."""
    rows = [(aim, low[name], high[name]) for name, aim in aims.items()]
    corners = sorted({corner for aim, least, most in rows for corner in (least / aim, most / aim)})
    left, right = 0, len(corners) - 1
    while left < right:
        middle = (left + right) // 2
        scale = corners[middle]
        if fsum(min(max(scale * aim, least), most) for aim, least, most in rows) < total:
            left = middle + 1
        else:
            right = middle
    top = corners[left]
    bottom = corners[left - 1] if left else 0.0
    start = fsum(min(max(bottom * aim, least), most) for aim, least, most in rows)
    end = fsum(min(max(top * aim, least), most) for aim, least, most in rows)
    if end <= start:
        return top
    return bottom + (top - bottom) * min(max((total - start) / (end - start), 0.0), 1.0)


def _scaled(shares: Mapping[str, float], total: float) -> dict[str, float]:
    whole = fsum(shares.values())
    if whole <= 0.0:
        return {name: total / len(shares) for name in shares}
    return {name: share / whole * total for name, share in shares.items()}
