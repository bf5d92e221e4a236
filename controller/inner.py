"""The inner loop: the limit, every second, from the queue's own counters. Beside controller/loop.py, and on one screen too.

The two loops share no state but what the outer one last said (`Outlook`), and Redis: each goes on when the other fails or
hangs. While the inner loop speaks the limit is its alone; five seconds after its last word the outer loop sets it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from controller.deadline import Deadline
from controller.decide.inner import decide_limit, outlook
from controller.errors import LostLease
from controller.model.fence import Fence
from controller.model.inner import InnerMemory, LimitPlan, LimitView, Outlook
from controller.model.outcome import Outcome, Result
from controller.model.snapshot import Known, Reading, Snapshot, Unknown
from controller.policy.schema import LoadPolicy, Mode

Decided = tuple[LimitPlan, Outcome]


@dataclass(frozen=True, slots=True)
class TurnReport:
    """One finished turn: what was decided and what came of it, and why nothing was for the others."""

    decided: tuple[Decided, ...] = ()
    problems: tuple[str, ...] = ()
    bugs: tuple[Exception, ...] = ()


class Counts(Protocol):
    """Reads counters and limits; an outage is a value, not an exception."""

    def __call__(self, policies: Sequence[LoadPolicy]) -> Mapping[str, Reading[LimitView]]:
        """Views by policy key."""


class Writes(Protocol):
    """Writes one limit. Raises LostLease when this replica may not."""

    def write(self, plan: LimitPlan, fence: Fence) -> Outcome:
        """What came of it."""


@dataclass(slots=True)
class InnerLoop:
    """Holds what must survive from one turn to the next, and the outer loop's last words."""

    observe_counters: Counts
    act_limit: Writes
    fence: Callable[[], Fence | None]
    explain: Callable[[TurnReport], None]
    clock: Callable[[], float]
    memories: dict[str, InnerMemory] = field(default_factory=dict)
    outlooks: dict[str, Outlook] = field(default_factory=dict)

    def hear(self, policies: Sequence[LoadPolicy], snapshot: Snapshot) -> None:
        """The outer loop's word after each of its looks at the world; from its thread."""
        at = self.clock()
        for policy in policies:
            if concerns(policy):
                self.outlooks[policy.key] = outlook(policy, snapshot.services[policy.key], at)

    def turn(self, policies: Sequence[LoadPolicy], deadline: Deadline) -> TurnReport:
        """One turn over the policies that it concerns: observe_counters, decide_limit, act_limit, explain."""
        mine = [policy for policy in policies if concerns(policy)]
        fence = self.fence()
        kept = {policy.key for policy in mine} if fence else set()
        self.memories = {key: memory for key, memory in self.memories.items() if key in kept}
        if not mine or fence is None:
            return TurnReport()
        views = self.observe_counters(mine)
        plans, problems, bugs = self._decide(mine, views)
        decided: list[Decided] = []
        for plan in plans:
            if deadline.expired():
                problems.append("Redis: no time left in this turn")
                break
            try:
                decided.append((plan, self.act_limit.write(plan, fence)))
            except LostLease as error:
                decided.append((plan, Outcome(plan.policy, "limit", Result.REFUSED, str(error))))
                break
        report = TurnReport(tuple(decided), tuple(dict.fromkeys(problems)), tuple(bugs))
        self.explain(report)
        return report

    def _decide(
        self, policies: Sequence[LoadPolicy], views: Mapping[str, Reading[LimitView]]
    ) -> tuple[list[LimitPlan], list[str], list[Exception]]:
        plans: list[LimitPlan] = []
        problems: list[str] = []
        bugs: list[Exception] = []
        for policy in policies:
            view = views[policy.key]
            if not isinstance(view, Known):
                problems.append(view.reason if isinstance(view, Unknown) else "not asked")
                continue
            memory = self.memories.get(policy.key, InnerMemory())
            try:
                plan, self.memories[policy.key] = decide_limit(
                    policy, view.value, self.outlooks.get(policy.key), memory, self.clock()
                )
            except Exception as bug:  # noqa: BLE001 - a bug in one policy's decision must not stop the others
                bugs.append(bug)
                continue
            if plan is not None:
                plans.append(plan)
        return plans, problems, bugs


def concerns(policy: LoadPolicy) -> bool:
    """Whether the inner loop may set this policy's limit."""
    section = policy.spec.concurrency
    return section is not None and section.adaptive and policy.spec.mode is Mode.ENFORCE
