"""The fleet's request rate as a series that knows how wrong it has been.

Two lines follow it, one with a trend over little more than a minute and one over five (trend.py). The fast one sees a steep
rise soon, and takes the ups and downs of a minute for the beginning of one. So its trend counts as far as it has come true:
each forecast keeps what the trend promised, and what came of that is the trend's trust (a regression through the origin,
beginning at 1).

Where the service has a season, what usually comes at this time is another forecast, and the higher one counts.

Each forecast is judged when its time has come: the mean distance of what came from what was forecast is the noise, and
the margin is so many of these noises as have been enough. The margin is a quantile found by stochastic approximation (adaptive
conformal inference, Gibbs and Candès 2021): a forecast that was too low widens it much, one that was not narrows it a little,
so that in the long run the tolerated share is too low, whatever the shape of the traffic.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp, isfinite, sqrt

from controller.decide.floors import trend
from controller.model.traffic import Arrivals, Lessons, Line, Pending, StepMean

FAST_SECONDS, SLOW_SECONDS = 75.0, 300.0
"""Time constants of the two trends."""
TRUST_PRIOR = 3.0
"""How much the first trust counts: as a rise by a tenth that was promised, and came, for five minutes."""
TRUST_SECONDS = 3600.0
"""What trends promised, and what came of it, is forgotten with this time constant."""
PROMISE_MOST, RISE_MOST = 1.0, 0.5
"""No trend promises, and no rise speaks for one, by more than these ratios: a level that jumps is no trend."""
SURPRISE_SECONDS = 600.0
SURPRISE_MOST = 3.0
"""One surprise counts as no more than so many standard deviations: a level that jumps is no noise."""
NOISE_SECONDS = 3600.0
SAME_SECONDS = 1e-3
"""Rates closer together than this are of the same instant."""
GAP_SECONDS = 300.0
"""After a gap as long as this the series starts anew; what it has learned of its margin and its trends stays."""
FIRST_NOISE = 0.05
"""Of the rate, until forecasts have been judged."""
NOISE_MOST = 1.0
"""Of the rate, where a series begins anew."""
LEAST_NOISE = 0.02
"""Of the rate: no traffic is smoother."""
FIRST_MARGIN, LEAST_MARGIN, MOST_MARGIN = 2.5, 0.5, 16.0
"""In noises."""
MARGIN_PER_SECOND = 0.02 / 15.0
"""By how much a forecast that was too low widens the margin per second that it stood for."""
PENDING = 16
"""Forecasts kept at a time, spread over the time ahead."""
LARGEST = 1e12
"""Requests/s are cut here, so that sums stay finite."""


def first(rate: float, at: float, window_seconds: float, learned: Lessons | None = None) -> Arrivals:
    """The series that begins with this rate, requests/s; with what another one has learned."""
    rate = min(max(rate, 0.0), LARGEST)
    noise_ratio = FIRST_NOISE if learned is None else learned.noise_ratio
    begun = Arrivals(
        rate, 0.0, max(noise_ratio * rate, poisson(rate, window_seconds)), at, FIRST_MARGIN, slow=Line(rate)
    )
    return begun if learned is None else taught(begun, learned)


def taught(arrivals: Arrivals, learned: Lessons) -> Arrivals:
    """The series with the margin and the trust that another one has learned."""
    return replace(arrivals, margin=learned.margin, promised=learned.promised, kept=learned.kept)


def lessons(arrivals: Arrivals, window_seconds: float) -> Lessons:
    """What the series has learned, for one that begins anew, at another rate perhaps.

    Where there is so little traffic that chance alone makes more of a share than the first noise is, what was seen tells
    nothing of busier hours: the first noise stands in for it.
    """
    chance = poisson(arrivals.rate, window_seconds)
    busy = arrivals.rate > 0.0 and chance <= FIRST_NOISE * arrivals.rate
    ratio = min(arrivals.noise / arrivals.rate, NOISE_MOST) if busy else FIRST_NOISE
    return Lessons(arrivals.margin, ratio, arrivals.promised, arrivals.kept)


def follow(
    before: Arrivals | None,
    rate: float,
    at: float,
    *,
    lead_seconds: float,
    window_seconds: float,
    tolerated: float,
    judged_by: float | None = None,
    full: bool = False,
    usual_growth: float = 1.0,
    step: StepMean | None = None,
    learned: Lessons | None = None,
) -> Arrivals:
    """The series with one more rate in it.

    Args:
        before: the series so far; None begins one.
        rate: requests/s now.
        at: seconds since the epoch.
        lead_seconds: how far ahead the forecasts look: the time that a new replica takes to serve.
        window_seconds: what a rate is a mean over.
        tolerated: share of the time for which a forecast with its margin may have been too low.
        judged_by: what forecasts are judged by, requests/s, where that is more than the rate: the work that came with it.
        full: whether the fleet can finish no more, so that the rate is only the least that arrives. The trend then goes on.
        usual_growth: what the season makes of `today` by then, a ratio.
        step: the rate by steps of the history, with this one in it.
        learned: what an earlier series has learned, for one that begins here.
    """
    if not isfinite(rate):
        return before if before is not None else first(0.0, at, window_seconds, learned)
    if before is not None and 0.0 <= at - before.at < SAME_SECONDS:
        return before
    if before is None or not 0.0 < at - before.at < GAP_SECONDS:
        learned = learned if before is None else lessons(before, window_seconds)
        return first(trend.HIDDEN * rate if full else rate, at, window_seconds, learned)
    elapsed, rate = at - before.at, min(max(rate, 0.0), LARGEST)
    fast, slow = _lines(before)
    arrived = trend.arrived(fast, rate, elapsed, full=full)
    surprise = before.surprise
    if not full:
        surprise = _surprise(before, rate, rate - fast.level - fast.trend * elapsed, elapsed)
    deviation = sqrt(max(surprise, poisson(fast.level, window_seconds) ** 2))
    fast = trend.step(fast, arrived, elapsed, seconds=FAST_SECONDS, deviation=deviation)
    slow_arrived = trend.arrived(slow, rate, elapsed, full=full)
    slow = trend.step(slow, slow_arrived, elapsed, seconds=SLOW_SECONDS, deviation=deviation)
    came = arrived if judged_by is None or not isfinite(judged_by) else min(max(judged_by, arrived), LARGEST)
    judged = _judge(before, came, at, lead_seconds=lead_seconds, tolerated=tolerated)
    after = replace(
        judged,
        rate=fast.level,
        trend=fast.trend,
        trend_noise=fast.doubt,
        slow=slow,
        at=at,
        surprise=surprise,
        step=step,
    )
    return _remember(after, lead_seconds, window_seconds, usual_growth)


def stepped(before: StepMean | None, rate: float, index: int) -> StepMean:
    """The means with one more rate in them, requests/s, which belongs to the step with that index."""
    if before is None or not before.index <= index <= before.index + 1:
        return StepMean(index, rate, 1)
    if index == before.index:
        return replace(before, total=before.total + rate, count=before.count + 1)
    return StepMean(index, rate, 1, before.total / before.count)


def today(arrivals: Arrivals) -> float:
    """Requests/s from which a season's growth counts: of the last whole step, or now where that is less or not known.

    What has come of a rise already does not rise once more, and what is gone is not expected back.
    """
    before = None if arrivals.step is None else arrivals.step.before
    return arrivals.rate if before is None else min(arrivals.rate, before)


def expected(arrivals: Arrivals, lead_seconds: float, usual_growth: float) -> float:
    """Requests/s forecast for so long ahead, without margin: by trend or by season, whichever says more."""
    return max(ahead(arrivals, lead_seconds), usual_growth * today(arrivals))


def ahead(arrivals: Arrivals, lead_seconds: float) -> float:
    """Requests/s forecast for so long ahead, without margin: what the higher of the two lines says.

    A falling trend is not believed, a rising one as far as it stands out of its noise; of the fast one only so much as
    has come true.
    """
    fast, slow = _lines(arrivals)
    return max(
        fast.level + trust(arrivals) * trend.rise(fast, lead_seconds), slow.level + trend.rise(slow, lead_seconds)
    )


def trust(arrivals: Arrivals) -> float:
    """How much of what fast trends promised has come, 0 to 1."""
    return min(max((TRUST_PRIOR + arrivals.kept) / (TRUST_PRIOR + arrivals.promised), 0.0), 1.0)


def noise(arrivals: Arrivals, window_seconds: float) -> float:
    """By how much a forecast errs, requests/s: as seen, and at least what chance makes of arrivals by themselves."""
    return max(arrivals.noise, LEAST_NOISE * arrivals.rate, poisson(arrivals.rate, window_seconds))


def poisson(rate: float, window_seconds: float) -> float:
    """Standard deviation of a rate counted over a window, for independent arrivals, requests/s."""
    return sqrt(max(rate, 0.0) / window_seconds)


def _lines(arrivals: Arrivals) -> tuple[Line, Line]:
    """The fast and the slow one."""
    return Line(arrivals.rate, arrivals.trend, arrivals.trend_noise), arrivals.slow or Line(arrivals.rate)


def _judge(before: Arrivals, came: float, at: float, *, lead_seconds: float, tolerated: float) -> Arrivals:
    """What is learned of the forecasts that are due; one that is overdue by a gap is dropped unjudged."""
    after, kept, late = before, [], lead_seconds / PENDING + 60.0
    for forecast in before.pending:
        if forecast.due_at > at:
            kept.append(forecast)
        elif at - forecast.due_at <= late:
            after = _trusted(_judged(after, forecast, came, tolerated), forecast, came)
    return replace(after, pending=tuple(kept))


def _judged(after: Arrivals, forecast: Pending, came: float, tolerated: float) -> Arrivals:
    """Noise and margin after one forecast."""
    error, stood = came - forecast.rate, min(forecast.stood_seconds, GAP_SECONDS)
    too_low = error > after.margin * forecast.noise
    # Traffic that falls faster than is believed makes forecasts too high: no reason for more room.
    distance = error if error > 0.0 else min(-error, after.noise)
    margin = after.margin + MARGIN_PER_SECOND * stood * ((1.0 if too_low else 0.0) - tolerated)
    return replace(
        after,
        noise=after.noise + trend.gain(stood, NOISE_SECONDS) * (distance - after.noise),
        margin=min(max(margin, LEAST_MARGIN), MOST_MARGIN),
        missed=after.missed + stood * too_low,
        judged=after.judged + stood,
    )


def _trusted(after: Arrivals, forecast: Pending, came: float) -> Arrivals:
    """What trends promised and kept after one forecast, as ratios, so that it does not matter how much traffic there is."""
    stood = min(forecast.stood_seconds, GAP_SECONDS)
    fades = exp(-stood / TRUST_SECONDS)
    promised, kept = fades * after.promised, fades * after.kept
    if forecast.level > 0.0 and forecast.rise > 0.0:
        said = min(forecast.rise / forecast.level, PROMISE_MOST)
        rose = min((came - forecast.level) / forecast.level, RISE_MOST)
        promised, kept = promised + stood * said * said, kept + stood * said * rose
    return replace(after, promised=promised, kept=kept)


def _remember(after: Arrivals, lead_seconds: float, window_seconds: float, usual_growth: float) -> Arrivals:
    last = after.pending[-1].due_at - lead_seconds if after.pending else None
    elapsed = lead_seconds / PENDING if last is None else after.at - last
    if lead_seconds <= 0.0 or elapsed < lead_seconds / PENDING:
        return after
    forecast = Pending(
        after.at + lead_seconds,
        expected(after, lead_seconds, usual_growth),
        noise(after, window_seconds),
        elapsed,
        after.rate,
        trend.rise(_lines(after)[0], lead_seconds),
    )
    return replace(after, pending=(*after.pending, forecast))


def _surprise(before: Arrivals, rate: float, distance: float, elapsed: float) -> float:
    """The mean square surprise with this one in it; the first one is as large as the first noise."""
    mean = before.surprise or (FIRST_NOISE * max(before.rate, rate)) ** 2
    return mean + trend.gain(elapsed, SURPRISE_SECONDS) * (min(distance * distance, SURPRISE_MOST**2 * mean) - mean)
