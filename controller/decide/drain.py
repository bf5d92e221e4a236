"""Which pods are to go, before a lower minReplicas lets the HPA stop some: the least useful, and only once they are idle.

A ReplicaSet stops the pods with the lowest deletion cost first, so a cost and a weight of 0 make it take these. The HPA decides
how many go, and when: with more than minReplicas running it needs no lower bound for that, and nothing is drained for it.
State is the pods' annotation alone, so a restart forgets nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from controller.decide.members import standing_weights
from controller.decide.proposal import Proposed
from controller.decide.scaling import Bounds
from controller.model.drain import Mark
from controller.model.memory import InstanceMemory, Memory
from controller.model.plan import Change, Drain, DrainPod
from controller.model.sample import Fresh, Signal
from controller.model.snapshot import Instance, ServiceSnapshot
from controller.policy.schema import LoadPolicy, Scaling

LINGER_SECONDS = 60.0
"""So long after its grace a drained pod is left to the HPA, which may still take it; then it serves again."""
ROSE = 0.1
"""A weight that has just risen by more: its instance was just preferred, and is not the one to go."""


@dataclass(frozen=True, slots=True)
class Draining:
    """What becomes of minReplicas, and of the pods."""

    minimum: Proposed
    drain: Drain | None = None
    changes: tuple[Change, ...] = ()


def honoured(policy: LoadPolicy, service: ServiceSnapshot) -> ServiceSnapshot:
    """The service as routing should see it: marks count only while the policy drains, and never for long."""
    if not any(i.drain for i in service.instances):
        return service
    scaling = policy.spec.scaling
    grace = None if scaling is None or scaling.drain is None else scaling.drain.grace
    kept = tuple(
        i if i.drain is None or (grace is not None and _young(i.drain, service.at, grace)) else replace(i, drain=None)
        for i in service.instances
    )
    return replace(service, instances=kept)


def propose(
    rules: Scaling, service: ServiceSnapshot, memory: Memory, safe: Bounds, *, quiet: bool, warm_up_seconds: float
) -> Draining:
    """Drain first, then lower; or give the pods back if nothing is to be lowered.

    Args:
        memory: whose weights, their last moves and capacities tell who is least useful.
        safe: the bounds as the rails left them.
        quiet: whether nothing asks for more replicas, and nothing is in doubt.
        warm_up_seconds: who serves for less is no one to go.
    """
    minimum, running = safe.minimum, safe.counts.most
    marked = _marked(service)
    before = 0 if minimum.before is None else minimum.before
    if rules.drain is None or not minimum.lowers:
        grace = 0.0 if rules.drain is None else rules.drain.grace
        left = quiet and rules.drain is not None and running > before
        back = [i for i, mark in marked if not (left and _young(mark, service.at, grace))]
        return _with(minimum, (), back, "called off")
    if not any(i.pod and i.uid for i in service.instances):
        return Draining(minimum)  # nobody's pod is known, so the HPA chooses as ever
    count = running - minimum.after if running <= before else 0
    # Pods that do not serve are stopped first, whatever they cost.
    count -= sum(i.ready is False and not i.terminating for i in service.instances)
    if count <= 0:
        return _with(minimum, (), [i for i, _ in marked], "not needed")
    return _drained(rules, service, memory, minimum, marked, count=count, warm_up_seconds=warm_up_seconds)


def give_back(service: ServiceSnapshot) -> Draining:
    """No pod is to be drained, whatever stands: the HPA must not be touched now."""
    return _with(Proposed("", None, 0), (), [i for i, _ in _marked(service)], "called off")


def _drained(
    rules: Scaling,
    service: ServiceSnapshot,
    memory: Memory,
    minimum: Proposed,
    marked: Sequence[tuple[Instance, Mark]],
    *,
    count: int,
    warm_up_seconds: float,
) -> Draining:
    grace = 0.0 if rules.drain is None else rules.drain.grace
    standing = standing_weights(service, memory)
    kept, surplus = marked[:count], [i for i, _ in marked[count:]]
    picked = pick(rules, service, memory, count - len(kept), standing=standing, warm_up_seconds=warm_up_seconds)
    busy = [i for i, mark in kept if not _idle(i, mark, service.at, grace, standing)]
    if not kept and not picked:
        return _with(minimum.keep("every instance has just warmed up, or is preferred"), (), surplus, "too many")
    if picked or busy:
        names = ", ".join(i.name for i in (*(i for i, _ in kept), *picked))
        return _with(minimum.keep(f"draining {names} first"), picked, surplus, "too many")
    before = minimum.before or 0
    return _with(
        minimum.clamp(max(minimum.after, before - len(kept)), "as many as are drained"), (), surplus, "too many"
    )


def pick(
    rules: Scaling,
    service: ServiceSnapshot,
    memory: Memory,
    count: int,
    *,
    standing: Mapping[str, float],
    warm_up_seconds: float,
) -> tuple[Instance, ...]:
    """The `count` least useful: least capacity, fewest requests in flight, newest. Never all, never who just came or rose."""
    pods = [i for i in service.instances if i.ready and not i.terminating and i.pod and i.uid]
    free = [i for i in pods if i.drain is None]
    most = min(count, len(free) - 1)
    if most <= 0:
        return ()
    if rules.target.kind == "StatefulSet":  # its controller takes the highest ordinal, whatever anybody says
        return tuple(sorted(free, key=_ordinal, reverse=True)[:most])
    preferred = max(standing, key=lambda name: standing[name], default="") if not _equal(standing) else ""
    settled = [
        i
        for i in free
        if i.name != preferred
        and memory.moves.get(i.name, 0.0) <= ROSE
        and service.at - _serves_since(i, memory) >= warm_up_seconds
    ]
    known = [m.capacity for i in pods if (m := memory.instances.get(i.name)) and m.capacity]
    usual = median(known) if known else 1.0
    settled.sort(key=lambda i: (_capacity(i, memory.instances, usual), _in_flight(i), -(i.created_at or 0.0), i.name))
    return tuple(settled[:most])


def _serves_since(instance: Instance, memory: Memory) -> float:
    """When it last began to serve; long ago when nobody has seen that."""
    known = memory.instances.get(instance.name)
    seen = (instance.ready_at, None if known is None else known.serving_since)
    return max((at for at in seen if at is not None), default=float("-inf"))


def _marked(service: ServiceSnapshot) -> list[tuple[Instance, Mark]]:
    """Who is drained, the longest first."""
    found = [(i, i.drain) for i in service.instances if i.drain is not None and not i.terminating]
    return sorted(found, key=lambda pair: (pair[1].since, pair[0].name))


def _capacity(instance: Instance, memories: Mapping[str, InstanceMemory], usual: float) -> float:
    """In tenths of the usual one: less is noise."""
    memory = memories.get(instance.name)
    return round((usual if memory is None or not memory.capacity else memory.capacity) / usual, 1)


def _equal(standing: Mapping[str, float]) -> bool:
    """Whether nobody is preferred: all weights within a hundredth of each other."""
    weights = [weight for weight in standing.values() if weight > 0.0]
    return not weights or max(weights) <= 1.01 * min(weights)


def _in_flight(instance: Instance) -> float:
    sample = instance.signal(Signal.IN_FLIGHT)
    return sample.value if isinstance(sample, Fresh) else float("inf")


def _idle(instance: Instance, mark: Mark, at: float, grace: float, standing: Mapping[str, float]) -> bool:
    """Whether nothing is inside once clients have stopped sending, or the grace is over."""
    return at - mark.since >= grace or (not standing.get(instance.name) and _in_flight(instance) == 0.0)


def _young(mark: Mark, at: float, grace: float) -> bool:
    return at - mark.since < grace + LINGER_SECONDS


def _ordinal(instance: Instance) -> int:
    tail = (instance.pod or "").rpartition("-")[2]
    return int(tail) if tail.isdecimal() else -1


def _with(minimum: Proposed, marks: Sequence[Instance], back: Sequence[Instance], why: str) -> Draining:
    if not marks and not back:
        return Draining(minimum)
    changes = [Change(f"drain {i.name}", None, "weight 0", "scale-in is to take it, once it is idle") for i in marks]
    changes += [Change(f"drain {i.name}", "weight 0", None, f"scale-in of it is {why}") for i in back]
    return Draining(minimum, Drain(_pods(marks), _pods(back)), tuple(changes))


def _pods(instances: Sequence[Instance]) -> tuple[DrainPod, ...]:
    return tuple(
        DrainPod(i.pod, i.uid, i.deletion_cost, None if i.drain is None else i.drain.cost)
        for i in instances
        if i.pod and i.uid
    )
