"""The ranking as it is published: one row per instance with its state and the reason for its weight."""

from __future__ import annotations

from collections.abc import Mapping

from controller.decide.facts import NOTHING, Facts
from controller.decide.members import Member
from controller.model.plan import Change, EndpointState, RankedEndpoint
from controller.model.sample import Signal, last_value
from controller.model.snapshot import ServiceSnapshot

VISIBLE = 0.01
"""Relative change of a weight that is worth a line in the plan."""


def rows_of(
    fleet: tuple[Member, ...],
    service: ServiceSnapshot,
    facts: Mapping[str, Facts],
    *,
    weights: Mapping[str, float],
    reasons: Mapping[str, str],
    shed: Mapping[str, str],
) -> tuple[RankedEndpoint, ...]:
    """Heaviest first, then by name."""
    listed = [m for m in fleet if m.memory.endpoint is not None]
    # The fleet comes by name, and sorting keeps that order among equals.
    listed.sort(key=lambda m: -round(weights.get(m.name, 0.0), 12))
    rows = []
    # The usual case first, without a call: this runs for each of 20,000 instances.
    plain, serving = service.metrics_problem is None, EndpointState.SERVING
    for position, m in enumerate(listed, start=1):
        name, f = m.name, facts.get(m.name, NOTHING)
        if plain and not f.dark and m.seen is not None and name in reasons and name not in shed:
            state, why = serving, reasons[name]
        else:
            state, why = _state(m, reasons, shed, f, service)
        latency, cpu, memory = f.latency, f.cpu, f.memory
        if f.stale:
            latency = _last(m, Signal.LATENCY) if latency is None else latency
            cpu = _last(m, Signal.CPU) if cpu is None else cpu
            memory = _last(m, Signal.MEMORY) if memory is None else memory
        weight, endpoint = weights.get(name, 0.0), m.memory.endpoint or ""
        rows.append(RankedEndpoint(endpoint, name, position, weight, state, f.age, latency, cpu, memory, why))
    return tuple(rows)


def changes_of(standing: Mapping[str, float], rows: tuple[RankedEndpoint, ...]) -> tuple[Change, ...]:
    """The weights that moved visibly against the ranking that stands."""
    changes = []
    stands = standing.get
    for row in rows:
        before, weight = stands(row.instance, 0.0), row.weight
        if weight != before and abs(weight - before) >= VISIBLE * before:
            changes.append(Change(f"weight {row.instance}", before or None, weight, row.why))
    listed = {row.instance for row in rows}
    gone = sorted(name for name, weight in standing.items() if weight > 0.0 and name not in listed)
    return (*changes, *(Change(f"weight {name}", standing[name], None, "its pod is gone") for name in gone))


def _state(
    m: Member, reasons: Mapping[str, str], shed: Mapping[str, str], f: Facts, service: ServiceSnapshot
) -> tuple[EndpointState, str]:
    if m.memory.routable is False:
        draining = m.seen is not None and m.seen.drain is not None
        terminating = m.seen is not None and m.seen.terminating
        served = m.memory.capacity is not None or m.memory.latency is not None
        state = EndpointState.EJECTED if terminating or draining or served else EndpointState.WARMING
        unready = "draining: scale-in is to take it" if draining else "its pod is not ready"
        return state, "its pod is terminating" if terminating else unready
    if service.metrics_problem is not None:
        return EndpointState.STALE, f"last weight kept: {service.metrics_problem}"
    if m.seen is None:
        return EndpointState.STALE, "last weight kept: not listed now, and not known to be gone"
    if m.name in shed:
        return EndpointState.SERVING, shed[m.name]
    # An instance that never had data is new, not stale.
    if f.dark and (m.memory.capacity is not None or f.stale):
        return EndpointState.STALE, f"last weight kept: {reasons[m.name]}"
    return EndpointState.SERVING, reasons[m.name]


def _last(m: Member, signal: Signal) -> float | None:
    return None if m.seen is None or signal not in m.seen.signals else last_value(m.seen.signals[signal])
