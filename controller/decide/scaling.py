"""The HPA's bounds and targets: how much room the HPA has, never how many replicas there are.

Raising minReplicas above what runs, or lowering maxReplicas below it, acts at once, past every limit that the HPA has
(`reconcileAutoscaler` in Kubernetes' horizontal.go). So bounds move in steps, and the rails look at what runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from controller.decide import tuning, turns
from controller.decide.floors.floor import Floor
from controller.decide.hpa_says import obstacle as hpa_obstacle
from controller.decide.interlock import Counts, count
from controller.decide.pause import NOT_PAUSED, Pause, parse_pause
from controller.decide.proposal import Proposed
from controller.decide.tuning import Target
from controller.decide.warmup import Coming
from controller.model.memory import Memory
from controller.model.plan import Hold
from controller.model.snapshot import (
    HpaSpec,
    HpaView,
    Known,
    NotAsked,
    ResourceTarget,
    ServiceSnapshot,
    Unknown,
)
from controller.policy.schema import Bound, Scaling

MIN = "minReplicas"
MAX = "maxReplicas"
PRESSED = 0.1
"""Share by which pressure raises min at a time where demand is known: the floor was a little too low, not unknown."""
HEADROOM = 0.8
"""Utilisation that the rest of the fleet must stay under, were it as small as a lower bound allows, where nothing better is
known."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What asks for a move.

    Args:
        pressure: why more replicas are wanted, once that has lasted; None when they are not.
        calm_seconds: for how long fresh data say that nothing is wrong.
        coming: replicas that exist or are asked for and do not serve yet; none when not known.
        floor: the least replicas that schedules and demand ask for now.
        floor_doubt: why that floor may be too low, so that min must not be lowered onto it; empty when it is whole.
        load: the fleet's utilisations added up, so 2.5 fills two and a half replicas; None when not known.
        headroom: how full the rest of the fleet may become by a decrease, as a ratio.
        futile: why more replicas would not help, in words; empty when they may.
        enough: so many replicas are known to do as well as those that run; None when that is not known.
        budget: what a shared budget allows, in words; empty without one.
        demand_known: whether demand is in that floor, whole: then what is coming is as much as is needed.
    """

    pressure: str | None
    calm_seconds: float
    coming: Coming
    floor: Floor | None = None
    floor_doubt: str = ""
    load: float | None = None
    headroom: float = HEADROOM
    futile: str = ""
    enough: int | None = None
    budget: str = ""
    demand_known: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """The HPA as this tick wants it.

    Args:
        before: what the API server holds; None when the HPA is to be created.
        targets: the metric targets it should have.
        cpu_reason: why the CPU target differs from the one that stands.
        counts: replicas that exist or are asked for.
        adopt: whether it exists and Trimtab has not yet applied it.
        pause: what a person has forbidden on it.
    """

    before: HpaSpec | None
    minimum: Proposed
    maximum: Proposed
    targets: tuple[ResourceTarget, ...]
    counts: Counts
    adopt: bool = False
    pause: Pause = NOT_PAUSED
    cpu_reason: str = ""


def propose(rules: Scaling, service: ServiceSnapshot, memory: Memory, wish: Wish) -> Bounds | Hold:
    """The bounds and targets that this tick asks for, or why the HPA must be left alone."""
    obstacle = _obstacle(rules, service)
    if obstacle is not None:
        return Hold("hpa", obstacle)
    assert isinstance(service.hpa, Known)  # noqa: S101  else there is an obstacle
    assert isinstance(service.scale, Known)  # noqa: S101  same
    assert service.scale.value is not None  # noqa: S101  same
    view, counts = service.hpa.value, count(service.hpa.value, service.scale.value)
    if view is None:
        return _created(rules, counts)
    pause = parse_pause(view.paused, service.at)
    if pause.lowering and pause.raising:
        return Hold("hpa", pause.why)
    cpu = None if rules.cpu is None else tuning.propose(rules.cpu, memory.tuning, tuning.standing(view), service.at)
    targets = _targets(rules, cpu)
    same = sorted(targets, key=str) == sorted(view.spec.targets, key=str)
    return Bounds(
        before=view.spec,
        minimum=turns.within(
            _minimum(rules, view, memory, wish, service.at), memory.min_turns, rules.steps.turnsPerHour, service.at
        ),
        maximum=turns.within(
            _maximum(rules, view, memory, wish, running=counts.most, now=service.at),
            memory.max_turns,
            rules.steps.turnsPerHour,
            service.at,
        ),
        targets=view.spec.targets if same else targets,
        counts=counts,
        adopt=not view.adopted,
        pause=pause,
        cpu_reason="" if cpu is None else cpu.reason,
    )


def _obstacle(rules: Scaling, service: ServiceSnapshot) -> str | None:
    """The first thing that forbids touching the HPA, in words."""
    return next(_obstacles(rules, service), None)


def _obstacles(rules: Scaling, service: ServiceSnapshot) -> Iterator[str]:
    target = f"{rules.target.kind} {rules.target.name}"
    for what, reading in (("HPA", service.hpa), (target, service.scale)):
        if isinstance(reading, Unknown):
            yield f"{what} is not known: {reading.reason}"
        if isinstance(reading, NotAsked):
            yield f"{what} was not read"
    view = service.hpa.value if isinstance(service.hpa, Known) else None
    scale = service.scale.value if isinstance(service.scale, Known) else None
    if view is not None and view.foreign_owner is not None:
        yield f"{rules.hpa} belongs to {view.foreign_owner} and is left alone"
    ambiguous = None if view is None else hpa_obstacle(view)
    if ambiguous is not None:
        yield ambiguous
    if scale is None:
        yield f"there is no {target}"
    elif scale.spec_replicas == 0:
        yield f"{target} is {_why_nothing_runs(view)}"
    if view is not None and (view.spec.target_kind, view.spec.target_name) != (rules.target.kind, rules.target.name):
        yield f"{rules.hpa} scales {view.spec.target_kind} {view.spec.target_name}, the policy says {target}"
    if view is not None and not view.adopted and not rules.adopt:
        yield f"{rules.hpa} was applied by somebody else and scaling.adopt is false"


def _why_nothing_runs(view: HpaView | None) -> str:
    if view is not None and view.spec.min_replicas == 0:
        return "at 0, as its minReplicas allows: the HPA's own metric wakes it"
    return "switched off by its owner (0 replicas)"


def _created(rules: Scaling, counts: Counts) -> Bounds:
    minimum = Proposed(MIN, None, rules.min.floor, "created with the policy's floor")
    maximum = Proposed(MAX, None, rules.max.floor, "created with the policy's floor")
    return Bounds(
        None, minimum, maximum, _targets(rules, None if rules.cpu is None else Target(rules.cpu.target)), counts
    )


def _targets(rules: Scaling, cpu: Target | None) -> tuple[ResourceTarget, ...]:
    memory = None if rules.memory is None else rules.memory.target
    named = (("cpu", None if cpu is None else cpu.percent), ("memory", memory))
    return tuple(ResourceTarget(name, percent) for name, percent in named if percent is not None)


def _minimum(rules: Scaling, view: HpaView, memory: Memory, wish: Wish, now: float) -> Proposed:
    before = view.spec.min_replicas
    strayed = _into_range(MIN, before, rules.min, wish)
    if strayed is not None:
        return _timed(strayed, rules, memory, memory.min_changed_at, now)
    floored = _up_to(wish.floor, before, rules, wish.budget)
    pressed = _pressed(rules, before, wish)
    raised = max((p for p in (floored, pressed) if p is not None), key=lambda p: p.after, default=None)
    may_lower = before > rules.min.floor and _may_lower(rules, memory, memory.min_changed_at, wish, now)
    # What did not help is let go again, though it is still asked for.
    if raised is not None and not (may_lower and wish.futile and floored is None):
        return _timed(raised, rules, memory, memory.min_changed_at, now)
    if may_lower:
        return _lowered(rules, before, wish)
    return Proposed(MIN, before, before, held=wish.futile)


def _up_to(floor: Floor | None, before: int, rules: Scaling, budget: str) -> Proposed | None:
    """One step towards the floor. What is still coming is no reason to wait: it is part of what the floor counts."""
    if floor is None or floor.replicas <= before:
        return None
    if before >= rules.min.ceiling:
        return Proposed(MIN, before, before, floor.reason, _at_ceiling(rules.min, floor.reason, budget))
    return Proposed(MIN, before, min(floor.replicas, rules.min.ceiling, before + rules.steps.of(before)), floor.reason)


def _pressed(rules: Scaling, before: int, wish: Wish) -> Proposed | None:
    if wish.pressure is None:
        return None
    if before >= rules.min.ceiling:
        return Proposed(MIN, before, before, wish.pressure, _at_ceiling(rules.min, wish.pressure, wish.budget))
    reason = f"{wish.pressure}{wish.coming.words}"
    step = rules.steps.of(before)
    step = min(step, max(1, ceil(PRESSED * before))) if wish.demand_known else step
    wanted = Proposed(MIN, before, min(rules.min.ceiling, before + step), reason)
    if wish.demand_known and wish.coming.expected:
        return wanted.keep(f"{wish.coming.expected} replicas are still coming, as many as demand asks for")
    return _worth_it(wanted, rules, wish)


def _worth_it(wanted: Proposed, rules: Scaling, wish: Wish) -> Proposed:
    """Wait while a whole step is on its way, not for pods that have had their time; and while more would not help."""
    if wish.futile:
        return wanted.keep(wish.futile)
    expected = wish.coming.expected
    return (
        wanted.keep(f"{expected} replicas are still coming")
        if expected >= rules.steps.of(wanted.before or 1)
        else wanted
    )


def _lowered(rules: Scaling, before: int, wish: Wish) -> Proposed:
    """One step down, as far as floors and the load of the whole fleet on the rest allow."""
    least = max(rules.min.floor, min(before, 0 if wish.floor is None else wish.floor.replicas))
    if least == before:
        return Proposed(MIN, before, before)
    reason = wish.futile or f"calm for {wish.calm_seconds:.0f} s"
    wanted = Proposed(MIN, before, max(least, before - rules.steps.of(before)), reason)
    if wish.floor_doubt:
        return wanted.keep(f"no decrease on doubtful data: {wish.floor_doubt}")
    if wish.enough is not None and wanted.after >= wish.enough:
        return wanted
    return _consolidated(wanted, before, wish)


def _consolidated(wanted: Proposed, before: int, wish: Wish) -> Proposed:
    """No lower than the load fits: were the fleet as small as the bound allows, the rest would have to carry it all."""
    if wish.load is None:
        return wanted.keep("no decrease while it is not known how full every serving instance is")
    fits = min(before, ceil(min(wish.load / wish.headroom, before)))
    full = f"{wish.load / wanted.after:.0%} full" if wanted.after else "too few"
    return wanted.clamp(max(wanted.after, fits), f"{wanted.after} replicas would be {full}")


def _maximum(rules: Scaling, view: HpaView, memory: Memory, wish: Wish, *, running: int, now: float) -> Proposed:
    before = view.spec.max_replicas
    strayed = _into_range(MAX, before, rules.max, wish)
    if strayed is not None:
        return _timed(strayed, rules, memory, memory.max_changed_at, now)
    limited = view.limited_by_max or running >= before
    floored = 0 if wish.floor is None else min(wish.floor.replicas, rules.min.ceiling)
    asked = (
        _max_for_floor(rules, before, floored, wish),
        _max_for_pressure(rules, before, running, wish) if limited else None,
    )
    raised = max((p for p in asked if p is not None), key=lambda p: p.after, default=None)
    if raised is not None:
        return _timed(raised, rules, memory, memory.max_changed_at, now)
    # What a floor would soon have to raise again stays.
    room = max(rules.max.floor, running, floored)
    if before > room and not limited and _may_lower(rules, memory, memory.max_changed_at, wish, now):
        wanted = Proposed(
            MAX, before, max(room, before - rules.steps.of(before)), f"calm for {wish.calm_seconds:.0f} s"
        )
        return _consolidated(wanted, before, wish)
    return Proposed(MAX, before, before)


def _max_for_floor(rules: Scaling, before: int, floored: int, wish: Wish) -> Proposed | None:
    """One step towards the floor, where max does not let min reach it."""
    if wish.floor is None or floored <= before:
        return None
    reason = wish.floor.reason
    if before >= rules.max.ceiling:
        return Proposed(MAX, before, before, reason, _at_ceiling(rules.max, reason, wish.budget))
    return Proposed(MAX, before, min(rules.max.ceiling, floored, before + rules.steps.of(before)), reason)


def _max_for_pressure(rules: Scaling, before: int, running: int, wish: Wish) -> Proposed | None:
    """One step up, where the HPA is at its max already."""
    if wish.pressure is None:
        return None
    reason = f"{running} replicas run, the most it allows: {wish.pressure}{wish.coming.words}"
    reason += f"; {wish.budget}" if wish.budget else ""
    wanted = Proposed(MAX, before, min(rules.max.ceiling, before + rules.steps.of(before)), reason)
    if before >= rules.max.ceiling:
        return replace(wanted, after=before, held=_at_ceiling(rules.max, wish.pressure, wish.budget))
    return _worth_it(wanted, rules, wish)


def _into_range(field: str, before: int, bound: Bound, wish: Wish) -> Proposed | None:
    if before < bound.floor:
        return Proposed(field, before, bound.floor, f"below the policy's floor {bound.floor}")
    if before > bound.ceiling:
        whose = (
            f"the ceiling {bound.ceiling}; {wish.budget}" if wish.budget else f"the policy's ceiling {bound.ceiling}"
        )
        return Proposed(field, before, bound.ceiling, f"above {whose}")
    return None


def _at_ceiling(bound: Bound, pressure: str, budget: str) -> str:
    return f"already at its ceiling {bound.ceiling}: {pressure}{f'; {budget}' if budget else ''}"


def _timed(wanted: Proposed, rules: Scaling, memory: Memory, changed_at: float | None, now: float) -> Proposed:
    """Keep a move that comes too soon after the last one; a lowering also waits from when the HPA was first seen."""
    if wanted.raises:
        wait = 0.0 if changed_at is None else changed_at + rules.steps.every - now
    else:
        wait = _last_move(memory, changed_at, now) + rules.steps.lowerEvery - now
    return wanted.keep(f"the next step may come in {wait:.0f} s") if wait > 0.0 else wanted


def _may_lower(rules: Scaling, memory: Memory, changed_at: float | None, wish: Wish, now: float) -> bool:
    rested = now - _last_move(memory, changed_at, now) >= rules.steps.lowerEvery
    return rested and wish.calm_seconds >= rules.steps.lowerEvery


def _last_move(memory: Memory, changed_at: float | None, now: float) -> float:
    seen = now if memory.hpa_seen_at is None else memory.hpa_seen_at
    return seen if changed_at is None else max(seen, changed_at)
