"""A controller that dies every hour leaves the fleet no worse off than one that lives."""

import pytest

from bench.scaling.scalers import Trimtab
from bench.scaling.traces import Trace
from bench.scaling.world import arrivals, run

HOURS = 10


def rises():
    """A steep rise by 60 % within three minutes, at another time in each hour, gone after a quarter of an hour."""
    at, rate = [0.0], [100.0]
    for hour in range(HOURS):
        start = 3600.0 * hour + (600.0, 1500.0, 2100.0)[hour % 3]
        at += [start, start + 180.0, start + 900.0, start + 1000.0]
        rate += [100.0, 160.0, 160.0, 100.0]
    return Trace("rises", [*at, 3600.0 * HOURS], [*rate, 100.0], 1.0)


class Forgetful(Trimtab):
    """One whose HPA keeps nothing."""

    def __call__(self, step):
        self._annotations = {}
        return super().__call__(step)


def test_who_takes_over_plans_for_what_was_learned():
    steps = arrivals(rises(), 1)
    living, dying, forgetful = (
        run(steps, 85, scaler)
        for scaler in (Trimtab(85), Trimtab(85, lives_seconds=3600.0), Forgetful(85, lives_seconds=3600.0))
    )
    assert dying.share <= living.share
    assert forgetful.share > 1.2 * dying.share, "or these are no rises that need a memory"
    assert dying.hours == pytest.approx(living.hours, rel=0.05)
