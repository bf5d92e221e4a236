"""Tells people and monitors what the inner loop did, without a line per second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from controller.model.inner import LimitPlan
from controller.model.outcome import Outcome, Result
from controller.report.metrics import Metrics
from controller.report.problems import ProblemLog

LOOP = "inner loop"


class Turn(Protocol):
    """One finished turn of the inner loop."""

    @property
    def decided(self) -> tuple[tuple[LimitPlan, Outcome], ...]:
        """What was to be written, and what came of it."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing was."""

    @property
    def bugs(self) -> tuple[Exception, ...]:
        """What nobody expected."""


@dataclass(slots=True)
class InnerExplainer:
    """Counts each write. Each move is a debug line; the outer loop's next decision tells of the limit that stands then."""

    log: FilteringBoundLogger
    metrics: Metrics
    now: Callable[[], float] = time.time
    problems: ProblemLog = field(init=False)

    def __post_init__(self) -> None:
        self.problems = ProblemLog(self.log)

    def __call__(self, turn: Turn) -> None:
        """Tell of one turn."""
        failures = [o.detail for _, o in turn.decided if o.result is Result.FAILED]
        for plan, outcome in turn.decided:
            self.metrics.acted((outcome,))
            if outcome.result is not Result.DONE:
                continue
            self.metrics.limit.labels(plan.policy).set(plan.after)
            if plan.after != plan.before:
                self.metrics.changes.labels(plan.policy, "limit").inc()
                self.log.debug("limit", policy=plan.policy, before=plan.before, after=plan.after, reason=plan.why)
        for bug in turn.bugs:
            self.log.error("bug", exc_info=bug, message="please report this; the outer loop sets this policy's limit")
        self.problems.report([f"{LOOP}: {line}" for line in (*turn.problems, *failures)], self.now())
