"""What one tick saw, wanted and did."""

from __future__ import annotations

from dataclasses import dataclass

from controller.model.outcome import Outcome, Result
from controller.model.plan import Plan
from controller.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class TickReport:
    """One finished tick.

    Args:
        bugs: exceptions that nobody expected; each held one policy.
        acted: the policies whose plans were carried out; not those in observe mode, nor any in a dry run.
    """

    at: float
    snapshot: Snapshot
    plans: tuple[Plan, ...]
    outcomes: tuple[Outcome, ...] = ()
    bugs: tuple[Exception, ...] = ()
    acted: frozenset[str] = frozenset()

    @property
    def result(self) -> str:
        """How the tick ended, in one word for the metric."""
        if self.bugs or self.snapshot.problems or any(o.result is Result.FAILED for o in self.outcomes):
            return "failed"
        return "held" if any(plan.holds for plan in self.plans) else "ok"
