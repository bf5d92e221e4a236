"""What the plain HPAs would have needed: their points joined, the share of misses on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log

from bench.scaling.world import Outcome

LEAST_SHARE = 1e-5


def at_hours(frontier: Sequence[Outcome], hours: float) -> float | None:
    """The frontier's share at so many hours; its share at its fewest hours if even fewer; None beyond its most."""
    rows = sorted((o.hours, max(o.share, LEAST_SHARE)) for o in frontier)
    if hours < rows[0][0]:
        return rows[0][1]
    for (h0, s0), (h1, s1) in pairwise(rows):
        if h0 <= hours <= h1:
            part = 0.0 if h1 == h0 else (hours - h0) / (h1 - h0)
            return exp(log(s0) + part * (log(s1) - log(s0)))
    return None


def at_share(frontier: Sequence[Outcome], share: float) -> float | None:
    """The hours that the frontier needs for such a share; its dearest point's if it has none as low; None above its most."""
    wanted = max(share, LEAST_SHARE)
    rows = sorted((max(o.share, LEAST_SHARE), o.hours) for o in frontier)
    if wanted < rows[0][0]:
        return max(hours for _, hours in rows)
    for (s0, h0), (s1, h1) in pairwise(rows):
        if s0 <= wanted <= s1:
            part = 0.0 if s1 == s0 else (log(wanted) - log(s0)) / (log(s1) - log(s0))
            return h0 + part * (h1 - h0)
    return None


def ratio(value: float, other: float | None) -> float | None:
    return None if not other else value / other
