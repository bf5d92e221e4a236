"""Turns a finished tick into log lines, metrics, health and journal entries."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from controller.model.outcome import Outcome, Result
from controller.model.plan import Plan
from controller.model.snapshot import ServiceSnapshot
from controller.model.tick import TickReport
from controller.report.gaps import GapWatch
from controller.report.health import Health
from controller.report.metrics import Metrics
from controller.report.problems import ProblemLog, systems_down

_NUMBER = re.compile(r"\d+(\.\d+)?")
SYSTEM_OF = {"publish": "Redis", "hpa": "Kubernetes", "drain": "Kubernetes", "event": "Kubernetes"}


@dataclass(slots=True)
class Explainer:
    """Logs a `decision` for each policy that changed something or whose holds changed.

    `record` makes a decision record. `keep` writes one to the journal and returns what went wrong, or None: every tick that
    changed or held something, with the `detail` of what was seen and how each number was made.
    """

    log: FilteringBoundLogger
    metrics: Metrics
    health: Health
    systems: tuple[str, ...]
    record: Callable[[Plan, tuple[Outcome, ...], bool], dict[str, Any]]
    keep: Callable[[float, dict[str, Any]], str | None] | None = None
    detail: Callable[[Plan, ServiceSnapshot], dict[str, Any]] = lambda _plan, _service: {}
    problems: ProblemLog = field(init=False)
    gaps: GapWatch = field(default_factory=GapWatch)
    _overloaded: set[str] = field(default_factory=set)
    _told: dict[str, tuple[object, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.problems = ProblemLog(self.log)

    def explain(self, tick: TickReport) -> None:
        """Tell everybody who wants to know what one tick saw, decided and did."""
        gaps = [line for plan in tick.plans if (line := self.gaps.look(tick.snapshot.services[plan.policy]))]
        problems = [*tick.snapshot.problems, *gaps, *_failures(tick.outcomes)]
        for plan in tick.plans:
            self._decision(tick, plan, problems)
            self._overload(plan)
        for bug in tick.bugs:
            self.log.error("bug", exc_info=bug, message="please report this; the policy is held")
        self.problems.report(problems, tick.at)
        failed = systems_down(problems)
        asked = [system for system in self.systems if system in tick.snapshot.asked]
        self.metrics.dependencies(asked, failed, tick.at)
        self.metrics.decided(tick.snapshot.services, tick.plans)
        self.metrics.acted(tick.outcomes)
        self.metrics.ticks.labels(tick.result).inc()
        self.metrics.last_tick.set(tick.at)
        self.health.tick_done(len(tick.plans), asked, failed)

    def _overload(self, plan: Plan) -> None:
        """One warning when a service can be helped no more, and one line when it can again."""
        was, now = plan.policy in self._overloaded, plan.overload
        if now is not None and not was:
            self._overloaded.add(plan.policy)
            after = now.retry_after_seconds
            self.log.warning("overloaded", policy=plan.policy, message=now.reason, retry_after_seconds=after)
        elif now is None and was:
            self._overloaded.discard(plan.policy)
            self.log.info("overload over", policy=plan.policy)

    def _decision(self, tick: TickReport, plan: Plan, problems: list[str]) -> None:
        outcomes = tuple(outcome for outcome in tick.outcomes if outcome.policy == plan.policy)
        record = self.record(plan, outcomes, plan.policy in tick.acted)
        # The same hold, tick after tick, is told once: a reason's numbers may move without it being news. So is a change
        # that is planned anew in each tick because it cannot be made.
        holds = tuple((h.field, without_numbers(h.reason)) for h in plan.holds)
        news = (holds, tuple((o.actuator, o.result) for o in outcomes if _notable(o)))
        changes = tuple((c.field, c.before, c.after) for c in plan.changes)
        told, told_changes = self._told.get(plan.policy, (((), ()), ()))
        if (changes and changes != told_changes) or news != told:
            self.log.info("decision", **record)
        self._told[plan.policy] = (news, changes)
        if self.keep and (plan.changes or plan.holds):
            whole = {**record, **self.detail(plan, tick.snapshot.services[plan.policy])}
            problem = self.keep(tick.at, whole)
            self.metrics.journal.labels("lost" if problem else "kept").inc()
            if problem:
                problems.append(problem)


def without_numbers(text: str) -> str:
    """The text as far as it is news: a wait that has grown shorter is none."""
    return _NUMBER.sub("", text)


def _notable(outcome: Outcome) -> bool:
    return outcome.result in (Result.REFUSED, Result.FAILED)


def _failures(outcomes: tuple[Outcome, ...]) -> list[str]:
    """One line per system that an effect failed on; refusals are decisions, not failures."""
    failed: dict[str, str] = {}
    for outcome in outcomes:
        if outcome.result is Result.FAILED:
            system = outcome.system or SYSTEM_OF.get(outcome.actuator, outcome.actuator)
            detail = outcome.detail.removeprefix(f"{system}: ")
            failed.setdefault(system, f"{system}: {detail}")
    return list(failed.values())
