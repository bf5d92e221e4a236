"""From capacities to a ranking: who gets which share of the new requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum

from controller.decide import capacity, outliers
from controller.decide.capacity import Capacity
from controller.decide.members import Member
from controller.decide.shares import project
from controller.model.memory import InstanceMemory
from controller.model.plan import Change, EndpointState, Hold, RankedEndpoint
from controller.model.sample import Fresh, Signal, Stale, last_value
from controller.model.snapshot import ServiceSnapshot
from controller.policy.schema import LoadPolicy, Routing

LEAST_FLOOR = 0.01
"""Floor of the floor, as a share of an equal share: who gets nothing can never be measured again."""
VISIBLE = 0.01
"""Relative change of a weight that is worth a line in the plan."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What routing decided. `endpoints` None means that the ranking that stands must stay.

    `memories` are the members' memories after this tick, also for a policy without routing.
    """

    endpoints: tuple[RankedEndpoint, ...] | None
    memories: Mapping[str, InstanceMemory]
    panic: bool = False
    changes: tuple[Change, ...] = ()
    holds: tuple[Hold, ...] = ()


def rank(
    policy: LoadPolicy, service: ServiceSnapshot, fleet: tuple[Member, ...], standing: Mapping[str, float]
) -> Ranking:
    """The ranking of this tick: weights ∝ capacity, above a floor, moved by a bounded share, outliers at the floor.

    Args:
        policy: whose `routing` section rules; without one only memories are updated.
        service: what is known now.
        fleet: its members.
        standing: the weights that clients use now, by instance.
    """
    trusted = service.metrics_problem is None
    concurrency = policy.spec.concurrency
    slots = None if concurrency is None else concurrency.perInstance
    learnt = capacity.learn(fleet, slots, service.at, trusted=trusted)
    if policy.spec.routing is None:
        return Ranking(None, learnt)
    verdicts = outliers.judge(policy, fleet, learnt, service.at, trusted=trusted)
    lost = [m.name for m in fleet if m.memory.endpoint is None and m.routable and m.prior]
    if lost:
        reason = f"the address of {', '.join(lost)} is not known now; the last ranking stands"
        return Ranking(None, verdicts.memories, verdicts.panic, holds=(Hold("weights", reason),))
    routable = tuple(m for m in fleet if m.routable and m.memory.endpoint is not None)
    holds = tuple(
        Hold(f"weight {m.name}", "its address is not known") for m in fleet if m.routable and m.memory.endpoint is None
    )
    if not routable:
        reason = "no instance is ready" if fleet else "no instance is known"
        return Ranking(None, verdicts.memories, verdicts.panic, holds=(*holds, Hold("weights", reason)))
    capacities = capacity.estimate({m.name: verdicts.memories[m.name] for m in routable}, service.at)
    weights = _weights(policy.spec.routing, routable, capacities, verdicts, trusted=trusted)
    rows = _rows(fleet, weights, capacities, verdicts, service)
    if not trusted:
        holds += (Hold("weights", f"metrics: {service.metrics_problem}; the last weights stand"),)
    return Ranking(rows, verdicts.memories, verdicts.panic, _changes(standing, rows), holds)


def _weights(
    rules: Routing,
    routable: tuple[Member, ...],
    capacities: Mapping[str, Capacity],
    verdicts: outliers.Verdicts,
    *,
    trusted: bool,
) -> dict[str, float]:
    equal = 1.0 / len(routable)
    floor = max(rules.floor, LEAST_FLOOR) * equal
    whole = fsum(c.value for c in capacities.values())
    # Capacities that are all nothing (every request fails) say nothing of who should get more.
    targets = {name: c.value / whole if whole > 0.0 else equal for name, c in capacities.items()}
    base, new = _base(routable, targets, equal)
    if not trusted:
        return project(base, base, base, 1.0)
    fixed = {name: floor for name in verdicts.shed if name in base}
    # An instance without data keeps its weight, unless everybody else would have to go below the floor for it, or it
    # came back from shedding in silence: then it is tried again with up to half a share.
    stale = {
        m.name: base[m.name]
        for m in routable
        if m.name not in fixed
        and m.name not in new
        and _is_dark(m)
        and base[m.name] >= 0.5 * min(targets[m.name], equal)
    }
    if 1.0 - fsum(fixed.values()) - fsum(stale.values()) >= floor * (len(base) - len(fixed) - len(stale)):
        fixed |= stale
    free = [name for name in base if name not in fixed]
    if not free:
        return project(fixed, fixed, fixed, 1.0)
    rest = 1.0 - fsum(fixed.values())
    first = not any(m.prior for m in routable) or bool(verdicts.released)
    share = fsum(base[name] for name in free)
    anchor = {name: base[name] / share * rest if share > 0.0 else rest / len(free) for name in free}
    slack = 1.0 if first else rules.maxChange
    low = {name: max(anchor[name] * (1.0 - slack), floor) for name in free}
    high = {name: 1.0 if first else max(anchor[name] * (1.0 + slack), floor) for name in free}
    high |= {name: max(anchor[name], floor) for name in free if name in new and not first}
    if fsum(low.values()) > rest:
        low = dict.fromkeys(free, floor)
    return {**fixed, **project({name: targets[name] for name in free}, low, high, rest)}


def _base(
    routable: tuple[Member, ...], targets: Mapping[str, float], equal: float
) -> tuple[dict[str, float], frozenset[str]]:
    """The weights that stand, renormalised over who is here now, and who is new: new ones enter at most at the mean."""
    priors = {m.name: m.prior for m in routable if m.prior}
    if not priors:
        return dict(targets), frozenset(targets)
    entering = {name: min(targets[name], equal) for name in targets if name not in priors}
    left = 1.0 - fsum(entering.values())
    whole = fsum(priors.values())
    return {**{name: prior / whole * left for name, prior in priors.items()}, **entering}, frozenset(entering)


def _is_dark(member: Member) -> bool:
    """Without a fresh request rate; where no rate is defined, without any fresh sample."""
    if member.seen is None:
        return True
    signals = member.seen.signals
    if Signal.RATE in signals:
        return not isinstance(signals[Signal.RATE], Fresh)
    return bool(signals) and not any(isinstance(s, Fresh) for s in signals.values())


def _is_stale(member: Member) -> bool:
    """Dark, and there were data once: an instance that never had any is new, not stale."""
    if not _is_dark(member):
        return False
    samples = () if member.seen is None else member.seen.signals.values()
    return member.memory.capacity is not None or any(isinstance(s, Stale) for s in samples)


def _rows(
    fleet: tuple[Member, ...],
    weights: Mapping[str, float],
    capacities: Mapping[str, Capacity],
    verdicts: outliers.Verdicts,
    service: ServiceSnapshot,
) -> tuple[RankedEndpoint, ...]:
    listed = [m for m in fleet if m.memory.endpoint is not None]
    listed.sort(key=lambda m: (-round(weights.get(m.name, 0.0), 12), m.name))
    rows = []
    for position, m in enumerate(listed, start=1):
        weight = weights.get(m.name, 0.0)
        state, why = _state(m, capacities, verdicts, service)
        rows.append(
            RankedEndpoint(
                endpoint=m.memory.endpoint or "",
                instance=m.name,
                rank=position,
                weight=weight,
                state=state,
                age=_age(m),
                latency=_last(m, Signal.LATENCY),
                cpu=_last(m, Signal.CPU),
                memory=_last(m, Signal.MEMORY),
                why=why,
            )
        )
    return tuple(rows)


def _state(
    m: Member, capacities: Mapping[str, Capacity], verdicts: outliers.Verdicts, service: ServiceSnapshot
) -> tuple[EndpointState, str]:
    if not m.routable:
        terminating = m.seen is not None and m.seen.terminating
        served = m.memory.capacity is not None or m.memory.latency is not None
        state = EndpointState.EJECTED if terminating or served else EndpointState.WARMING
        return state, "its pod is terminating" if terminating else "its pod is not ready"
    if service.metrics_problem is not None:
        return EndpointState.STALE, f"last weight kept: {service.metrics_problem}"
    if m.seen is None:
        return EndpointState.STALE, "last weight kept: not listed now, and not known to be gone"
    if m.name in verdicts.shed:
        return EndpointState.SERVING, verdicts.shed[m.name]
    if _is_stale(m):
        return EndpointState.STALE, f"last weight kept: {capacities[m.name].why}"
    return EndpointState.SERVING, capacities[m.name].why


def _changes(standing: Mapping[str, float], rows: tuple[RankedEndpoint, ...]) -> tuple[Change, ...]:
    """The weights that moved visibly against the ranking that stands."""
    changes = []
    for row in rows:
        before = standing.get(row.instance, 0.0)
        if abs(row.weight - before) >= VISIBLE * before and row.weight != before:
            changes.append(Change(f"weight {row.instance}", before or None, row.weight, row.why))
    gone = sorted(name for name, weight in standing.items() if weight > 0.0 and name not in {r.instance for r in rows})
    return (*changes, *(Change(f"weight {name}", standing[name], None, "its pod is gone") for name in gone))


def _age(m: Member) -> float | None:
    if m.seen is None:
        return None
    ages = [s.age_seconds for s in m.seen.signals.values() if isinstance(s, Fresh | Stale)]
    return min(ages, default=None)


def _last(m: Member, signal: Signal) -> float | None:
    return None if m.seen is None else last_value(m.seen.signal(signal))
