"""The limit of one turn of the inner loop: what the queue has counted, and what the outer loop last said, become a limit.

Pure. The queue's counters are exact and whole, so what Prometheus lacks is no doubt about them: the limit may still fall on
their evidence. What they cannot tell (memory, instances) is the outer loop's word, and while that is missing nothing grows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from controller.decide import coordinate, rails
from controller.decide.concurrency import FIELD
from controller.decide.limiter.feed import fullest_memory, resume
from controller.decide.limiter.limiter import MEMORY_CUTS, PATIENCE, SCARCE, update
from controller.decide.limiter.period import between, is_over, quantile
from controller.decide.limiter.sample import LimiterRules, LimiterSample
from controller.decide.members import count_ready
from controller.decide.proposal import Proposed
from controller.decide.slo import measure
from controller.model.inner import InnerMemory, LimitPlan, LimitView, Outlook, QueueCount
from controller.model.limiter import LimiterMemory
from controller.model.snapshot import ServiceSnapshot
from controller.policy.schema import LoadPolicy

OVERDUE = 2.5
"""Intervals of the outer loop after which its last word is no longer fresh."""
PATIENCE_PERIODS = 2.0
"""Periods of the outer loop (rate window and interval) for which the limit goes on without it, before it goes to the default."""
SETTLING_SECONDS = 0.25
"""Response time from which what is in flight needs a while to follow a move, before a period may begin."""
LONGEST_SETTLING_SECONDS = 60.0
REFRESH_SECONDS = 2.0
"""A limit that stays is written again after this, so that it does not expire and stays the inner loop's."""
VALID_FOR_SECONDS = 60.0

Decision = tuple[LimitPlan | None, InnerMemory]


@dataclass(frozen=True, slots=True)
class _Turn:
    """What does not change within one turn."""

    policy: LoadPolicy
    limits: LimiterRules
    count: QueueCount
    said: Outlook
    at: float


def outlook(policy: LoadPolicy, service: ServiceSnapshot, at: float) -> Outlook:
    """What one tick of the outer loop says to the inner one; `at` is the instant on the inner loop's clock."""
    serving = [i for i in service.instances if i.ready is not False and not i.terminating]
    # The queue is read anew by the inner loop: whether the outer loop could does not matter here.
    doubts = [d for d in measure(policy.spec.slo, service).doubts if not d.startswith("queue: ")]
    ready, starved = count_ready(service), coordinate.starves(policy, service) or ""
    default = coordinate.fallback(policy, service, ready or 0)
    return Outlook(at, ready, fullest_memory(serving), "; ".join(doubts), starved, default)


def decide_limit(policy: LoadPolicy, view: LimitView, said: Outlook | None, memory: InnerMemory, at: float) -> Decision:
    """What to write now, None for nothing, and what to remember.

    Nothing is the inner loop's until the outer one has set a first limit and said how many instances there are, and the
    queue has counted something: a restart goes on from what stands in Redis.

    Args:
        view: what Redis holds now.
        said: the outer loop's last word; None before its first.
        memory: as returned by the last call, or `InnerMemory()`.
        at: this turn's instant, seconds on any clock that only goes forward.
    """
    concurrency, standing, count = policy.spec.concurrency, view.limit, view.count
    if concurrency is None or standing is None or count is None or said is None:
        return None, InnerMemory()
    remembered = None if memory.limiter is None else memory.limiter.ready
    ready = remembered if said.ready is None else said.ready
    if ready is None:
        return None, InnerMemory()
    limits = LimiterRules(concurrency.perInstance, concurrency.min, concurrency.max, policy.spec.slo.latency)
    state = resume(memory.limiter, standing, ready)
    if memory.limiter is not None and round(memory.limiter.limit) != standing:
        memory = replace(memory, start=None)  # somebody else has moved it: what ran till now is no one period
    if memory.ceiling is not None and remembered and ready != remembered:
        memory = replace(memory, ceiling=round(memory.ceiling * ready / remembered))
    turn = _Turn(policy, limits, count, said, at)
    memory = _trust(turn, replace(memory, limiter=state), standing)
    (asked, why), memory = _move(turn, state, memory)
    proposed = rails.limit(
        concurrency,
        Proposed(FIELD, standing, asked, why),
        (),
        lost_capacity=remembered is not None and ready < remembered,
    )
    proposed = _fed(turn, proposed, state, memory, lost=remembered is not None and ready < remembered)
    if memory.ceiling is not None and not _expired(policy, memory, at):
        proposed = proposed.clamp(min(proposed.after, max(memory.ceiling, concurrency.min)), "no growth in doubt")
    limiter = memory.limiter or state
    if round(limiter.limit) != proposed.after:
        limiter = replace(limiter, limit=float(proposed.after))
    memory = replace(memory, limiter=limiter)
    due = memory.told_at is None or at - memory.told_at >= REFRESH_SECONDS
    if proposed.after == standing and not due:
        return None, memory
    plan = LimitPlan(
        policy=policy.key,
        queue=concurrency.queue,
        before=standing,
        after=proposed.after,
        default=said.default,
        valid_for_seconds=VALID_FOR_SECONDS if policy.spec.routing is None else policy.spec.routing.validFor,
        why=proposed.held or proposed.reason,
    )
    return plan, replace(memory, told_at=at)


