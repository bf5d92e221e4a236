"""Tells of decisions that are no tick's: those about HPAs whose policy is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from controller.model.outcome import Outcome, Result
from controller.model.plan import Plan
from controller.report.explainer import without_numbers


@dataclass
class Teller:
    """Logs and keeps each decision once, however often it is taken."""

    log: FilteringBoundLogger
    record: Callable[[Plan, tuple[Outcome, ...], bool], dict[str, Any]]
    keep: Callable[[float, dict[str, Any]], str | None] | None = None
    _told: dict[str, object] = field(default_factory=dict)

    def __call__(self, plan: Plan, outcomes: tuple[Outcome, ...]) -> None:
        """Say what was decided for one HPA, and what came of it."""
        holds = tuple((hold.field, without_numbers(hold.reason)) for hold in plan.holds)
        news = (plan.changes, holds, tuple((outcome.actuator, outcome.result) for outcome in outcomes))
        if news == self._told.get(plan.policy):
            return
        self._told[plan.policy] = news
        record = self.record(plan, outcomes, True)
        level = self.log.error if any(outcome.result is Result.FAILED for outcome in outcomes) else self.log.info
        level("decision", **record)
        if self.keep and (problem := self.keep(plan.at, record)):
            self.log.error("dependency", message=problem)
