"""The floor from demand: (arrival rate + backlog ÷ drain time) ÷ what one replica may serve.

The rate is smoothed, carried forward by its trend over the warm-up time, and given a margin for its noise, because a
replica asked for now serves only then. A falling trend is not believed: it would take replicas away on a forecast.
Replicas that are on their way count by themselves, as the floor is about how many there should be in all.

Level and trend follow Holt's linear method with gains for uneven steps, 1 − exp(−Δt/τ).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, exp, fsum, isfinite

from controller.decide.facts import rate_of
from controller.decide.floors.floor import Floor
from controller.decide.knee_utilisation import UtilisationKnee
from controller.decide.warmup import WarmUp
from controller.model.memory import Arrivals, InstanceMemory
from controller.model.snapshot import Known, ServiceSnapshot, Unknown
from controller.policy.schema import Scaling

LEVEL_SECONDS = 60.0
TREND_SECONDS = 240.0
NOISE_SECONDS = 600.0
NOISE_MARGIN = 1.0
"""How many mean deviations of the rate to keep free."""
GAP_SECONDS = 300.0
"""After a gap as long as this the series starts anew."""
MOST = 1_000_000.0
"""Replicas are cut here; the policy's ceiling is far below."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What demand asks for.

    Args:
        floor: the least replicas; None when nothing is known to reckon them from.
        doubt: why the floor may be too low, so that nothing should be lowered on it; empty when it is whole.
    """

    floor: Floor | None
    doubt: str = ""


def observe(service: ServiceSnapshot, before: Arrivals | None) -> Arrivals | None:
    """The arrivals with this tick in them; as they were when this tick's rate is not wholly known."""
    rate, doubt = _arriving(service)
    if doubt or rate is None:
        return before
    if before is None or not 0.0 < service.at - before.at < GAP_SECONDS:
        return before if before is not None and before.at == service.at else Arrivals(rate, 0.0, 0.0, service.at)
    elapsed = service.at - before.at
    expected = before.rate + before.trend * elapsed
    error = rate - expected
    level = expected + _gain(elapsed, LEVEL_SECONDS) * error
    slope = (level - before.rate) / elapsed
    trend = before.trend + _gain(elapsed, TREND_SECONDS) * (slope - before.trend)
    noise = before.noise + _gain(elapsed, NOISE_SECONDS) * (abs(error) - before.noise)
    after = Arrivals(max(level, 0.0), trend, noise, service.at)
    return after if isfinite(after.rate + after.trend + after.noise) else before


def ask(
    rules: Scaling,
    service: ServiceSnapshot,
    arrivals: Arrivals | None,
    instances: Mapping[str, InstanceMemory],
    knee: UtilisationKnee,
    *,
    lead: WarmUp,
) -> Asked:
    """The floor that demand asks for, if the policy wants one.

    `knee`: how full a replica may be, where the policy does not say; `lead`: how far ahead to look.
    """
    if rules.demand is None:
        return Asked(None)
    _, doubt = _arriving(service)
    known = [m.capacity for m in instances.values() if m.capacity is not None and m.capacity > 0.0]
    if not known:
        return Asked(None, "no capacity is known yet")
    if arrivals is None:
        return Asked(None, doubt or "no request rate is known yet")
    return Asked(_floor(rules, service, arrivals, fsum(known) / len(known), knee, lead=lead), doubt)


def _floor(
    rules: Scaling,
    service: ServiceSnapshot,
    arrivals: Arrivals,
    capacity: float,
    knee: UtilisationKnee,
    *,
    lead: WarmUp,
) -> Floor:
    section = rules.demand
    assert section is not None  # noqa: S101  asked for by the caller
    ahead = arrivals.rate + max(arrivals.trend, 0.0) * lead.seconds
    waiting = _backlog(service)
    load = ahead + NOISE_MARGIN * arrivals.noise + waiting / section.drain
    per_replica = capacity * (knee.utilisation if section.utilisation is None else section.utilisation)
    replicas = ceil(min(load / per_replica, MOST)) if per_replica > 0.0 else 0
    full = "" if section.utilisation is not None else f" at {knee.utilisation:.0%} full ({knee.why})"
    words = f"{arrivals.rate:.3g}/s arrive"
    if load > 1.01 * arrivals.rate:
        words += f", {load:.3g}/s with trend, noise and {waiting} waiting, {lead.words}"
    return Floor(replicas, f"{words}; one replica serves {per_replica:.3g}/s{full}: {replicas} needed")


def _arriving(service: ServiceSnapshot) -> tuple[float | None, str]:
    """Requests/s that the fleet finishes, and what is missing from the sum."""
    if service.metrics_problem is not None:
        return None, f"metrics: {service.metrics_problem}"
    if not service.instances_complete:
        return None, "not every instance is known"
    rates = {i.name: rate_of(i) for i in service.instances if i.ready is not False and not i.terminating}
    dark = sorted(name for name, rate in rates.items() if rate is None)
    if dark:
        return None, f"no fresh request rate from {', '.join(dark[:3])}"
    if isinstance(service.queue, Unknown):
        return fsum(r for r in rates.values() if r is not None), f"queue: {service.queue.reason}"
    return (fsum(r for r in rates.values() if r is not None), "") if rates else (None, "no serving instance is known")


def _backlog(service: ServiceSnapshot) -> int:
    return max(service.queue.value.depth, 0) if isinstance(service.queue, Known) else 0


def _gain(elapsed: float, constant: float) -> float:
    return 1.0 - exp(-elapsed / constant)
