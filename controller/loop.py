"""One tick: observe, decide, act, explain. Read this first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from controller.deadline import Deadline
from controller.decide.budget import frozen_grants, grants
from controller.decide.decide import decide
from controller.model.fence import Fence
from controller.model.memory import Memory
from controller.model.outcome import Outcome
from controller.model.plan import Hold, Plan
from controller.model.snapshot import Snapshot
from controller.model.tick import TickReport
from controller.policy.budget import Budget
from controller.policy.schema import LoadPolicy, Mode

Planned = Sequence[tuple[LoadPolicy, Plan]]

OBSERVE_SHARE = 0.5
"""Observing may take this share of a tick; what is left is for acting, so that a hanging read never costs a write."""


class Observes(Protocol):
    """Reads the world. Raises nothing that is expected to happen."""

    def observe(self, policies: Sequence[LoadPolicy], at: float, deadline: Deadline) -> Snapshot:
        """Everything that one tick may know."""


class Acts(Protocol):
    """Changes the world; every effect fails alone."""

    def act(self, planned: Planned, fence: Fence, deadline: Deadline) -> tuple[Outcome, ...]:
        """Carry the plans out, and say what came of each effect."""

    def part(self, policies: Sequence[LoadPolicy], fence: Fence, deadline: Deadline) -> tuple[Outcome, ...]:
        """Before a clean stop: leave nothing behind that outlives its reason."""


class Leads(Protocol):
    """Says whether this replica may act."""

    def fence(self) -> Fence | None:
        """The token that each write carries; None while another replica leads."""

    def status(self) -> str:
        """Who leads, or why nobody is known to, in one line."""

    def start(self) -> None:
        """Begin to seek the lead."""

    def stop(self) -> None:
        """Give the lead up."""


class Explains(Protocol):
    """Tells people and monitors."""

    def explain(self, report: TickReport) -> None:
        """Log, count and keep what one tick did."""


@dataclass(slots=True)
class Loop:
    """Holds what must survive from one tick to the next: each policy's memory."""

    observer: Observes
    actor: Acts | None
    leader: Leads
    explainer: Explains
    now: Callable[[], float] = time.time
    told: Callable[[Sequence[LoadPolicy], Snapshot], None] | None = None
    """Told what each tick sees: the inner loop listens (controller/inner.py)."""
    budgets: Sequence[Budget] = ()
    memories: dict[str, Memory] = field(default_factory=dict)

    def tick(self, policies: Sequence[LoadPolicy], deadline: Deadline) -> TickReport:
        """Observe once for all policies, decide for each alone, act on what may be acted on, and explain."""
        at = self.now()
        snapshot = self.observer.observe(policies, at, _share(deadline, OBSERVE_SHARE))
        if self.told is not None:
            self.told(policies, snapshot)
        planned, bugs = self._decide(policies, snapshot)
        fence = self.leader.fence()
        enforced = [
            (policy, plan) for policy, plan in planned if self.actor and fence and policy.spec.mode is Mode.ENFORCE
        ]
        outcomes = self.actor.act(enforced, fence, deadline) if self.actor and fence else ()
        acted = frozenset(policy.key for policy, _ in enforced)
        report = TickReport(at, snapshot, tuple(plan for _, plan in planned), outcomes, bugs, acted)
        self.explainer.explain(report)
        return report

    def leads(self) -> bool:
        """Whether this replica may act now."""
        return self.leader.fence() is not None

    def forget(self, policies: Sequence[LoadPolicy]) -> None:
        """Drop what is remembered of policies that are gone."""
        kept = {policy.key for policy in policies}
        self.memories = {key: memory for key, memory in self.memories.items() if key in kept}

    def _decide(self, policies: Sequence[LoadPolicy], snapshot: Snapshot) -> tuple[Planned, tuple[Exception, ...]]:
        planned: list[tuple[LoadPolicy, Plan]] = []
        bugs: list[Exception] = []
        try:
            granted = grants(self.budgets, {key: memory.claim for key, memory in self.memories.items()}, snapshot.at)
        except Exception as bug:  # noqa: BLE001 - likewise: then everybody keeps what it has
            granted = frozen_grants(self.budgets)
            bugs.append(bug)
        for policy in policies:
            try:
                plan, self.memories[policy.key] = decide(
                    policy,
                    snapshot.services[policy.key],
                    self.memories.get(policy.key, Memory()),
                    granted.get(policy.key),
                )
            except Exception as bug:  # noqa: BLE001 - a bug in one policy's decision must not stop the others
                plan = Plan(policy.key, snapshot.at, holds=(Hold("everything", f"a bug in Trimtab: {bug!r}"),))
                bugs.append(bug)
            planned.append((policy, plan))
        return planned, tuple(bugs)


def _share(deadline: Deadline, share: float) -> Deadline:
    return Deadline(deadline.at - (1.0 - share) * deadline.remaining_seconds(), deadline.clock)
