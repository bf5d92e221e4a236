"""The fleet's request rate as a series that knows how wrong it has been.

Level and trend follow Holt's linear method with gains for uneven steps, 1 − exp(−Δt/τ). A trend is believed as far as it
stands out of what noise alone makes of it, so that a ramp is followed soon and a ripple not carried forward. Each forecast is kept until its
time has come, and then judged: the mean distance of what came from what was forecast is the noise, and the margin is so
many of these noises as have been enough. The margin is a quantile found by stochastic approximation (adaptive conformal
inference, Gibbs and Candès 2021): a forecast that was too low widens it much, one that was not narrows it a little, so that
in the long run the tolerated share is too low, whatever the shape of the traffic.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp, hypot, isfinite, sqrt

from controller.model.memory import Arrivals, Pending

LEVEL_SECONDS = 20.0
TREND_SECONDS = 60.0
SURPRISE_SECONDS = 600.0
SURPRISE_MOST = 3.0
"""One surprise counts as no more than so many standard deviations: a level that jumps is no noise."""
TREND_DOUBT = 2.0
"""A trend of so many standard deviations of its own noise is believed by half."""
NOISE_SECONDS = 3600.0
GAP_SECONDS = 300.0
"""After a gap as long as this the series starts anew; what it has learned of its margin stays."""
FIRST_NOISE = 0.05
"""Of the rate, until forecasts have been judged."""
LEAST_NOISE = 0.02
"""Of the rate: no traffic is smoother."""
FIRST_MARGIN, LEAST_MARGIN, MOST_MARGIN = 1.5, 0.5, 16.0
"""In noises."""
MARGIN_PER_SECOND = 0.02 / 15.0
"""By how much a forecast that was too low widens the margin per second that it stood for."""
PENDING = 16
"""Forecasts kept at a time, spread over the time ahead."""
HIDDEN = 1.05
"""What arrives at a full fleet is at least so many times what it finishes,"""
HIDDEN_MOST = 1.5
"""and at most so many times, as far as the trend before asks for that."""
LARGEST = 1e12
"""Requests/s are cut here, so that sums stay finite."""


def first(rate: float, at: float, window_seconds: float, margin: float = FIRST_MARGIN) -> Arrivals:
    """The series that begins with this rate, requests/s."""
    rate = min(max(rate, 0.0), LARGEST)
    return Arrivals(rate, 0.0, max(FIRST_NOISE * rate, poisson(rate, window_seconds)), at, margin)


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
    """
    least = HIDDEN * rate if full else rate
    if not isfinite(rate):
        return before if before is not None else first(0.0, at, window_seconds)
    if before is None or not 0.0 < at - before.at < GAP_SECONDS:
        if before is not None and before.at == at:
            return before
        return first(least, at, window_seconds, FIRST_MARGIN if before is None else before.margin)
    elapsed, rate = at - before.at, min(max(rate, 0.0), LARGEST)
    expected = before.rate + before.trend * elapsed
    if full:
        rate = max(least, min(expected, HIDDEN_MOST * rate))
    level = max(expected + _gain(elapsed, LEVEL_SECONDS) * (rate - expected), 0.0)
    slope = (level - before.rate) / elapsed
    trend = before.trend + _gain(elapsed, TREND_SECONDS) * (slope - before.trend)
    surprise = before.surprise if full else _surprise(before, rate, rate - expected, elapsed)
    came = rate if judged_by is None or not isfinite(judged_by) else min(max(judged_by, rate), LARGEST)
    judged = _judge(before, came, at, lead_seconds=lead_seconds, tolerated=tolerated)
    doubt = sqrt(max(surprise, poisson(level, window_seconds) ** 2)) * _trend_gain(elapsed)
    after = replace(judged, rate=level, trend=trend, at=at, surprise=surprise, trend_noise=doubt)
    return _remember(after, lead_seconds, window_seconds)


