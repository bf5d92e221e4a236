"""What is remembered of a service's traffic: its series, what was forecast of it, and the floor that came of that."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pending:
    """A forecast whose time has not come.

    Args:
        due_at: when it is due.
        rate: requests/s forecast.
        noise: by how much such a forecast errs, requests/s.
        stood_seconds: how long it stands for.
        level: the rate when it was made, requests/s.
        rise: how much of it the trend then promised to add by its time, requests/s.
    """

    due_at: float
    rate: float
    noise: float
    stood_seconds: float
    level: float = 0.0
    rise: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """A series as level and trend: requests/s, requests/s per second, and what noise alone would make of the trend."""

    level: float
    trend: float = 0.0
    doubt: float = 0.0


@dataclass(frozen=True, slots=True)
class Lessons:
    """What judged forecasts have taught, whatever the rate is now: `Arrivals` have it as of their rate.

    Args:
        margin: how many noises to keep free.
        noise_ratio: by how much a forecast errs, as a share of the rate.
        promised: how far trends said that the rate would rise, squared ratios × seconds, fading.
        kept: how much of that came, likewise.
    """

    margin: float
    noise_ratio: float
    promised: float
    kept: float


@dataclass(frozen=True, slots=True)
class StepMean:
    """The mean rate over the step of a history in which we are, and over the one before.

    Args:
        index: which step that is, counted since the epoch.
        total: sum of the rates seen in it, requests/s.
        count: how many those are.
        before: the mean rate of the step before it, requests/s; None where nothing was seen of that.
    """

    index: int
    total: float
    count: int
    before: float | None = None


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The fleet's request rate as a smoothed series.

    Args:
        rate: level, requests/s.
        trend: requests/s per second.
        noise: mean distance of what came from what was forecast, requests/s.
        at: when it was last brought up to date.
        margin: how many noises to keep free, learned from the forecasts that were too low.
        pending: forecasts that wait for their time, oldest first.
        missed: seconds for which a forecast with its margin was too low, of `judged` in all.
        surprise: mean square distance of a rate from what the level and trend before it said, (requests/s)².
        trend_noise: standard deviation of the trend that such surprises alone would make, requests/s per second.
        capacity: requests/s that one replica serves when full, smoothed; None while that is not known.
        slow: the same series with a trend over minutes; None where there is none yet.
        promised: by how much trends said that the rate would rise, squared ratios × seconds, fading.
        kept: how much of that came, likewise.
        step: means of the rate over the steps of the history; None where there is no history.
    """

    rate: float
    trend: float
    noise: float
    at: float
    margin: float = 1.5
    pending: tuple[Pending, ...] = ()
    missed: float = 0.0
    judged: float = 0.0
    surprise: float = 0.0
    trend_noise: float = 0.0
    capacity: float | None = None
    slow: Line | None = None
    promised: float = 0.0
    kept: float = 0.0
    step: StepMean | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """The floor from demand as it stands between its turns.

    Args:
        replicas: the floor.
        wanted: (instant, replicas) of what was wanted lately, each more than all after it, so that the first is the most.
        since: from when on it is known without a gap what was wanted.
        not_before: when it may be lowered at the earliest.
        at: when it was last brought up to date.
        falling: whether its last move was down.
    """

    replicas: int
    wanted: tuple[tuple[float, int], ...]
    since: float
    not_before: float
    at: float
    falling: bool = False


@dataclass(frozen=True, slots=True)
class ForecastMemory:
    """What a history of the request rate has taught, kept until there is another.

    Args:
        known: which history that was.
        growths: for each of its steps, how far the rate rose ahead, as a ratio; None where not known.
        season: the best one; empty when none could be tried.
        skill: share by which its pinball loss is below that of a forecast without season; negative when above.
        coverage: share of the time for which it was not exceeded.
        why: why there is no season.
    """

    known: tuple[float, int, float]
    growths: tuple[float | None, ...]
    season: str
    skill: float
    coverage: float
    why: str = ""
