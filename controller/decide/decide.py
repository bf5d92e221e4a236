"""One decision: what is known of a service, and its policy, become a plan.

Pure: the same arguments give the same plan. Read `decide` first; each line is a room of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from controller.decide import (
    budget,
    concurrency,
    coordinate,
    futility,
    knee_utilisation,
    learned,
    rails,
    routing,
    scaling,
    slo,
    tuning,
    turns,
    warmup,
    windows,
)
from controller.decide.behavior import propose as propose_behavior
from controller.decide.budget import Grant
from controller.decide.drain import give_back as give_drained_back
from controller.decide.drain import honoured as honoured_drains
from controller.decide.drain import propose as propose_drain
from controller.decide.floors import asked as asked_floor
from controller.decide.floors import schedule as schedule_floor
from controller.decide.floors.demand import Asked
from controller.decide.floors.floor import highest
from controller.decide.hpa_says import doubt as hpa_doubt
from controller.decide.hpa_says import hold as hpa_hold
from controller.decide.knee_utilisation import UtilisationKnee
from controller.decide.members import count_ready, members, standing_weights
from controller.decide.proposal import Proposed
from controller.decide.scaling import Bounds, Wish
from controller.decide.situation import Situation, situation
from controller.decide.slo import ServiceLevel
from controller.decide.zero import settle as settle_zero
from controller.model.limiter import LimiterMemory
from controller.model.memory import Memory, UtilisationEvidence, frozen
from controller.model.plan import Change, Drain, Hold, HpaWrite, Overload, Plan, Publish, RankedEndpoint
from controller.model.snapshot import HpaSpec, Known, ServiceSnapshot
from controller.policy.schema import LoadPolicy, Scaling, Spec

VALID_FOR_SECONDS = 60.0
"""How long a publish counts when the policy has no routing section to say so."""
STREAK = 0.5
"""Share of the interval after which a second bad tick makes a streak; below one, because ticks jitter."""

T = TypeVar("T")


def decide(
    policy: LoadPolicy, service: ServiceSnapshot, memory: Memory, grant: Grant | None = None
) -> tuple[Plan, Memory]:
    """What to do now, and what to remember if it is done.

    What stands (weights, limit, bounds) is read from the snapshot where it answers, so that a plan that was not carried
    out (a dry run, a failed write) leaves nothing wrong behind in the memory.

    Args:
        policy: the service's policy; a section that is omitted does nothing.
        service: everything known at `service.at`; no other clock is read.
        memory: as returned by the last call, or `Memory()`.
        grant: what a shared budget allows it; None when it is in none.
    """
    memory, unread = learned.recall(memory, service, policy.spec.slo.latency)
    observed = service
    service, lately, moves = windows.align(policy.spec.signals, observed, memory)
    standing = standing_weights(service, memory)
    serving = honoured_drains(policy, service)
    fleet = members(serving, memory, standing)
    ranking = routing.rank(policy, serving, fleet, standing, memory)
    level = slo.measure(policy.spec.slo, service, ranking.suspects, ranking.memories)
    spot = situation(policy, service, memory, level, grant, observed=observed)
    now = replace(
        _remember(policy, service, memory, level, spot),
        lately=lately,
        fullness=memory.fullness if moves else _fullness(policy, service, memory, ranking.suspects),
    )

    endpoints, unsafe = rails.ranking(ranking.endpoints)
    limit, limiter = _limit(policy, service, now, memory, level)
    asked, foreseen, now = asked_floor.ask(policy, service, now)
    hpa, drain, hpa_changes, hpa_holds = _hpa(policy, service, now, level, spot, asked=asked)
    overload = coordinate.overload(policy, service, _lasting(spot, now, policy, service.at), grant)

    plan = Plan(
        policy=policy.key,
        at=service.at,
        publish=_publish(policy, service, now, endpoints, limit, panic=ranking.panic, overload=overload),
        hpa=hpa,
        changes=(*_present(limit.change() if limit else None), *(ranking.changes if endpoints else ()), *hpa_changes),
        holds=(*_present(limit.hold() if limit else None, unsafe, unread), *ranking.holds, *hpa_holds),
        stability=ranking.stability,
        forecast=foreseen,
        breakdown=ranking.breakdown if endpoints else None,
        overload=overload,
        protected=coordinate.protected(policy, ranking.memories, ranking.moves, service.at),
        drain=drain,
    )
    after = replace(
        now,
        instances=frozen(ranking.memories),
        weights=frozen({e.instance: e.weight for e in endpoints}) if endpoints else frozen(standing),
        limit=memory.limit if limit is None else limit.after,
        limiter=limiter,
        limit_changed_at=service.at if limit is not None and limit.change() else memory.limit_changed_at,
        moves=frozen(ranking.moves),
        swing=memory.swing if ranking.stability is None else ranking.stability.swing,
        gain=ranking.gain,
        ready_instances=memory.ready_instances if (ready := count_ready(service)) is None else ready,
    )
    return plan, after


def _remember(
    policy: LoadPolicy, service: ServiceSnapshot, memory: Memory, level: ServiceLevel, spot: Situation
) -> Memory:
    """The streaks and observed moves, up to date with this snapshot."""
    spec, at = policy.spec, service.at
    # A breach on doubtful data starts no streak: the limit goes down only on two whole views in a row.
    breached, pressed = level.breach is not None and not level.unsure, spot.asks is not None
    updated = replace(
        memory,
        at=at,
        breach_since=_since(memory.breach_since, at, on=breached),
        pressure_since=_since(memory.pressure_since, at, on=pressed),
    )
    if spot.seen is None or spec.scaling is None:
        return updated
    step, settle = spec.scaling.steps.replicas, _settle_seconds(spec)
    tried = futility.observe(memory.futility, spot.seen, pressed=pressed, step=step, settle_seconds=settle)
    # What replicas do not answer to is no reason to keep them.
    eased = level.failing is None and bool(futility.lasting(tried, spot.seen))
    calm = not level.unsure and ((level.breach is None and not pressed) or eased)
    # Calm goes up the list of actuators: bounds come last.
    calm = calm and coordinate.still_out(policy, memory, at) is None
    warmups = warmup.observe(service, memory.warmups)
    updated = replace(
        updated,
        calm_since=_since(memory.calm_since, at, on=calm),
        arrivals=asked_floor.arrivals(policy, service, memory, spot.load),
        warmups=warmups,
        futility=tried,
        tuning=tuning.observe(
            memory.tuning,
            service,
            level,
            slo_seconds=spec.slo.latency,
            settle_seconds=warmup.warm_up(spec.scaling.warmUp, warmups).seconds + settle,
            skip=eased,
        ),
        claim=budget.claim(policy, service, level, memory.claim, asks=pressed, futile=eased),
    )
    if not isinstance(service.hpa, Known) or service.hpa.value is None:
        return updated
    bounds = service.hpa.value.spec
    # Seen now, so it moved since the last tick; that tick's instant is when a move of our own was made.
    moved_at = at if memory.at is None else memory.at
    min_moved = memory.hpa_min is not None and memory.hpa_min != bounds.min_replicas
    max_moved = memory.hpa_max is not None and memory.hpa_max != bounds.max_replicas
    return replace(
        updated,
        hpa_min=bounds.min_replicas,
        hpa_max=bounds.max_replicas,
        hpa_seen_at=at if memory.hpa_seen_at is None else memory.hpa_seen_at,
        min_changed_at=moved_at if min_moved else memory.min_changed_at,
        max_changed_at=moved_at if max_moved else memory.max_changed_at,
        min_turns=turns.observe(memory.min_turns, memory.hpa_min, bounds.min_replicas, at),
        max_turns=turns.observe(memory.max_turns, memory.hpa_max, bounds.max_replicas, at),
    )


def _settle_seconds(spec: Spec) -> float:
    """How long new replicas serve before the fleet's figures are theirs too: their slow start, and a rate window after it."""
    start = 0.0 if spec.routing is None else spec.routing.slowStart
    return start + spec.signals.window + 2.0 * spec.interval


