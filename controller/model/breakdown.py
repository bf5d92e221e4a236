"""What made each weight, step by step, as data: what `explain` and the journal show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Measured(Protocol):
    """What the fresh samples of one instance say. Requests/s and ratios; None where there is none."""

    @property
    def rate(self) -> float | None:
        """Requests/s."""

    @property
    def errors(self) -> float | None:
        """Failed share of them."""

    @property
    def utilisation(self) -> float | None:
        """How full it is."""

    @property
    def in_flight(self) -> float | None:
        """Requests inside."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The way from capacities to weights, by instance. Columns: a large fleet's tick makes no row that nobody reads.

    Args:
        measured: what this tick's samples say.
        capacity: requests/s after the penalty for errors, drawn to the fleet's median as far as samples are few.
        slow_start: factor of those that have just begun to serve.
        aims: capacity × memory factor × slow-start factor.
        by_capacity: the same as shares of 1.
        by_backlog: those shares with the backlogs spread; the target.
        floor: the least weight of a routable instance.
        gain: the share of the way to its target that a weight goes.
        low, high: what the step may lead to; empty where no step was taken (a first ranking, a panic, no metrics).
        before, weight: what stood, and what is published.
    """

    measured: Mapping[str, Measured]
    capacity: Mapping[str, float]
    slow_start: Mapping[str, float]
    aims: Mapping[str, float]
    by_capacity: Mapping[str, float]
    by_backlog: Mapping[str, float]
    floor: float
    gain: float
    before: Mapping[str, float]
    weight: Mapping[str, float]
    low: Mapping[str, float] = field(default_factory=dict)
    high: Mapping[str, float] = field(default_factory=dict)

    def of(self, name: str) -> dict[str, float | None]:
        """One instance's row, in the order in which things happen. None where a step does not apply."""
        if name not in self.capacity:
            return {"before": self.before.get(name), "weight": self.weight.get(name, 0.0)}
        m, capacity, ramp = self.measured.get(name), self.capacity[name], self.slow_start.get(name, 1.0)
        errors = None if m is None else m.errors
        full = None if m is None else m.utilisation
        kept = None if errors is None or not full else (1.0 - errors) * full / (full + errors)
        whole = capacity * ramp
        return {
            "capacity": capacity,
            "errors": errors,
            "errors_factor": kept,
            "memory_factor": self.aims[name] / whole if whole > 0.0 else None,
            "slow_start_factor": self.slow_start.get(name),
            "share_by_capacity": self.by_capacity.get(name),
            "in_flight": None if m is None else m.in_flight,
            "share_by_backlog": self.by_backlog.get(name),
            "floor": self.floor,
            "gain": self.gain,
            "step_low": self.low.get(name),
            "step_high": self.high.get(name),
            "before": self.before.get(name),
            "weight": self.weight.get(name, 0.0),
        }
