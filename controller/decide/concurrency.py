"""How many requests may be in flight, fleet-wide: the queue's limit.

With `concurrency.adaptive` the limit is found by the limiter (limiter/) instead of what follows; the rails are the same.

Additive increase, multiplicative decrease, with one update per tick. The base is what the ready instances can hold; the
limit goes below it while the SLO is broken, because in a full fleet more requests in flight only wait longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

from controller.decide.limiter.feed import resume, tick
from controller.decide.limiter.sample import LimiterRules
from controller.decide.proposal import Proposed
from controller.decide.slo import ServiceLevel
from controller.model.limiter import LimiterMemory
from controller.model.memory import Memory
from controller.model.snapshot import Known, ServiceSnapshot
from controller.policy.schema import Concurrency

FIELD = "limit"
DECREASE = 0.8
"""Factor per tick while the SLO is broken."""
INCREASE = 0.1
"""Share of the limit that is added per tick on the way back, at least one request."""


def propose(
    rules: Concurrency,
    service: ServiceSnapshot,
    memory: Memory,
    level: ServiceLevel,
    *,
    ready: int | None,
    breach_lasts: bool,
) -> Proposed | None:
    """The limit that this tick asks for; None when there is nothing to set it from.

    Args:
        rules: the policy's section.
        service: what is known now; the limit that stands is read from Redis, so that a restart resumes without a jump.
        memory: what was known before.
        level: the SLO now.
        ready: instances that serve; None when not known now, then the last known number counts.
        breach_lasts: whether the breach of the SLO was already there one tick ago.
    """
    before = standing_limit(service, memory)
    count = memory.ready_instances if ready is None else ready
    if count is None:
        return None if before is None else Proposed(FIELD, before, before)
    base = default(rules, count)
    why = f"{rules.perInstance} x {count} ready instances"
    if before is None:
        return Proposed(FIELD, None, base, why)
    followed = _follow(before, base, memory, ready)
    if followed != before:
        return Proposed(FIELD, before, followed, f"ready instances {memory.ready_instances} -> {ready}")
    if level.breach is not None:
        lowered = _decrease(before, rules.min, level.breach)
        if level.unsure:
            return lowered.keep(f"no decrease on doubtful data: {'; '.join(level.unsure)}")
        return lowered if breach_lasts else Proposed(FIELD, before, before)
    return _towards(before, base, why, level.unsure)


def adapt(
    rules: Concurrency,
    service: ServiceSnapshot,
    memory: Memory,
    level: ServiceLevel,
    *,
    ready: int | None,
    slo_seconds: float,
    period_seconds: float,
) -> tuple[Proposed | None, LimiterMemory | None]:
    """The adaptive limit that this tick asks for, and what its limiter remembers.

    Args:
        slo_seconds: the response time to keep.
        period_seconds: how long the limit must stand before its effect can be read: the rate window and one tick.
    """
    before = standing_limit(service, memory)
    count = memory.ready_instances if ready is None else ready
    limits = LimiterRules(rules.perInstance, rules.min, rules.max, slo_seconds)
    if before is None:
        if count is None:
            return None, memory.limiter
        start = f"starts at {rules.perInstance} x {count} ready instances"
        return Proposed(FIELD, None, round(limits.default(count)), start), memory.limiter
    # A limiter without a memory takes what stands as made for the instances of now: no step on a restart.
    state = resume(memory.limiter, before, memory.ready_instances if memory.ready_instances is not None else ready)
    after, limit, why = tick(
        limits,
        state,
        service,
        ready=ready,
        latency=level.latency,
        doubt="; ".join(level.doubts),
        period_seconds=period_seconds,
    )
    held = why if limit == before and after.missed else ""
    return Proposed(FIELD, before, limit, why, held), after


def default(rules: Concurrency, ready: int) -> int:
    """What so many ready instances hold, inside the policy's range: also what the queue goes back to without a controller."""
    return min(max(rules.perInstance * ready, rules.min), rules.max)


def carried(service: ServiceSnapshot, memory: Memory) -> Proposed | None:
    """The limit while it is the inner loop's: told on, not set. None while it is not."""
    found = service.published.value if isinstance(service.published, Known) else None
    if found is None or found.limit is None or found.limit_reason is None:
        return None
    before = found.limit if memory.limit is None else memory.limit
    return Proposed(FIELD, before, found.limit, f"inner loop: {found.limit_reason}")


def standing_limit(service: ServiceSnapshot, memory: Memory) -> int | None:
    """The limit that workers use now: what Redis holds, else what was last published."""
    if isinstance(service.published, Known) and service.published.value and service.published.value.limit is not None:
        return service.published.value.limit
    return memory.limit


def lost_capacity(memory: Memory, ready: int | None) -> bool:
    """Whether fewer instances are known to be ready than before: a real loss, not a gap in the data."""
    return ready is not None and memory.ready_instances is not None and ready < memory.ready_instances


def _follow(before: int, base: int, memory: Memory, ready: int | None) -> int:
    """The limit after a change in ready instances: in proportion, at once, both ways.

    Only when the limit that stands is the one that this memory set for that number of instances; else another replica
    has already followed, or nothing was published, and the ordinary steps lead there.
    """
    if ready is None or memory.ready_instances in {None, ready} or memory.limit != before:
        return before
    was = memory.ready_instances or 0
    if was == 0:
        return max(base, before)
    scaled = before * ready / was
    return max(before, min(base, ceil(scaled))) if ready > was else min(before, floor(scaled))


def _decrease(before: int, least: int, reason: str) -> Proposed:
    lowered = Proposed(FIELD, before, min(floor(before * DECREASE), before - 1), reason)
    return lowered if before > least else lowered.keep(f"already at min {least}")


def _towards(before: int, base: int, why: str, doubts: Sequence[str]) -> Proposed:
    if before > base:
        return Proposed(FIELD, before, max(base, floor(before * DECREASE)), f"towards {why}")
    raised = min(base, before + max(1, floor(before * INCREASE)))
    proposed = Proposed(FIELD, before, raised, f"recovers towards {why}")
    return proposed.keep(f"no raise on doubtful data: {doubts[0]}") if doubts else proposed