def _fullness(
    policy: LoadPolicy, service: ServiceSnapshot, memory: Memory, suspects: frozenset[str]
) -> UtilisationEvidence | None:
    if policy.spec.scaling is None:
        return None
    slots = None if policy.spec.concurrency is None else policy.spec.concurrency.perInstance
    seen = knee_utilisation.samples(service, slots, suspects)
    return knee_utilisation.learn(memory.fullness, seen, policy.spec.slo.latency, service.at)


def _limit(
    policy: LoadPolicy, service: ServiceSnapshot, now: Memory, before: Memory, level: ServiceLevel
) -> tuple[Proposed | None, LimiterMemory | None]:
    rules = policy.spec.concurrency
    if rules is None:
        return None, None
    ready, limiter = count_ready(service), None
    if rules.adaptive and (carried := concurrency.carried(service, before)) is not None:
        return carried, None
    if rules.adaptive:
        proposed, limiter = concurrency.adapt(
            rules,
            service,
            before,
            level,
            ready=ready,
            slo_seconds=policy.spec.slo.latency,
            period_seconds=policy.spec.signals.window + policy.spec.interval,
        )
    else:
        lasts = _lasts(now.breach_since, service.at, policy.spec.interval)
        proposed = concurrency.propose(rules, service, before, level, ready=ready, breach_lasts=lasts)
    lost = concurrency.lost_capacity(before, ready)
    # The adaptive limit rests on requests in flight, throughput and response time alone: `doubts` speak of those.
    doubts = level.doubts if rules.adaptive else level.unsure
    safe = None if proposed is None else rails.limit(rules, proposed, doubts, lost_capacity=lost)
    return safe, limiter