def _fed(turn: _Turn, proposed: Proposed, before: LimiterMemory, memory: InnerMemory, *, lost: bool) -> Proposed:
    """Not below the knee while that would starve the processor load that the HPA scales by.

    Down to the knee nothing is starved: beyond it throughput, and so processor load, does not grow. A broken SLO, scarce
    memory and lost instances go first.
    """
    after = memory.limiter
    if not turn.said.starved or not proposed.lowers or proposed.before is None or after is None or lost:
        return proposed
    if after.slow > 1 or after.memory_cuts > before.memory_cuts:
        return proposed
    least = proposed.before if after.knee is None else min(proposed.before, ceil(after.knee))
    return proposed.clamp(max(proposed.after, least), turn.said.starved)


def _trust(turn: _Turn, memory: InnerMemory, standing: int) -> InnerMemory:
    """Since when the outer loop's word is not to be trusted, and what stood then."""
    if not _doubt(turn):
        return replace(memory, doubt_since=None, ceiling=None)
    return memory if memory.doubt_since is not None else replace(memory, doubt_since=turn.at, ceiling=standing)


def _doubt(turn: _Turn) -> str:
    age = turn.at - turn.said.at
    late = age > OVERDUE * turn.policy.spec.interval
    return f"no tick of the outer loop for {age:.0f} s" if late else turn.said.doubt


def _expired(policy: LoadPolicy, memory: InnerMemory, at: float) -> bool:
    """Whether the outer loop has been missing for too long to go on without it."""
    patience = PATIENCE_PERIODS * (policy.spec.signals.window + policy.spec.interval)
    return memory.doubt_since is not None and at - memory.doubt_since > patience


def _move(turn: _Turn, state: LimiterMemory, memory: InnerMemory) -> tuple[tuple[int, str], InnerMemory]:
    """The limit that is asked for, and why; the memory with the running period."""
    said, count, at = turn.said, turn.count, turn.at
    told = said.memory if said.at != memory.outlook_at else None
    changed = said.ready is not None and state.ready is not None and said.ready != state.ready
    scarce = told is not None and told >= SCARCE and state.memory_cuts < MEMORY_CUTS
    if changed or scarce:  # at once: neither needs a period
        sample = LimiterSample(None, None, memory=told, ready=said.ready, doubt="at once")
        return _updated(turn, state, sample, replace(memory, outlook_at=said.at))
    if memory.start is None:
        started = replace(memory, start=count, since=at) if at >= memory.not_before else memory
        return (round(state.limit), memory.why), started
    start, waited = memory.start, at - memory.since
    period, slo = between(start, count), turn.policy.spec.slo
    if period is not None and not is_over(period, waited, slo.latency):
        return (round(state.limit), memory.why), memory
    memory = replace(memory, outlook_at=said.at)
    if period is None:
        sample = LimiterSample(None, None, memory=told, ready=said.ready, doubt="the queue's counters went back")
        return _updated(turn, state, sample, memory)
    latency = quantile(start, count, slo.quantile)
    if latency is None and period.in_flight > 0.0:
        latency = waited  # nothing finished: it takes at least so long
    expired = _doubt(turn) if _expired(turn.policy, memory, at) else ""
    if expired:
        state = replace(state, missed=max(state.missed, PATIENCE))
    sample = LimiterSample(period.in_flight, period.throughput, latency, told, said.ready, expired)
    return _updated(turn, state, sample, replace(memory, response=period.response or memory.response))


def _updated(
    turn: _Turn, state: LimiterMemory, sample: LimiterSample, memory: InnerMemory
) -> tuple[tuple[int, str], InnerMemory]:
    """After one update of the limiter: the next period begins at once where nothing moved, else once that has settled."""
    after, limit, why = update(turn.limits, state, sample)
    response = memory.response or 0.0
    still = limit == round(state.limit) or response < SETTLING_SECONDS
    settling = 0.0 if still else min(response, LONGEST_SETTLING_SECONDS)
    start = turn.count if still else None
    return (limit, why), replace(
        memory, limiter=after, start=start, since=turn.at, not_before=turn.at + settling, why=why
    )
