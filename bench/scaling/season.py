"""Whether a trace has a daily season: if the hour of the day tells more of its rate than chance would."""

from __future__ import annotations

from math import fsum, log

from bench.scaling.traces import Trace

HOURS = 24
LEAST_RATIO = 2.0
"""Of the variance between hours of the day to that within them (F of an analysis of variance, 1 by chance)."""


def season_ratio(trace: Trace) -> float | None:
    """That ratio over the trace's whole days, each day's own level taken away; None with less than two days."""
    days = int(trace.seconds // 86400.0 + 0.01)
    if days < 2:
        return None
    hourly = [fsum(trace(3600.0 * (n + (k + 0.5) / 12)) for k in range(12)) / 12 for n in range(days * HOURS)]
    logs = [log(max(rate, 1e-9)) for rate in hourly]
    levels = [fsum(logs[d * HOURS : (d + 1) * HOURS]) / HOURS for d in range(days)]
    rest = [value - levels[n // HOURS] for n, value in enumerate(logs)]
    profile = [fsum(rest[h::HOURS]) / days for h in range(HOURS)]
    between = days * fsum(p * p for p in profile) / (HOURS - 1)
    within = fsum((v - profile[n % HOURS]) ** 2 for n, v in enumerate(rest)) / ((days - 1) * (HOURS - 1))
    return between / within if within > 0.0 else float("inf")


def has_season(trace: Trace) -> bool:
    return (season_ratio(trace) or 0.0) >= LEAST_RATIO