def ahead(arrivals: Arrivals, lead_seconds: float) -> float:
    """Requests/s forecast for so long ahead, without margin.

    A falling trend is not believed, a rising one as far as it stands out of its noise, t² ÷ (t² + doubt²) of it: a ramp
    almost wholly, a ripple hardly at all.
    """
    trend = max(arrivals.trend, 0.0)
    far = hypot(trend, TREND_DOUBT * arrivals.trend_noise)
    believed = (trend / far) ** 2 if far > 0.0 else 0.0
    return arrivals.rate + believed * trend * lead_seconds


def noise(arrivals: Arrivals, window_seconds: float) -> float:
    """By how much a forecast errs, requests/s: as seen, and at least what chance makes of arrivals by themselves."""
    return max(arrivals.noise, LEAST_NOISE * arrivals.rate, poisson(arrivals.rate, window_seconds))


def poisson(rate: float, window_seconds: float) -> float:
    """Standard deviation of a rate counted over a window, for independent arrivals, requests/s."""
    return sqrt(max(rate, 0.0) / window_seconds)


def _judge(before: Arrivals, came: float, at: float, *, lead_seconds: float, tolerated: float) -> Arrivals:
    """Noise and margin after the forecasts that are due; one that is overdue by a gap is dropped unjudged."""
    spread, margin, kept, late = before.noise, before.margin, [], lead_seconds / PENDING + 60.0
    missed, judged = before.missed, before.judged
    for forecast in before.pending:
        if forecast.due_at > at:
            kept.append(forecast)
            continue
        if at - forecast.due_at > late:
            continue
        error, stood = came - forecast.rate, min(forecast.stood_seconds, GAP_SECONDS)
        too_low = error > margin * forecast.noise
        # Traffic that falls faster than is believed makes forecasts too high: no reason for more room.
        distance = error if error > 0.0 else min(-error, spread)
        spread += _gain(stood, NOISE_SECONDS) * (distance - spread)
        margin += MARGIN_PER_SECOND * stood * ((1.0 if too_low else 0.0) - tolerated)
        margin = min(max(margin, LEAST_MARGIN), MOST_MARGIN)
        missed, judged = missed + stood * too_low, judged + stood
    return replace(before, noise=spread, margin=margin, pending=tuple(kept), missed=missed, judged=judged)


def _remember(after: Arrivals, lead_seconds: float, window_seconds: float) -> Arrivals:
    last = after.pending[-1].due_at - lead_seconds if after.pending else None
    elapsed = lead_seconds / PENDING if last is None else after.at - last
    if lead_seconds <= 0.0 or elapsed < lead_seconds / PENDING:
        return after
    forecast = Pending(after.at + lead_seconds, ahead(after, lead_seconds), noise(after, window_seconds), elapsed)
    return replace(after, pending=(*after.pending, forecast))


def _surprise(before: Arrivals, rate: float, distance: float, elapsed: float) -> float:
    """The mean square surprise with this one in it; the first one is as large as the first noise."""
    mean = before.surprise or (FIRST_NOISE * max(before.rate, rate)) ** 2
    return mean + _gain(elapsed, SURPRISE_SECONDS) * (min(distance * distance, SURPRISE_MOST**2 * mean) - mean)


def _trend_gain(elapsed: float) -> float:
    """Standard deviation of the trend per standard deviation of the rates, for rates without one, per second.

    The variance reduction of an alpha-beta filter in its steady state, 2β² ÷ (α(4 − β − 2α)) ÷ Δt².
    """
    alpha = _gain(elapsed, LEVEL_SECONDS)
    beta = alpha * _gain(elapsed, TREND_SECONDS)
    return sqrt(2.0 * beta * beta / (alpha * (4.0 - beta - 2.0 * alpha))) / elapsed


def _gain(elapsed: float, constant: float) -> float:
    return 1.0 - exp(-elapsed / constant)
