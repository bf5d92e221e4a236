"""Three kinds of actuators on one service, ordered by their time constants, so that none undoes or hides what another needs.

| order | actuator | acts within | gives way when |
|---|---|---|---|
| 1 | weights | seconds | all are equally full |
| 2 | limit, shedding | seconds | requests wait, and the queue grows |
| 3 | floor (minReplicas), ceiling (maxReplicas) | minutes | there is no more |
| 4 | nothing is left: overloaded | | |

Trouble goes down this list, and calm goes up it: bounds are lowered only once the faster ones stand where they stood.
Requests that the limit makes wait are demand (demand.py), since the limit hides them from the HPA; and while they wait, the
limit is not cut on a hint, for that would take away the processor load which the HPA scales by.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, fsum

from controller.decide.budget import Grant, within
from controller.decide.concurrency import default
from controller.model.memory import InstanceMemory, Memory
from controller.model.plan import Overload
from controller.model.sample import Signal, fresh_value
from controller.model.snapshot import HpaView, Instance, Known, ScaleView, ServiceSnapshot
from controller.policy.schema import LoadPolicy

STARVED = 0.9
"""Share of the HPA's CPU target below which the limit may not be cut while requests wait."""
PREFERRED = 0.1
"""Relative rise of a weight at the last publish from which its instance was just preferred."""
OVER_TARGET = 1.15
"""Of its CPU target from which an HPA scales out: its tolerance is 10 %."""
MOST_OVERCOMMITTED = 4
"""Instances' worth of requests that one instance may be given while nobody sets the limit."""
LONGEST_RETRY_SECONDS = 600.0
"""No promise reaches further."""


def protected(
    policy: LoadPolicy, memories: Mapping[str, InstanceMemory], moves: Mapping[str, float], at: float
) -> tuple[str, ...]:
    """Instances that must not be scaled in now: just warmed, or just given more of the traffic. By name.

    A ReplicaSet deletes its youngest pods first: those that the last pressure has paid for.
    """
    routing = policy.spec.routing
    warming = 0.0 if routing is None else routing.slowStart
    found = set()
    for name, memory in memories.items():
        if memory.routable is False or memory.shedding:
            continue
        warmed = memory.serving_since is not None and at - memory.serving_since < warming + policy.spec.interval
        if warmed or moves.get(name, 0.0) >= PREFERRED:
            found.add(name)
    return tuple(sorted(found))


def still_out(policy: LoadPolicy, memory: Memory, at: float) -> str | None:
    """Which faster actuator has not come back yet, in words: until it has, no bound is lowered. None when all have."""
    shed = sorted(name for name, instance in memory.instances.items() if instance.shedding)
    if shed:
        return f"{shed[0]} is still shed"
    warm = protected(policy, memory.instances, {}, at)
    return f"{warm[0]} has just warmed up" if warm else None


def fallback(policy: LoadPolicy, service: ServiceSnapshot, ready: int) -> int | None:
    """The limit for the day on which nobody sets one: what the queue goes back to. None when there is nothing to go by.

    `perInstance` × instances, and of those as many as keep the processors over the HPA's target until it has its
    maxReplicas: an HPA whose CPU a dead controller's limit caps would stand still under any load. At most four times the ready ones.
    """
    rules, scaling = policy.spec.concurrency, policy.spec.scaling
    if rules is None or ready <= 0:
        return None
    view = service.hpa.value if isinstance(service.hpa, Known) else None
    instances = ready
    if scaling is not None and scaling.cpu is not None and view is not None:
        wanted = ceil(OVER_TARGET * scaling.cpu.target / 100.0 * view.spec.max_replicas)
        instances = max(ready, min(wanted, MOST_OVERCOMMITTED * ready))
    return default(rules, instances)


def starves(policy: LoadPolicy, service: ServiceSnapshot) -> str | None:
    """Why the limit must not be cut on a hint: requests wait, and the processors are below what the HPA scales out at."""
    rules = policy.spec.scaling
    queue = service.queue.value if isinstance(service.queue, Known) else None
    if rules is None or rules.cpu is None or queue is None or queue.depth <= max(queue.in_flight, 0):
        return None
    known = [v for i in _serving(service) if (v := fresh_value(i.signal(Signal.CPU))) is not None]
    if not known:
        return None
    mean, target = fsum(known) / len(known), STARVED * rules.cpu.target / 100.0
    if mean >= target:
        return None
    return f"{queue.depth} requests wait at {mean:.0%} CPU, and the HPA scales out at {rules.cpu.target} %"


def left_at(told: int, default: int | None) -> int | None:
    """What a queue that lets no limit expire is told before a clean stop: the default, where it was told less. None: as it is."""
    return default if default is not None and told < default else None


def overload(
    policy: LoadPolicy, service: ServiceSnapshot, pressure: str | None, grant: Grant | None = None
) -> Overload | None:
    """Whether every actuator is at its end while demand lasts; None when one is left, or when that is not known.

    Args:
        pressure: why more replicas are wanted, once that has lasted; None when they are not.
        grant: what a shared budget allows: what it does not give is not left to be asked for. None when in none.
    """
    end = None if pressure is None else _at_the_end(policy, service, grant)
    return None if end is None else Overload(f"{pressure}; {end}", _retry_after_seconds(service))


def _at_the_end(policy: LoadPolicy, service: ServiceSnapshot, grant: Grant | None) -> str | None:
    """Why there can be no more replicas, in words; None when there can, or when that is not known."""
    rules = policy.spec.scaling
    if rules is None:
        return "there is no scaling"
    view = service.hpa.value if isinstance(service.hpa, Known) else None
    scale = service.scale.value if isinstance(service.scale, Known) else None
    if view is None or scale is None:
        return None
    # While it is not known what the budget gives, only the policy's own ceiling is an end.
    granted = within(rules, grant if grant is None or grant.replicas is not None else None, view.spec.max_replicas)
    running = _running(view, scale)
    ceiling = granted.max.ceiling
    if running >= ceiling:
        whose = f" ({grant.words})" if grant is not None and ceiling < rules.max.ceiling else ""
        return f"{running} replicas run, the ceiling is {ceiling}{whose}"
    desired = scale.spec_replicas if view.desired_replicas is None else view.desired_replicas
    low = view.spec.min_replicas
    if low >= rules.min.ceiling and max(desired, low) <= scale.spec_replicas <= scale.status_replicas:
        return f"minReplicas is at its ceiling {rules.min.ceiling}, and the HPA sees no reason for more than {desired}"
    return None


def _running(view: HpaView, scale: ScaleView) -> int:
    return max(scale.spec_replicas, scale.status_replicas, view.current_replicas or 0)


def _retry_after_seconds(service: ServiceSnapshot) -> float | None:
    """How long it takes to serve what waits now, at the rate at which requests finish now; None when that is not known."""
    queue = service.queue.value if isinstance(service.queue, Known) else None
    rates = [fresh_value(i.signal(Signal.RATE)) for i in _serving(service)]
    known = [rate for rate in rates if rate is not None]
    finished = fsum(known)
    if queue is None or len(known) < len(rates) or finished <= 0.0:
        return None
    return min(queue.depth / finished, LONGEST_RETRY_SECONDS)


def _serving(service: ServiceSnapshot) -> list[Instance]:
    return [i for i in service.instances if i.ready is not False and not i.terminating]
