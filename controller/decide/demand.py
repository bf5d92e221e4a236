"""Whether demand asks for more replicas, or has left room for fewer."""

from __future__ import annotations

from math import fsum

from controller.decide.facts import utilisation_of
from controller.decide.slo import ServiceLevel
from controller.model.sample import Signal, fresh_value
from controller.model.snapshot import Instance, Known, ServiceSnapshot

BUSY = 0.8
"""Share of the limit in flight from which a slow fleet is a busy one."""
FULL = 0.7
"""Mean utilisation from which likewise."""


def pressure(service: ServiceSnapshot, level: ServiceLevel, limit: int | None, slots: int | None) -> str | None:
    """Why more replicas are wanted, in words; None when they are not.

    More requests waiting than in flight is demand, whatever the response times say: the limit hides it from the HPA.
    A slow fleet is demand only if it is busy too; slow and idle is a fault that more replicas would not cure. Errors
    alone never are: replicas that fail are not wanted in greater numbers.
    """
    queue = service.queue.value if isinstance(service.queue, Known) else None
    if queue is not None and queue.depth > max(queue.in_flight, 0):
        return f"{queue.depth} requests wait while {queue.in_flight} are in flight"
    busy = _busy(service, limit, slots) if level.slow is not None else None
    return None if busy is None else f"{level.slow} {busy}"


def load(service: ServiceSnapshot, slots: int | None) -> float | None:
    """The utilisations of all serving instances added up; None when one does not say how full it is, or none serves.

    What is not known must not be taken for room: this is what decreases are measured against.
    """
    full = [_fullness(i, slots) for i in service.instances if i.ready is not False and not i.terminating]
    known = [u for u in full if u is not None]
    return fsum(known) if known and len(known) == len(full) else None


def _fullness(instance: Instance, slots: int | None) -> float | None:
    """Its utilisation; nothing when it says that it idles, or that it serves no request."""
    full = utilisation_of(instance, slots)
    says = any(fresh_value(instance.signal(signal)) is not None for signal in (Signal.CPU, Signal.UTILISATION))
    rate = fresh_value(instance.signal(Signal.RATE))
    idles = full is None and (says or (rate is not None and rate <= 0.0))
    return 0.0 if idles else full


def _busy(service: ServiceSnapshot, limit: int | None, slots: int | None) -> str | None:
    queue = service.queue.value if isinstance(service.queue, Known) else None
    if queue is not None and queue.depth > 0:
        return f"while {queue.depth} requests wait"
    in_flight = max(_in_flight(service), float(queue.in_flight) if queue is not None else 0.0)
    if limit is not None and in_flight >= BUSY * limit:
        return f"with {in_flight:.3g} of {limit} in flight"
    full = [u for i in service.instances if (u := utilisation_of(i, slots)) is not None]
    if full:
        mean = fsum(full) / len(full)
        return f"at utilisation {mean:.0%}" if mean >= FULL else None
    # Nothing tells how busy it is: the response time is all there is.
    return "under traffic" if queue is None and limit is None else None


def _in_flight(service: ServiceSnapshot) -> float:
    """At least so many: who does not say adds nothing, which can only keep a raise back, and lowers nothing."""
    return fsum(max(fresh_value(i.signal(Signal.IN_FLIGHT)) or 0.0, 0.0) for i in service.instances)
