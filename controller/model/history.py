"""What a service's request rate was, as one value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateHistory:
    """The fleet's request rate over days, in steps of equal length.

    Args:
        ended_at: when the last step ended, seconds since the epoch.
        step_seconds: length of a step.
        rates: mean requests/s of each step, oldest first; None where nothing is known.
        problem: why it has not been brought up to date since, in words; empty when the last try went well.
    """

    ended_at: float
    step_seconds: float
    rates: tuple[float | None, ...]
    problem: str = ""
