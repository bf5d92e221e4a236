"""Level and trend of a rate, and how far a trend is to be believed.

Holt's linear method with gains for uneven steps, 1 − exp(−Δt/τ). A trend is believed as far as it stands out of what noise
alone makes of it, so that a ramp is followed soon and a ripple not carried forward.
"""

from __future__ import annotations

from math import expm1, hypot, sqrt

from controller.model.traffic import Line

LEVEL_SECONDS = 20.0
DOUBT = 1.2
"""A trend of so many standard deviations of its own noise is believed by half."""
HIDDEN = 1.05
"""What arrives at a full fleet is at least so many times what it finishes,"""
HIDDEN_MOST = 1.5
"""and at most so many times, as far as the trend before asks for that."""


def gain(elapsed: float, constant: float) -> float:
    """How much of the newest value counts after so many seconds."""
    return -expm1(-elapsed / constant)


def arrived(line: Line, rate: float, elapsed: float, *, full: bool) -> float:
    """Requests/s that arrive: the rate, and where the fleet is full what the trend before says, within bounds."""
    if not full:
        return rate
    return max(HIDDEN * rate, min(line.level + line.trend * elapsed, HIDDEN_MOST * rate))


def step(line: Line, rate: float, elapsed: float, *, seconds: float, deviation: float) -> Line:
    """The line with one more rate, requests/s.

    Args:
        line: so far.
        rate: the newest.
        elapsed: seconds since the last.
        seconds: time constant of the trend.
        deviation: standard deviation of the rates about such a line, requests/s.
    """
    expected = line.level + line.trend * elapsed
    level = max(expected + gain(elapsed, LEVEL_SECONDS) * (rate - expected), 0.0)
    slope = (level - line.level) / elapsed
    trend = line.trend + gain(elapsed, seconds) * (slope - line.trend)
    return Line(level, trend, deviation * _trend_gain(elapsed, seconds))


def rise(line: Line, lead_seconds: float) -> float:
    """Requests/s by which the trend will raise it in so many seconds: t² ÷ (t² + doubt²) of the trend, and 0 if it falls."""
    trend = max(line.trend, 0.0)
    far = hypot(trend, DOUBT * line.doubt)
    believed = (trend / far) ** 2 if far > 0.0 else 0.0
    return believed * trend * lead_seconds


def _trend_gain(elapsed: float, seconds: float) -> float:
    """Standard deviation of the trend per standard deviation of the rates, for rates without one, per second.

    The variance reduction of an alpha-beta filter in its steady state, 2β² ÷ (α(4 − β − 2α)) ÷ Δt².
    """
    alpha = gain(elapsed, LEVEL_SECONDS)
    beta = alpha * gain(elapsed, seconds)
    return sqrt(2.0 * beta * beta / (alpha * (4.0 - beta - 2.0 * alpha))) / elapsed
