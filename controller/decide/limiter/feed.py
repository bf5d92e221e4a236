"""From snapshots to the limiter: one sample per stretch in which the limit stood still.

Rates look back over `signals.window`. A sample taken sooner after a move would hold the throughput of the old limit against
the requests in flight of the new one, and a fall would look like a fast service. So the limiter is asked once per window plus
one tick, and at once only for what needs no rate: instances that came or went, and memory.
"""

from __future__ import annotations

from dataclasses import replace
from math import fsum

from controller.decide.limiter.limiter import MEMORY_CUTS, SCARCE, update
from controller.decide.limiter.sample import LimiterRules, LimiterSample
from controller.model.limiter import LimiterMemory
from controller.model.sample import Signal, fresh_value
from controller.model.snapshot import Instance, Known, ServiceSnapshot


def resume(state: LimiterMemory | None, standing: int, ready: int | None) -> LimiterMemory:
    """The state to go on from: what stands counts, whoever set it (a rail, another replica, a process before this one)."""
    if state is None:
        return LimiterMemory(float(standing), ready=ready)
    if round(state.limit) == standing:
        return state
    return replace(state, limit=float(standing), home=None, since=None, in_flight_sum=0.0, ticks=0)


def tick(
    rules: LimiterRules,
    state: LimiterMemory,
    service: ServiceSnapshot,
    *,
    ready: int | None,
    latency: float | None,
    doubt: str,
    period_seconds: float,
) -> tuple[LimiterMemory, int, str]:
    """One tick of the outer loop: gathers until a period is over, then asks the limiter. As `limiter.update` returns.

    Args:
        latency: the fleet's response time at the SLO's quantile, seconds.
        doubt: why the view is not whole, in words; empty when it is.
        period_seconds: how long the limit must stand before its effect can be read.
    """
    serving = [i for i in service.instances if i.ready is not False and not i.terminating]
    in_flight, memory = _in_flight(service, serving), fullest_memory(serving)
    moved = ready is not None and state.ready is not None and ready != state.ready
    scarce = memory is not None and memory >= SCARCE and state.memory_cuts < MEMORY_CUTS
    since = service.at if state.since is None else state.since
    if not (moved or scarce):
        if in_flight is not None:
            state = replace(state, in_flight_sum=state.in_flight_sum + in_flight, ticks=state.ticks + 1)
        if service.at - since < period_seconds:
            limit = round(rules.clamp(state.limit))
            return replace(state, since=since), limit, ""
    mean = state.in_flight_sum / state.ticks if state.ticks else None
    sample = LimiterSample(mean, _total(serving, Signal.RATE), latency, memory, ready, doubt)
    after, limit, why = update(rules, state, sample)
    return replace(after, since=service.at, in_flight_sum=0.0, ticks=0), limit, why


def _in_flight(service: ServiceSnapshot, serving: list[Instance]) -> float | None:
    """The queue's own count of leases, which is exact; without a queue, what the servers say."""
    if isinstance(service.queue, Known):
        return float(max(service.queue.value.in_flight, 0))
    return _total(serving, Signal.IN_FLIGHT)


def _total(serving: list[Instance], signal: Signal) -> float | None:
    values = [fresh_value(i.signal(signal)) for i in serving]
    known = [v for v in values if v is not None]
    return fsum(known) if known and len(known) == len(values) else None


def fullest_memory(serving: list[Instance]) -> float | None:
    """Of the fullest instance, ratio of its limit; None when none says."""
    known = [v for i in serving if (v := fresh_value(i.signal(Signal.MEMORY))) is not None]
    return max(known, default=None)
