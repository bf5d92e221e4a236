"""What this tick's samples say of the service level, and how far to trust them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from controller.decide.gaps import gaps_of
from controller.model.memory import InstanceMemory
from controller.model.sample import Fresh, Signal, fresh_value, last_value
from controller.model.snapshot import Instance, ServiceSnapshot, Unknown
from controller.policy.schema import Slo

LARGEST = 1e12
"""Values are cut here, so that sums of absurd samples stay finite."""


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """The fleet's service level at one instant.

    Args:
        latency: seconds at the SLO's quantile, weighted by rate over the instances with a fresh sample; None when idle.
        errors: failed share of the requests, weighted likewise.
        slow: why the response time breaks the SLO, in words; None when it does not or is not known.
        failing: likewise for errors.
        doubts: why the fleet's response time and size are not wholly known; empty when they are. They forbid lowering a number.
        gaps: likewise for every other signal: what an instance told before and does not tell now.
    """

    latency: float | None
    errors: float | None
    slow: str | None
    failing: str | None
    doubts: tuple[str, ...]
    gaps: tuple[str, ...] = ()

    @property
    def unsure(self) -> tuple[str, ...]:
        """Everything that forbids lowering a number now; empty when the view is whole and fresh."""
        return (*self.doubts, *self.gaps)

    @property
    def breach(self) -> str | None:
        """Why the SLO is broken, in words; None when it is kept or not known."""
        return self.slow or self.failing


def measure(
    slo: Slo,
    service: ServiceSnapshot,
    suspects: frozenset[str] = frozenset(),
    memories: Mapping[str, InstanceMemory] | None = None,
) -> ServiceLevel:
    """The fleet's latency and errors against the SLO, from fresh samples only.

    `suspects` are slow or failing for reasons of their own, and hand their requests to others: what they do to the level is
    cured by routing, and lowering the limit would only punish the rest. `memories` say what each instance has ever told.

    A quantile of a fleet cannot be had from its instances' quantiles; their mean weighted by rate lies between the best
    and the worst and moves with the traffic, which is enough to steer by.
    """
    serving = [i for i in service.instances if i.ready is not False and not i.terminating]
    if service.metrics_problem is not None:
        return ServiceLevel(None, None, None, None, _doubts(service, serving))
    usual = [i for i in serving if i.name not in suspects] or serving
    latency = _weighted((latency_of(i), _rate(i)) for i in usual)
    errors = _weighted((fresh_value(i.signal(Signal.ERRORS)), _rate(i)) for i in usual)
    slow = failing = None
    if latency is not None and latency > slo.latency:
        slow = f"p{slo.quantile * 100:g} {latency:.3g} s is over the SLO {slo.latency:g} s"
    if errors is not None and errors > slo.errors:
        failing = f"errors {errors:.2%} are over the SLO {slo.errors:.2%}"
    gaps = _gaps(serving, memories or {})
    return ServiceLevel(latency, errors, slow, failing, _doubts(service, serving), gaps)


def latency_of(instance: Instance) -> float | None:
    """Its fresh response time at the SLO's quantile, else its fresh mean (never above that quantile by much), else None."""
    quantile = fresh_value(instance.signal(Signal.LATENCY_QUANTILE))
    return quantile if quantile is not None else fresh_value(instance.signal(Signal.LATENCY))


def _doubts(service: ServiceSnapshot, serving: list[Instance]) -> tuple[str, ...]:
    doubts = []
    if service.metrics_problem is not None:
        doubts.append(f"metrics: {service.metrics_problem}")
    if not service.instances_complete:
        doubts.append("not every instance is known")
    if not serving:
        doubts.append("no serving instance is known")
    dark = sorted(i.name for i in serving if latency_of(i) is None and not _idle(i))
    if dark:
        doubts.append(f"no fresh response time from {_some(dark)}")
    if isinstance(service.queue, Unknown):
        doubts.append(f"queue: {service.queue.reason}")
    return tuple(doubts)


def _gaps(serving: list[Instance], memories: Mapping[str, InstanceMemory]) -> tuple[str, ...]:
    """One line per signal. A missing response time is a doubt of its own already."""
    missing: dict[Signal, list[str]] = {}
    for instance in serving:
        memory = memories.get(instance.name)
        if memory is None:
            continue
        fresh = {signal for signal, sample in instance.signals.items() if isinstance(sample, Fresh)}
        gaps = gaps_of(instance.signals, memory.known, fresh)
        if latency_of(instance) is None:
            gaps -= {Signal.LATENCY}
        for signal in gaps:
            missing.setdefault(signal, []).append(instance.name)
    return tuple(f"no fresh {signal.value} from {_some(sorted(missing[signal]))}" for signal in sorted(missing))


def _idle(instance: Instance) -> bool:
    rate = fresh_value(instance.signal(Signal.RATE))
    return rate is not None and rate <= 0.0


def _rate(instance: Instance) -> float | None:
    return last_value(instance.signal(Signal.RATE))


def _weighted(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    known = [(v, r) for v, r in pairs if v is not None]
    rates = [min(max(r, 0.0), LARGEST) for _, r in known if r is not None]
    typical = fsum(rates) / len(rates) if rates else 1.0
    weighted = [(min(max(v, 0.0), LARGEST), min(max(typical if r is None else r, 0.0), LARGEST)) for v, r in known]
    total = fsum(r for _, r in weighted)
    return fsum(v * r for v, r in weighted) / total if total > 0.0 else None


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
