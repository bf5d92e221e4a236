"""The CPU brought to the span of the rate, so that one can be set against the other.

A CPU covers minutes, as kubelets are scraped seldom, and a rate the policy's window. While the load moves they belong to
different moments: their quotient, what a replica can serve, is too high on the way up, just when it is asked for, and too
low on the way down. The work of a request stays the same meanwhile, so the CPU of the rate's window is the CPU × the rate
there ÷ the mean rate over what the CPU covers, which the last ticks tell.

By how much the load moved is found over the fleet, of the same instances at every instant: one alone has too few requests
to tell a move from chance, and one that comes or goes is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import fsum
from typing import NamedTuple

from controller.decide.capacity import AGED_SHARE
from controller.decide.slo import LARGEST
from controller.model.memory import Memory, Rates
from controller.model.sample import Fresh, Signal
from controller.model.snapshot import Instance, ServiceSnapshot
from controller.policy.schema import Signals

DOUBT = 2.0
"""A move of so many standard deviations of what chance makes of it is believed by half."""
LEAST = 0.002
"""Moves below this are none: the samples stay as they are."""
MOST_PARTS = 10
"""A CPU of more windows than this is not brought anywhere: that many rates are not kept."""
GAP_WINDOWS = 1.5
"""Ticks further apart than so many windows are a gap."""
MOVES = 0.1
"""A rate that differs by more than this from its mean over what the CPU covers moves: one window holds no one load."""

_RATE, _CPU = Signal.RATE, Signal.CPU


class Aligned(NamedTuple):
    """A service whose CPU covers the rate's window.

    Args:
        service: as observed, but for the CPU.
        lately: the rates to remember.
        moves: whether the load is known to move so much that even one window does not hold one load.
    """

    service: ServiceSnapshot
    lately: Rates
    moves: bool


def align(signals: Signals, service: ServiceSnapshot, memory: Memory) -> Aligned:
    """The service with its CPU as of the rate's window, where the rates of the last ticks tell how to get there.

    On a partial answer, after a gap, or with a CPU that covers no more than the rate or too much, it stays as it is.

    Args:
        signals: what the rate and the CPU cover.
        service: as observed.
        memory: the rates of the last ticks, and who lacked one.
    """
    parts = round(signals.cpu_seconds / signals.window)
    if not 2 <= parts <= MOST_PARTS:
        return Aligned(service, (), moves=False)
    if service.metrics_problem is not None:
        return Aligned(service, memory.lately, moves=False)
    at, since = service.at, service.at - signals.cpu_seconds - signals.window
    known = (*(r for r in memory.lately if since <= r[0] < at), (at, _rates(service, memory, signals.window)))
    apart = (signals.cpu_seconds - signals.window) / (parts - 1)
    found = _rate_and_mean(known, [at - apart * n for n in range(parts)], GAP_WINDOWS * signals.window)
    if found is None:
        return Aligned(service, known, moves=False)
    rate, mean = found
    move = _believed(rate / mean - 1.0, (parts - 1.0) / (mean * signals.cpu_seconds))
    if abs(move) < LEAST:
        return Aligned(service, known, moves=False)
    fixed = tuple(_with_cpu(instance, 1.0 + move) for instance in service.instances)
    return Aligned(replace(service, instances=fixed), known, moves=abs(move) > MOVES)


def _rates(service: ServiceSnapshot, memory: Memory, window: float) -> dict[str, float]:
    """The rates that are whole: on time, of instances that serve, lacked none for a window, and are old enough for a CPU."""
    found = {}
    for instance in service.instances:
        sample = instance.signal(_RATE)
        if not isinstance(sample, Fresh) or not isinstance(instance.signal(_CPU), Fresh):
            continue
        if sample.age_seconds > AGED_SHARE * window:
            continue
        before = memory.instances.get(instance.name)
        dark = before is not None and before.dark_at is not None and service.at - before.dark_at < window
        if not dark and instance.ready is not False and not instance.terminating:
            found[instance.name] = min(max(sample.value, 0.0), LARGEST)
    return found


def _rate_and_mean(rates: Rates, instants: Sequence[float], most_apart: float) -> tuple[float, float] | None:
    """The rate now and its mean over the instants, requests/s, of the instances that have one all the time.

    None when the rates do not reach back to every instant, have a gap, or are too small to divide by.
    """
    first = max((n for n, (at, _) in enumerate(rates) if at <= instants[-1]), default=None)
    if first is None or any(b - a > most_apart for (a, _), (b, _) in pairwise(rates[first:])):
        return None
    used = rates[first:]
    same = set(used[0][1]).intersection(*(by_instance for _, by_instance in used[1:]))
    sums = [(at, fsum(by_instance[name] for name in same)) for at, by_instance in used]
    mean = fsum(_at(sums, instant) for instant in instants) / len(instants)
    return (sums[-1][1], mean) if mean > 1.0 / LARGEST else None


def _at(sums: Sequence[tuple[float, float]], at: float) -> float:
    """The rate at an instant, on the line between the two that are known around it."""
    for (before, low), (after, high) in pairwise(sums):
        if at <= after:
            return low + (high - low) * (at - before) / (after - before)
    return sums[-1][1]


def _believed(move: float, variance: float) -> float:
    """As much of a move as stands out of what chance makes of so many independent requests."""
    square = move * move
    return move * square / (square + DOUBT * DOUBT * variance) if square > 0.0 else 0.0


def _with_cpu(instance: Instance, factor: float) -> Instance:
    cpu = instance.signal(_CPU)
    if not isinstance(cpu, Fresh):
        return instance
    # More than a replica has it cannot have used.
    value = min(cpu.value * factor, max(cpu.value, 1.0))
    return replace(instance, signals={**instance.signals, _CPU: replace(cpu, value=value)})
