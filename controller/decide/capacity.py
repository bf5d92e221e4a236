"""How many requests per second each instance can serve: one estimate for all actuators.

Rate over utilisation is nearly independent of the load itself, so it stays true while the samples age; latency is not.
The form, rate ÷ (utilisation + penalty × errors), is that of gRPC's weighted round robin (proposal A58).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import fsum

from controller.decide.members import Member
from controller.decide.slo import LARGEST
from controller.model.memory import InstanceMemory
from controller.model.sample import Signal, fresh_value
from controller.model.snapshot import Instance

ERROR_PENALTY = 1.0
"""How much utilisation one failed request in one counts for."""
SMOOTHING = 0.3
"""Share of a new estimate that enters per tick."""
LITTLE_SMOOTHING = 0.1
"""Likewise for estimates from response times, which rise with load and would swing if followed fast."""
LEAST_UTILISATION = 0.001
"""Below this a server is idle, and its utilisation says nothing about its size."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Requests/s an instance can serve, and where the figure comes from. `measured` is False for a stand-in."""

    value: float
    why: str
    measured: bool


def learn(
    members: Iterable[Member], slots: int | None, now: float, *, trusted: bool = True
) -> dict[str, InstanceMemory]:
    """The members' memories with this tick's estimates in them.

    Args:
        members: the fleet.
        slots: requests that one instance serves at once, if the policy says so.
        now: seconds since the epoch.
        trusted: False when the answer is partial: sums over some of the series are too small, so nothing is learnt.
    """
    fleet = tuple(members)
    if not trusted:
        return {m.name: m.memory for m in fleet}
    full = {m.name: utilisation_of(m.seen, slots) for m in fleet if m.seen is not None}
    # In a fleet that reports no utilisation at all, 1 ÷ response time compares its instances; it has another scale, so
    # it must not stand beside real capacities.
    little = all(u is None for u in full.values())
    learnt = {}
    for m in fleet:
        measured = _measure(m.seen, full.get(m.name), little=little) if m.seen is not None else None
        learnt[m.name] = m.memory if measured is None else _smooth(m.memory, measured, now, little=little)
    return learnt


def estimate(memories: Mapping[str, InstanceMemory], now: float) -> dict[str, Capacity]:
    """Each instance's capacity: the last measured one, else the mean of the known, else 1 for everybody."""
    known = [m.capacity for m in memories.values() if m.capacity is not None]
    mean = fsum(known) / len(known) if known else None
    if not mean:
        return {name: Capacity(1.0, "no capacity is known yet: an equal share", measured=False) for name in memories}
    return {
        name: Capacity(mean, f"no data yet: the fleet's mean {mean:.3g}/s", measured=False)
        if m.capacity is None
        else Capacity(m.capacity, _words(m, now), measured=True)
        for name, m in memories.items()
    }


def utilisation_of(instance: Instance, slots: int | None) -> float | None:
    """How full it is, the fullest of what is known: CPU and the server's own word, or in-flight ÷ slots; None if idle."""
    own = fresh_value(instance.signal(Signal.UTILISATION))
    cpu = fresh_value(instance.signal(Signal.CPU))
    in_flight = fresh_value(instance.signal(Signal.IN_FLIGHT))
    if own is None and slots is not None and in_flight is not None:
        own = min(1.0, in_flight / slots)
    known = [u for u in (own, cpu) if u is not None]
    return min(max(known), LARGEST) if known and max(known) >= LEAST_UTILISATION else None


def errors_of(instance: Instance) -> float | None:
    """Its failed share, 0..1, from a fresh sample; None when there is none."""
    errors = fresh_value(instance.signal(Signal.ERRORS))
    return None if errors is None else min(max(errors, 0.0), 1.0)


def rate_of(instance: Instance) -> float | None:
    """Its fresh request rate, requests/s; None when there is none."""
    rate = fresh_value(instance.signal(Signal.RATE))
    return None if rate is None else min(max(rate, 0.0), LARGEST)


def _measure(instance: Instance, utilisation: float | None, *, little: bool) -> float | None:
    rate = rate_of(instance)
    in_flight = fresh_value(instance.signal(Signal.IN_FLIGHT))
    full = utilisation
    if full is None and little and in_flight is not None and in_flight > LEAST_UTILISATION:
        full = in_flight
    if rate is None or rate <= 0.0 or full is None:
        return None
    errors = errors_of(instance) or 0.0
    # Only served requests count: a server that fails fast would otherwise look fast.
    return rate * (1.0 - errors) / (full + ERROR_PENALTY * errors)


def _smooth(memory: InstanceMemory, measured: float, now: float, *, little: bool) -> InstanceMemory:
    share = LITTLE_SMOOTHING if little else SMOOTHING
    value = measured if memory.capacity is None else memory.capacity + share * (measured - memory.capacity)
    return replace(memory, capacity=value, capacity_at=now)


def _words(memory: InstanceMemory, now: float) -> str:
    age = 0.0 if memory.capacity_at is None else now - memory.capacity_at
    text = f"capacity {memory.capacity:.3g}/s"
    return text if age <= 0.0 else f"{text}, measured {age:.0f} s ago"
