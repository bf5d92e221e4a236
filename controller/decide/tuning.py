"""The HPA's CPU target, moved inside `cpu.between` towards the highest use at which the response time keeps the SLO.

Evidence is time spent near the target, where the HPA holds still: its own tolerance of 10 % around it. A point more needs
an hour of it with the SLO kept at some distance, and at most a few points come in a day. A regression takes the last raise
back at once, which is the safe direction, and bars the way up for a day, then two, then four.

The target that stands in the HPA is the only state that counts. What else is known survives a restart as it was at the last
change of the HPA (`learned.py`); without that, a whole day is for watching before anything is raised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.decide.slo import ServiceLevel
from controller.model.memory import Tuning
from controller.model.snapshot import HpaView, Known, ServiceSnapshot
from controller.policy.schema import Cpu

DAY_SECONDS = 86400.0
NEAR = 0.1
"""The HPA's tolerance: inside it, as a share of the target, nothing scales."""
TIGHT = 0.9
"""Share of the SLO from which a response time is too near to it to go further."""
EVIDENCE_SECONDS = 3600.0
TOLERATED = 0.05
"""Share of the evidence that may be tight before a raise, or broken before the target is lowered."""
LEAST_BROKEN_SECONDS = 300.0
STREAK_SECONDS = 60.0
"""While a raise is still under observation, so long a breach without a break takes it back."""
LONGEST_COOL_DOWN_SECONDS = 16 * DAY_SECONDS
GAP_SECONDS = 60.0
"""One tick stands for no longer than this."""


@dataclass(frozen=True, slots=True)
class Target:
    """The CPU target that is wanted, percent of the request, and why it differs from the one that stands."""

    percent: int
    reason: str = "the policy's target"


def standing(view: HpaView) -> int | None:
    """The CPU target in the HPA, percent; None when it has none."""
    return next((t.percent for t in view.spec.targets if t.name == "cpu"), None)


def observe(
    before: Tuning,
    service: ServiceSnapshot,
    level: ServiceLevel,
    *,
    slo_seconds: float,
    settle_seconds: float,
    skip: bool,
) -> Tuning:
    """With this tick's evidence in it.

    Args:
        slo_seconds: the response time to keep.
        settle_seconds: how long after a move nothing counts, because pods are still coming.
        skip: whether response times are known not to answer to replicas.
    """
    view = service.hpa.value if isinstance(service.hpa, Known) else None
    percent = None if view is None else standing(view)
    if view is None or percent is None:
        return before
    now = before if before.since is not None else replace(before, since=service.at)
    now = after(now, percent, service.at)
    elapsed = 0.0 if now.at is None else min(max(service.at - now.at, 0.0), GAP_SECONDS)
    now = replace(now, stands=percent, at=service.at)
    full, latency = view.cpu_percent, level.latency
    settling = now.moved_at is not None and service.at - now.moved_at < settle_seconds
    if skip or settling or full is None or latency is None or level.unsure or abs(full - percent) > NEAR * percent:
        return replace(now, broken_since=None)
    if latency > slo_seconds:
        since = service.at if now.broken_since is None else now.broken_since
        return replace(now, broken=now.broken + elapsed, broken_since=since)
    now = replace(now, broken_since=None)
    if latency > TIGHT * slo_seconds:
        return replace(now, tight=now.tight + elapsed)
    return replace(now, held=now.held + elapsed)


def propose(rules: Cpu, memory: Tuning, percent: int | None, at: float) -> Target:
    """The target to have: the policy's own without `between`, else the one that stands, moved by what is known of it."""
    if rules.between is None or percent is None:
        return Target(rules.target)
    low, high = rules.between
    inside = min(max(percent, low), high)
    if inside != percent:
        return Target(inside, f"kept inside {low}..{high}")
    total = memory.held + memory.tight + memory.broken
    raised = memory.good is not None and memory.good < percent
    watched = raised and memory.moved_at is not None and at - memory.moved_at <= DAY_SECONDS
    streak = memory.broken_since is not None and at - memory.broken_since >= STREAK_SECONDS
    often = memory.broken >= LEAST_BROKEN_SECONDS and memory.broken > TOLERATED * total
    if percent > low and ((watched and streak) or often):
        back = memory.good if watched and memory.good is not None else percent - rules.pointsPerDay
        words = f"the SLO broke for {memory.broken:.0f} s of {total:.0f} s near {percent} %"
        return Target(max(back, low), f"{words}, back to the last good target" if watched else words)
    if percent >= high or not _may_raise(rules, memory, percent, at):
        return Target(percent)
    if memory.held < EVIDENCE_SECONDS or memory.tight + memory.broken > TOLERATED * total:
        return Target(percent)
    return Target(percent + 1, f"the SLO held for {memory.held / 3600.0:.1f} h near {percent} %")


def _may_raise(rules: Cpu, memory: Tuning, percent: int, at: float) -> bool:
    """Whether enough time has passed since the start, since the last raise, and since what broke."""
    if memory.since is None or at - memory.since < DAY_SECONDS:
        return False
    if memory.moved_at is not None and at - memory.moved_at < DAY_SECONDS / rules.pointsPerDay:
        return False
    barred = memory.barred_until is not None and at < memory.barred_until
    return not (barred and memory.barred_from is not None and percent + 1 >= memory.barred_from)


def after(memory: Tuning, percent: int | None, at: float) -> Tuning:
    """What is known once that target stands; None when the HPA has none."""
    if percent is None or memory.stands is None or memory.stands == percent:
        return memory
    return replace(_moved(memory, percent, at), stands=percent)


def _moved(memory: Tuning, percent: int, at: float) -> Tuning:
    """Another target stands, whoever wrote it: the evidence was about the old one."""
    clear = replace(memory, held=0.0, tight=0.0, broken=0.0, broken_since=None, moved_at=at)
    stood = memory.stands
    if stood is None or percent > stood:
        passed = memory.barred_from is not None and percent > memory.barred_from
        return replace(clear, good=stood, cool_down=0.0 if passed else memory.cool_down)
    wait = min(max(2.0 * memory.cool_down, DAY_SECONDS), LONGEST_COOL_DOWN_SECONDS)
    return replace(clear, good=None, barred_from=stood, barred_until=at + wait, cool_down=wait)
