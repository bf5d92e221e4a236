"""What the fresh samples of one tick say of one instance, looked up once. Anything not fresh is None."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from controller.decide.gaps import NONE, gaps_of
from controller.decide.slo import LARGEST
from controller.model.sample import Fresh, Signal, Stale
from controller.model.snapshot import Instance

# Looked up once: an enumeration's members take as long to find as the samples, and this runs for each of 20,000 instances.
_RATE, _ERRORS, _IN_FLIGHT, _UTILISATION = Signal.RATE, Signal.ERRORS, Signal.IN_FLIGHT, Signal.UTILISATION
_LATENCY, _MEMORY, _CPU = Signal.LATENCY, Signal.MEMORY, Signal.CPU

LEAST_UTILISATION = 0.001
"""Below this a server is idle, and its utilisation says nothing about its size."""


@dataclass(slots=True)
class Facts:
    """One instance now. Seconds, requests, requests/s, ratios; None is no fresh sample.

    Args:
        utilisation: how full it is, the fullest of what is known; None when idle.
        age: of its youngest sample, fresh or stale.
        dark: without a fresh request rate; where no rate is defined, without any fresh sample.
        stale: any sample that was fresh once.
        fresh: the signals with a fresh sample.
        gaps: the signals that were fresh once and are not now.
        told: the signals that were ever fresh, with those of now.
        awaits: a utilisation is defined, and none is fresh.
    """

    rate: float | None = None
    utilisation: float | None = None
    errors: float | None = None
    latency: float | None = None
    in_flight: float | None = None
    memory: float | None = None
    cpu: float | None = None
    age: float | None = None
    dark: bool = True
    stale: bool = False
    fresh: AbstractSet[Signal] = NONE
    gaps: frozenset[Signal] = NONE
    told: frozenset[Signal] = NONE
    awaits: bool = False


NOTHING = Facts()


def facts_of(instance: Instance, slots: int | None, known: frozenset[Signal] = NONE) -> Facts:
    """The facts of one instance.

    Args:
        instance: as observed.
        slots: requests that it serves at once, if the policy says so: then in-flight ÷ slots stands in for a
            utilisation of the server's own.
        known: the signals that it has ever told.
    """
    signals = instance.signals
    values: dict[Signal, float] = {}
    age: float | None = None
    stale = False
    for signal, sample in signals.items():
        if isinstance(sample, Fresh):
            value = sample.value
            values[signal] = min(LARGEST, value) if value > 0.0 else 0.0
        elif isinstance(sample, Stale):
            stale = True
        else:
            continue
        if age is None or sample.age_seconds < age:
            age = sample.age_seconds
    get, fresh = values.get, values.keys()
    rate, errors, in_flight, cpu = get(_RATE), get(_ERRORS), get(_IN_FLIGHT), get(_CPU)
    if rate is not None and rate < 0.0:
        rate = 0.0
    if in_flight is not None and in_flight < 0.0:
        in_flight = 0.0
    if errors is not None and not 0.0 <= errors <= 1.0:
        errors = min(max(errors, 0.0), 1.0)
    full = _full(cpu, get(_UTILISATION), in_flight, slots)
    dark = rate is None if _RATE in signals else bool(signals) and not values
    facts = Facts(rate, full, errors, get(_LATENCY), in_flight, get(_MEMORY), cpu, age, dark, stale, fresh)
    # Most tell all that is defined, and always have.
    if len(values) < len(signals):
        facts.gaps = gaps_of(signals, known, fresh)
        facts.awaits = (_CPU in signals or _UTILISATION in signals) and not (_CPU in values or _UTILISATION in values)
    facts.told = known if known.issuperset(values) else known.union(values)
    return facts


def _full(cpu: float | None, own: float | None, in_flight: float | None, slots: int | None) -> float | None:
    """The fullest of what is known; None when idle."""
    if own is None and slots is not None and in_flight is not None:
        own = min(1.0, in_flight / slots)
    full = cpu if own is None else own if cpu is None or own >= cpu else cpu
    return full if full is not None and full >= LEAST_UTILISATION else None


def utilisation_of(instance: Instance, slots: int | None) -> float | None:
    """How full it is: CPU and the server's own word, or in-flight ÷ slots, whichever is more; None if idle."""
    return facts_of(instance, slots).utilisation


def rate_of(instance: Instance) -> float | None:
    """Its fresh request rate, requests/s; None when there is none."""
    return facts_of(instance, None).rate
