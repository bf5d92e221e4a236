"""Which instances hand their new requests to others: too slow for too long, or failing.

A guard, not a gain: it is on or off per instance, with hysteresis, so it cannot swing as weights made of latency do. Every
rule is relative to the others, so it works from two instances up; a trouble that all share sheds nobody.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, fsum

from controller.decide.capacity import Learnt
from controller.decide.facts import NOTHING, Facts
from controller.decide.gaps import named
from controller.decide.members import Member
from controller.model.memory import InstanceMemory
from controller.model.sample import Signal
from controller.policy.schema import LoadPolicy

FAILING_TIMES_SLO = 10.0
FAILING_LEAST = 0.1
"""An instance fails when its error ratio is over ten times the SLO's, and over one request in ten."""
FAILING_REQUESTS = 5.0
"""Fewer failed requests in the rate window than this prove nothing."""
FAILING_TIMES_OTHERS = 2.0
"""An instance fails for reasons of its own when it fails so many times as often as the others do."""
SLOW_TIMES_OTHERS = 1.2
"""Likewise for response times."""
SHED_MOST = 0.5
"""Share of the instances that may be shed."""
FULL_TO_SHED, FULL_TO_KEEP = 0.8, 0.9
"""How full the others may become by taking a slow instance's requests, and by going on to take them."""
SLOW_AT_ONCE = 0.1
"""Share of the instances, at the least one, that slowness may newly shed in one tick: what the first did shows in the next."""
BACK_OFF_MOST = 8.0
"""The longest that an instance stays shed at the least, in multiples of `after`."""
FORGIVEN_AFTER = 10.0
"""So many times `after` without being shed begins the count anew."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Who is shed.

    Args:
        memories: the members' memories with this tick's estimates and streaks in them.
        shed: by name, why; empty in a panic.
        panic: more than half are failing: whoever looks well would be overloaded, so nobody is judged at all.
        overload: why slow instances are not shed, in words; empty when none is slow or all that are slow are shed.
        suspects: slow or failing for reasons of their own, shed or not yet: the fleet's service level is not theirs.
        released: shed until now, and needed again because the others are no better or have no room.
    """

    memories: Mapping[str, InstanceMemory]
    shed: Mapping[str, str]
    panic: bool
    overload: str
    suspects: frozenset[str]
    released: frozenset[str] = frozenset()


def judge(
    policy: LoadPolicy,
    fleet: tuple[Member, ...],
    facts: Mapping[str, Facts],
    learnt: Mapping[str, Learnt],
    now: float,
    *,
    trusted: bool,
) -> Verdicts:
    """One step of every instance's state: serving -> shed after a streak of bad samples -> serving after a calm one.

    Without trusted metrics nothing changes state: an outage neither sheds nor pardons.
    """
    rules = _Rules.of(policy)
    routable = [m for m in fleet if m.routable]
    if not trusted:
        memories = {m.name: m.memory for m in fleet}
        shed = {m.name: _why(facts.get(m.name, NOTHING), m.memory, rules, now) for m in routable if m.memory.shedding}
        return Verdicts(memories, shed, panic=False, overload="", suspects=frozenset(shed))
    crowd = facts if len(facts) == len(fleet) else {m.name: facts.get(m.name, NOTHING) for m in fleet}
    # Most are neither in trouble nor on their way out of it: nothing but their figures changes.
    drafts = {
        m.name: _Draft.of(m, crowd[m.name], rules, now) for m in fleet if not _well(m.memory, crowd[m.name], rules)
    }
    ranked = [drafts[m.name] for m in routable if m.name in drafts]
    if ranked:
        _relate(ranked, [crowd[m.name] for m in routable], rules)
    lasting = sum(d.fails and _lasts(d.failing_since, 0.5 * rules.interval, now) for d in ranked)
    panic = 2 * lasting > len(routable)
    overload = 2 * sum(d.slow for d in ranked) > len(routable)
    for draft in ranked:
        draft.step(rules, now)
    wanted = [d for d in ranked if d.shedding]
    allowed = [] if panic else [d for d in wanted if d.fails or not overload]
    kept = _affordable(allowed, routable, crowd, learnt) if allowed else []
    chosen = {d.name for d in kept}
    refused = [d for d in wanted if d.name not in chosen]
    for draft in refused:
        draft.shedding, draft.calm_since = False, None
        draft.sheddings, draft.shed_since = draft.memory.sheddings, draft.memory.shed_since
    memories = {m.name: _remembered(m.memory, crowd[m.name], learnt.get(m.name), now) for m in fleet}
    for name, draft in drafts.items():
        draft.note(memories[name])
    return Verdicts(
        memories,
        {d.name: _why(d.facts, memories[d.name], rules, now) for d in kept},
        panic=panic,
        overload="" if panic or not (overload or refused) else _overload(ranked, len(routable)),
        suspects=frozenset() if panic or overload else frozenset(d.name for d in ranked if d.shedding or d.alone),
        released=frozenset(d.name for d in refused if d.memory.shedding),
    )


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


