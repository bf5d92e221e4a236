"""Which instances hand their new requests to others: too slow for too long, or failing.

A guard, not a gain: it is on or off per instance, with hysteresis, so it cannot swing as weights made of latency do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from controller.decide.capacity import errors_of, rate_of
from controller.decide.members import Member
from controller.model.memory import InstanceMemory
from controller.model.sample import Signal, fresh_value
from controller.policy.schema import LoadPolicy

FAILING_TIMES_SLO = 10.0
FAILING_LEAST = 0.1
"""An instance fails when its error ratio is over ten times the SLO's, and over one request in ten."""
FAILING_REQUESTS = 5.0
"""Fewer failed requests in the rate window than this prove nothing."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Who is shed.

    Args:
        memories: the members' memories with the streaks brought up to date.
        shed: by name, why; empty in a panic.
        panic: more than half look bad: that is an overload, which shedding would only push around.
        released: names that were shed until now and are not because of the panic.
    """

    memories: Mapping[str, InstanceMemory]
    shed: Mapping[str, str]
    panic: bool
    released: frozenset[str]


def judge(
    policy: LoadPolicy, fleet: tuple[Member, ...], memories: Mapping[str, InstanceMemory], now: float, *, trusted: bool
) -> Verdicts:
    """One step of every instance's state: serving -> shed after a streak of bad samples -> serving after a calm one.

    Without trusted metrics nothing changes state: an outage neither sheds nor pardons.
    """
    rules = _Rules.of(policy)
    routable = [m for m in fleet if m.routable]
    judged: dict[str, InstanceMemory] = dict(memories)
    if trusted:
        judged.update({m.name: _step(m, memories[m.name], rules, now) for m in routable if m.seen is not None})
    bad = [m for m in routable if judged[m.name].shedding]
    panic = 2 * len(bad) > len(routable)
    released = frozenset(m.name for m in bad if panic and memories[m.name].shedding)
    if panic:
        judged.update({m.name: replace(judged[m.name], shedding=False, calm_since=None) for m in bad})
        return Verdicts(judged, {}, panic=True, released=released)
    return Verdicts(judged, {m.name: _why(m, judged[m.name], rules, now) for m in bad}, panic=False, released=released)


@dataclass(frozen=True, slots=True)
class _Rules:
    threshold: float
    recover: float
    after: float
    interval: float
    window: float
    failing: float

    @classmethod
    def of(cls, policy: LoadPolicy) -> _Rules:
        spec = policy.spec
        routing = spec.routing
        assert routing is not None  # noqa: S101  routing is decided only when the policy has the section
        threshold = spec.slo.latency if routing.threshold is None else routing.threshold
        failing = max(FAILING_TIMES_SLO * spec.slo.errors, FAILING_LEAST)
        return cls(threshold, routing.recover * threshold, routing.after, spec.interval, spec.signals.window, failing)


def _step(member: Member, before: InstanceMemory, rules: _Rules, now: float) -> InstanceMemory:
    if member.seen is None:
        return before
    latency = fresh_value(member.seen.signal(Signal.LATENCY))
    errors = errors_of(member.seen)
    memory = _streaks(before, latency, (errors, rate_of(member.seen)), rules, now)
    if not memory.shedding:
        slow = latency is not None and _lasts(memory.over_since, rules.after, now)
        # Two ticks in a row: a server that fails fast draws requests, so this streak is short.
        failing = errors is not None and _lasts(memory.failing_since, 0.5 * rules.interval, now)
        return replace(memory, shedding=slow or failing, calm_since=None)
    # At the floor weight an instance may see no request at all. Silence counts as calm, else it would never come back.
    calm = (latency is None or latency < rules.recover) and (errors is None or errors <= 0.5 * rules.failing)
    calm_since = (now if memory.calm_since is None else memory.calm_since) if calm else None
    if not _lasts(calm_since, rules.after, now):
        return replace(memory, calm_since=calm_since)
    return replace(memory, shedding=False, calm_since=None, over_since=None, failing_since=None)


def _streaks(
    memory: InstanceMemory, latency: float | None, failed: tuple[float | None, float | None], rules: _Rules, now: float
) -> InstanceMemory:
    errors, rate = failed
    over_since, failing_since = memory.over_since, memory.failing_since
    gap = memory.latency_at is not None and now - memory.latency_at > max(rules.after, 3.0 * rules.interval)
    if latency is not None:
        since = now if over_since is None or gap else over_since
        over_since = since if latency > rules.threshold else None
        memory = replace(memory, latency=latency, latency_at=now)
    if errors is not None:
        enough = rate is None or errors * rate * rules.window >= FAILING_REQUESTS
        since = now if failing_since is None or gap else failing_since
        failing_since = since if errors > rules.failing and enough else None
    return replace(memory, over_since=over_since, failing_since=failing_since)


def _lasts(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since >= seconds


def _why(member: Member, memory: InstanceMemory, rules: _Rules, now: float) -> str:
    latency = None if member.seen is None else fresh_value(member.seen.signal(Signal.LATENCY))
    errors = None if member.seen is None else errors_of(member.seen)
    if errors is not None and errors > rules.failing:
        return f"shed: errors {errors:.0%} > {rules.failing:.0%}"
    if latency is not None and latency > rules.threshold and memory.over_since is not None:
        return f"shed: {latency:.3g} s > {rules.threshold:g} s for {now - memory.over_since:.0f} s"
    seen = "no requests to measure" if latency is None else f"{latency:.3g} s"
    if memory.calm_since is not None:
        return f"shed: {seen}, calm for {now - memory.calm_since:.0f} s of {rules.after:g} s"
    return f"shed: {seen}, not yet below {rules.recover:.3g} s"
