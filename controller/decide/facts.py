"""What the fresh samples of one tick say of one instance, looked up once. Anything not fresh is None."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from controller.decide.gaps import NONE, gaps_of
from controller.decide.slo import LARGEST
from controller.model.sample import Fresh, Signal, Stale
from controller.model.snapshot import Instance

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


NOTHING = Facts()


def facts_of(instance: Instance, slots: int | None, known: frozenset[Signal] = NONE) -> Facts:
    """The facts of one instance.

    Args:
        instance: as observed.
        slots: requests that it serves at once, if the policy says so: then in-flight ÷ slots stands in for a
            utilisation of the server's own.
        known: the signals that it has ever told.
    """
    values: dict[Signal, float] = {}
    age: float | None = None
    stale = False
    for signal, sample in instance.signals.items():
        if isinstance(sample, Fresh):
            values[signal] = min(sample.value, LARGEST)
        elif isinstance(sample, Stale):
            stale = True
        else:
            continue
        if age is None or sample.age_seconds < age:
            age = sample.age_seconds
    get = values.get
    rate, errors, in_flight, own = get(Signal.RATE), get(Signal.ERRORS), get(Signal.IN_FLIGHT), get(Signal.UTILISATION)
    if own is None and slots is not None and in_flight is not None:
        own = min(1.0, in_flight / slots)
    cpu = get(Signal.CPU)
    full = cpu if own is None else own if cpu is None else max(own, cpu)
    signals = instance.signals
    return Facts(
        rate=None if rate is None else max(rate, 0.0),
        utilisation=full if full is not None and full >= LEAST_UTILISATION else None,
        errors=None if errors is None else min(max(errors, 0.0), 1.0),
        latency=get(Signal.LATENCY),
        in_flight=None if in_flight is None else max(in_flight, 0.0),
        memory=get(Signal.MEMORY),
        cpu=cpu,
        age=age,
        dark=rate is None if Signal.RATE in signals else bool(signals) and not values,
        stale=stale,
        fresh=values.keys(),
        gaps=gaps_of(signals, known, values.keys()),
    )


def utilisation_of(instance: Instance, slots: int | None) -> float | None:
    """How full it is: CPU and the server's own word, or in-flight ÷ slots, whichever is more; None if idle."""
    return facts_of(instance, slots).utilisation


def rate_of(instance: Instance) -> float | None:
    """Its fresh request rate, requests/s; None when there is none."""
    return facts_of(instance, None).rate