@dataclass(slots=True, eq=False)
class _Draft:
    """An instance's memory while it is worked on.

    Args:
        slow, fails: over the threshold, over the failure level, whatever the others are; as last known where requests
            flow and the signal is missing.
        unheard: response time or errors are missing though requests flow: such an instance is neither shed nor pardoned.
        alone: slow or failing by much more than the others are.
    """

    name: str
    facts: Facts
    memory: InstanceMemory
    over_since: float | None
    failing_since: float | None
    shedding: bool
    calm_since: float | None
    shed_since: float | None
    sheddings: int
    slow: bool = False
    fails: bool = False
    alone: bool = False
    unheard: bool = False

    @classmethod
    def of(cls, member: Member, facts: Facts, rules: _Rules, now: float) -> _Draft:
        """The streaks, brought up to date."""
        memory = member.memory
        over_since, failing_since = memory.over_since, memory.failing_since
        gap = memory.latency_at is not None and now - memory.latency_at > max(rules.after, 3.0 * rules.interval)
        flows = facts.rate is not None and facts.rate > 0.0
        deaf_latency = flows and Signal.LATENCY in facts.gaps
        deaf_errors = flows and Signal.ERRORS in facts.gaps
        slow = deaf_latency and over_since is not None
        fails = deaf_errors and failing_since is not None
        if facts.latency is not None:
            slow = facts.latency > rules.threshold
            over_since = (now if over_since is None or gap else over_since) if slow else None
        if facts.errors is not None:
            enough = facts.rate is None or facts.errors * facts.rate * rules.window >= FAILING_REQUESTS
            fails = facts.errors > rules.failing and enough
            failing_since = (now if failing_since is None or gap else failing_since) if fails else None
        return cls(
            member.name,
            facts,
            memory,
            over_since,
            failing_since,
            memory.shedding,
            memory.calm_since,
            memory.shed_since,
            memory.sheddings,
            slow,
            fails,
            unheard=deaf_latency or deaf_errors,
        )

    def step(self, rules: _Rules, now: float) -> None:
        """Shed, keep shed, or take back."""
        facts = self.facts
        if not self.shedding:
            slow = self.slow and facts.latency is not None and _lasts(self.over_since, rules.after, now)
            # Two ticks in a row: a server that fails fast draws requests, so this streak is short.
            failing = self.fails and facts.errors is not None and _lasts(self.failing_since, 0.5 * rules.interval, now)
            self.calm_since = None
            if self.alone and (slow or failing):
                forgiven = self.shed_since is not None and now - self.shed_since > FORGIVEN_AFTER * rules.after
                self.shedding, self.sheddings = True, 1 if forgiven else self.sheddings + 1
                self.shed_since = now
            return
        # At the floor weight an instance may see no request at all. Silence counts as calm, else it would never come back;
        # requests of which nobody knows how they end are no silence.
        calm = (
            not self.unheard
            and (facts.latency is None or facts.latency < rules.recover)
            and (facts.errors is None or facts.errors <= 0.5 * rules.failing)
        )
        self.calm_since = (now if self.calm_since is None else self.calm_since) if calm else None
        least = rules.after * min(2.0 ** max(self.sheddings - 1, 0), BACK_OFF_MOST)
        if _lasts(self.calm_since, rules.after, now) and (self.shed_since is None or now - self.shed_since >= least):
            self.shedding = False
            self.calm_since = self.over_since = self.failing_since = None

    def note(self, after: InstanceMemory) -> None:
        """Put the streaks and the state into the memory of this tick."""
        after.over_since, after.failing_since, after.calm_since = self.over_since, self.failing_since, self.calm_since
        after.shedding, after.shed_since, after.sheddings = self.shedding, self.shed_since, self.sheddings


def _well(memory: InstanceMemory, facts: Facts, rules: _Rules) -> bool:
    """Whether it is in no trouble now, and was in none."""
    return not (
        memory.shedding
        or memory.over_since is not None
        or memory.failing_since is not None
        or memory.calm_since is not None
        or (facts.latency is not None and facts.latency > rules.threshold)
        or (facts.errors is not None and facts.errors > rules.failing)
    )


