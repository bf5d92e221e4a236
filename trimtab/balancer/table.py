"""The endpoints of one ranking, laid out so that drawing one by weight is a single bisection. One per publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from trimtab.balancer.health import Endpoint

_EXTRA_DRAWS = 4


class Table:
    """Draws endpoints in proportion to their weight.

    Args:
        endpoints: all endpoints of the ranking, best first, with their weights set.
    """

    __slots__ = ("drawing", "everyone", "idle", "level", "serving")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.everyone = tuple(endpoints)
        self.serving = tuple(e for e in endpoints if e.weight > 0.0)
        """Weight above 0: what requests go to."""
        self.idle = tuple(e for e in endpoints if e.weight <= 0.0)
        """Weight 0 (ejected, warming): used only when nothing else is left."""
        self.level = self.drawing = self._drawing([e.weight for e in self.serving])
        """(endpoints, cumulative bounds, total): what a choice's inner loop needs; `level` by weight alone, `drawing` by what `tilt` was told
        since. Replaced whole, so that they may be read without a lock."""

    def tilt(self) -> None:
        """From now on draw by what a request costs: weight / slowness."""
        self.drawing = self._drawing([1.0 / e.scale for e in self.serving])

    def _drawing(self, weights: Sequence[float]) -> tuple[tuple[Endpoint, ...], list[float], float]:
        cumulative = list(accumulate(weights))
        total = cumulative[-1] if cumulative else 0.0
        # Without the last bound, rounding can never lead past the last endpoint.
        return self.serving, cumulative[:-1], total

    def remaining(self, exclude: frozenset[str], random: Callable[[], float], enough: int) -> list[Endpoint]:
        """About `enough` endpoints, at random, that are not excluded: with weight if there are any, else those without.

        All of the group when it has at most `enough`; empty only when every endpoint is excluded.
        """
        for group in (self.serving, self.idle):
            if len(group) > _EXTRA_DRAWS * enough:
                count = len(group)
                drawn = [group[int(random() * count)] for _ in range(enough)]
                found = [e for e in drawn if e.name not in exclude]
                if found:
                    return found
            found = [e for e in group if e.name not in exclude]
            if found:
                return found
        return []