def _hpa(
    policy: LoadPolicy, service: ServiceSnapshot, now: Memory, level: ServiceLevel, spot: Situation, *, asked: Asked
) -> tuple[HpaWrite | None, Drain | None, tuple[Change, ...], tuple[Hold, ...]]:
    rules = policy.spec.scaling
    if rules is None:
        return None, None, (), ()
    view = service.hpa.value if isinstance(service.hpa, Known) else None
    rules = budget.within(rules, spot.grant, None if view is None else view.spec.max_replicas)
    rules, no_zero = settle_zero(rules, view)
    proposed = scaling.propose(rules, service, now, _wish(policy, rules, service, now, spot, asked=asked))
    if isinstance(proposed, Hold):
        back = give_drained_back(service)
        return None, back.drain, back.changes, (proposed,)
    speed = propose_behavior(rules, view, proposed.pause)
    safe, holds = rails.bounds(rules, proposed, (*level.unsure, *_present(hpa_doubt(view))))
    draining = propose_drain(
        rules,
        service,
        now,
        safe,
        quiet=now.pressure_since is None and not level.unsure,
        warm_up_seconds=warmup.warm_up(rules.warmUp, now.warmups).seconds,
    )
    safe = replace(safe, minimum=draining.minimum)
    holds = (*_present(safe.minimum.hold(), safe.maximum.hold(), no_zero, speed.hold, hpa_hold(view)), *holds)
    after = HpaSpec(rules.target.kind, rules.target.name, safe.minimum.after, safe.maximum.after, safe.targets)
    changes = (*_present(safe.minimum.change(), safe.maximum.change(), speed.change), *_target_changes(safe))
    if safe.adopt:
        changes = (Change("hpa manager", "another", "trimtab", "adopted with the bounds it has"), *changes)
    if not changes:
        return None, draining.drain, draining.changes, holds
    reason = "; ".join(dict.fromkeys(c.reason for c in changes))
    metadata = policy.metadata
    kept = learned.record(
        now,
        safe,
        slo_seconds=policy.spec.slo.latency,
        window_seconds=policy.spec.signals.window,
        per_hour=rules.steps.turnsPerHour,
        at=service.at,
    )
    write = HpaWrite(metadata.namespace, rules.hpa, safe.before, after, reason, speed.send, kept)
    return write, draining.drain, (*changes, *draining.changes), holds


def _wish(
    policy: LoadPolicy, rules: Scaling, service: ServiceSnapshot, now: Memory, spot: Situation, *, asked: Asked
) -> Wish:
    lead = warmup.warm_up(rules.warmUp, now.warmups)
    knee = knee_utilisation.estimate(now.fullness)
    return Wish(
        _lasting(spot, now, policy, service.at),
        0.0 if now.calm_since is None else service.at - now.calm_since,
        warmup.coming(service, count_ready(service), lead),
        highest((schedule_floor.floor(rules, service.at, policy.spec.interval, lead), asked.floor)),
        asked.doubt,
        spot.most_load,
        _headroom(rules, knee),
        spot.futile(now),
        futility.enough(now.futility, service.at),
        "" if spot.grant is None else spot.grant.words,
        demand_known=asked.floor is not None and not asked.doubt,
    )


def _headroom(rules: Scaling, knee: UtilisationKnee) -> float:
    """How full the rest of the fleet may become by a decrease: as the policy plans, else no fuller than is known to do."""
    given = None if rules.demand is None else rules.demand.utilisation
    return min(scaling.HEADROOM, knee.utilisation) if given is None else given


def _target_changes(safe: Bounds) -> tuple[Change, ...]:
    stands = {} if safe.before is None else {t.name: t.percent for t in safe.before.targets}
    wanted = {t.name: t.percent for t in safe.targets}
    names, reasons = {**stands, **wanted}, {"cpu": safe.cpu_reason}
    return tuple(
        Change(f"{name} target", stands.get(name), wanted.get(name), reasons.get(name) or "the policy's target")
        for name in names
        if stands.get(name) != wanted.get(name)
    )


def _publish(
    policy: LoadPolicy,
    service: ServiceSnapshot,
    memory: Memory,
    endpoints: tuple[RankedEndpoint, ...] | None,
    limit: Proposed | None,
    *,
    panic: bool,
    overload: Overload | None,
) -> Publish | None:
    spec = policy.spec
    if spec.routing is None and spec.concurrency is None:
        return None
    valid_for = VALID_FOR_SECONDS if spec.routing is None else spec.routing.validFor
    rules, ready = spec.concurrency, count_ready(service)
    ready = memory.ready_instances if ready is None else ready
    return Publish(
        endpoints,
        None if limit is None else limit.after,
        panic,
        valid_for,
        limit_carried=rules is not None and rules.adaptive and concurrency.carried(service, memory) is not None,
        # Of a fleet that is gone nothing is left as a default: the one that stands is of when it served.
        default_limit=coordinate.fallback(policy, service, ready or 0),
        queue=None if rules is None else rules.queue,
        overload=overload,
    )


def _since(since: float | None, at: float, *, on: bool) -> float | None:
    return (at if since is None else since) if on else None


def _lasting(spot: Situation, now: Memory, policy: LoadPolicy, at: float) -> str | None:
    """Why more replicas are wanted, once that has lasted."""
    return spot.asks if _lasts(now.pressure_since, at, policy.spec.interval) else None


def _lasts(since: float | None, at: float, interval: float) -> bool:
    return since is not None and at - since >= STREAK * interval


def _present(*values: T | None) -> tuple[T, ...]:
    return tuple(v for v in values if v is not None)