def _remembered(m: InstanceMemory, facts: Facts, learnt: Learnt | None, now: float) -> InstanceMemory:
    """The memory with this tick's figures in it."""
    latency = facts.latency
    # Written out: dataclasses.replace takes several times as long, and this runs for each of 20,000 instances.
    return InstanceMemory(
        uid=m.uid,
        capacity=m.capacity if learnt is None else learnt.capacity,
        capacity_at=m.capacity_at if learnt is None else now,
        latency=m.latency if latency is None else latency,
        over_since=m.over_since,
        shedding=m.shedding,
        calm_since=m.calm_since,
        first_seen=m.first_seen,
        endpoint=m.endpoint,
        routable=m.routable,
        latency_at=m.latency_at if latency is None else now,
        failing_since=m.failing_since,
        samples=m.samples if learnt is None else learnt.samples,
        serving_since=m.serving_since,
        shed_since=m.shed_since,
        sheddings=m.sheddings,
        known=facts.told or m.known,
        dark_at=now if facts.dark else m.dark_at,
    )


def _relate(ranked: Sequence[_Draft], crowd: Sequence[Facts], rules: _Rules) -> None:
    """Tell a trouble of one's own from a trouble that the whole crowd shares."""
    latencies = sorted(f.latency for f in crowd if f.latency is not None)
    errors = sorted(f.errors for f in crowd if f.errors is not None)
    for draft in ranked:
        if draft.slow and draft.facts.latency is not None:
            others = _others_median(latencies, draft.facts.latency)
            # Nobody else answered: nothing to be slow against, and nobody known to take its requests.
            draft.alone = (
                others is not None and others <= rules.threshold and (draft.facts.latency > SLOW_TIMES_OTHERS * others)
            )
        if draft.fails and draft.facts.errors is not None:
            others = _others_median(errors, draft.facts.errors)
            draft.alone = draft.alone or others is None or draft.facts.errors > FAILING_TIMES_OTHERS * others


def _others_median(ordered: Sequence[float], value: float) -> float | None:
    """The upper median of a sorted list without one of its values."""
    count = len(ordered) - 1
    if count < 1:
        return None
    middle = count // 2
    return ordered[middle + (bisect_left(ordered, value) <= middle)]


def _affordable(
    wanted: list[_Draft], routable: Sequence[Member], crowd: Mapping[str, Facts], learnt: Mapping[str, Learnt]
) -> list[_Draft]:
    """Whom the others can do without: at most half of the fleet, and of the slow only as many as leave room.

    Failing instances come first, as what they serve is nothing; then those already shed, so that none flaps; then the worst.
    """
    order = sorted(wanted, key=lambda d: (not d.fails, not d.memory.shedding, -(d.facts.latency or 0.0), d.name))
    order = order[: floor(SHED_MOST * len(routable))]
    whole = fsum(_capacity(m.name, m.memory, learnt) for m in routable)
    served = [f.rate for m in routable if (f := crowd[m.name]).utilisation is not None]
    rates = [rate for rate in served if rate is not None]
    load = fsum(rates)
    kept = []
    fresh = max(1, floor(SLOW_AT_ONCE * len(routable)))
    for draft in order:
        left = whole - _capacity(draft.name, draft.memory, learnt)
        new = not draft.memory.shedding
        if draft.fails or (
            (fresh or not new) and (not rates or load <= (FULL_TO_SHED if new else FULL_TO_KEEP) * left)
        ):
            kept.append(draft)
            whole = left
            fresh -= new and not draft.fails
    return kept


def _capacity(name: str, memory: InstanceMemory, learnt: Mapping[str, Learnt]) -> float:
    now = learnt.get(name)
    return (memory.capacity or 0.0) if now is None else now.capacity


def _overload(ranked: Sequence[_Draft], count: int) -> str:
    slow = sum(d.slow for d in ranked)
    return f"overload: {slow} of {count} instances are over the threshold and the others have no room; nobody is shed"


def _lasts(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since >= seconds


def _why(facts: Facts, memory: InstanceMemory, rules: _Rules, now: float) -> str:
    latency, errors = facts.latency, facts.errors
    if errors is not None and errors > rules.failing:
        return f"shed: errors {errors:.0%} > {rules.failing:.0%}"
    if latency is not None and latency > rules.threshold and memory.over_since is not None:
        return f"shed: {latency:.3g} s > {rules.threshold:g} s for {now - memory.over_since:.0f} s"
    if latency is not None:
        seen = f"{latency:.3g} s"
    else:
        seen = f"{named(facts.gaps)} not known now" if facts.rate and facts.gaps else "no requests to measure"
    if memory.calm_since is not None:
        return f"shed: {seen}, calm for {now - memory.calm_since:.0f} s of {rules.after:g} s"
    return f"shed: {seen}, not yet below {rules.recover:.3g} s"
