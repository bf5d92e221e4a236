"""Scalers that are told what nobody can know, so that the table says how much of a distance a better forecast could close.

Both know what a replica serves, how full it may be, and how far chance strays from the mean rate: so many standard
deviations of arrivals and work are their margin. Neither knows what chance will bring, and both hold their floor as steady
as Trimtab's. What they need beyond the oracle is the price of chance and of few turns.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, sqrt

from bench.scaling.scalers import AHEAD_STEPS, LEAST
from bench.scaling.traces import Trace
from bench.scaling.world import CAPACITY, KNEE, MOST, STEP_SECONDS, WARM_SECONDS, WORK_NOISE, Scaler, Step
from controller.decide.floors.steady import settle
from controller.model.traffic import Standing


def future(trace: Trace, sigmas: float) -> Scaler:
    """Knows the mean rate at every instant until a replica asked for now serves: a forecast without any error."""
    means = [trace((n + 0.5) * STEP_SECONDS) for n in range(int(trace.seconds / STEP_SECONDS) + AHEAD_STEPS)]
    return _steady(lambda n: max(means[n : n + AHEAD_STEPS]), sigmas)


def moment(trace: Trace, sigmas: float) -> Scaler:
    """Knows the mean rate of the last step, and by how much it rose in it; a rise is taken to go on. It has nothing to estimate."""

    def most(n: int) -> float:
        middle = (n - 0.5) * STEP_SECONDS
        rose = trace(middle) - trace(middle - STEP_SECONDS)
        return trace(middle) + max(rose, 0.0) * AHEAD_STEPS

    return _steady(most, sigmas)


def strays(mean: float) -> float:
    """Standard deviation of the work that arrives in a step, as a share of its mean; `mean` in requests/s."""
    return sqrt(1.0 / max(mean * STEP_SECONDS, 1.0) + WORK_NOISE**2)


def _steady(most: Callable[[int], float], sigmas: float) -> Scaler:
    """Enough for the most mean rate that is expected from step n on, as a floor for the HPA, turned no oftener than Trimtab's."""
    standing: Standing | None = None

    def bounds(step: Step) -> tuple[int, int]:
        nonlocal standing
        mean = most(round(step.at / STEP_SECONDS))
        wanted = max(LEAST, ceil(mean * (1.0 + sigmas * strays(mean)) / CAPACITY / KNEE))
        standing = settle(standing, wanted, step.at, warm_up_seconds=WARM_SECONDS, noise_ratio=strays(mean))
        return standing.replicas, MOST

    return bounds
