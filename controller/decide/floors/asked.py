"""What demand and forecast ask for in one tick: the two floors put together, held steady."""

from __future__ import annotations

from dataclasses import replace

from controller.decide import knee_utilisation, warmup
from controller.decide.floors import demand, forecast
from controller.decide.floors.demand import Asked
from controller.model.memory import Memory
from controller.model.plan import ForecastView
from controller.model.snapshot import ServiceSnapshot
from controller.model.traffic import Arrivals
from controller.policy.schema import LoadPolicy


def arrivals(policy: LoadPolicy, service: ServiceSnapshot, memory: Memory, load: float | None) -> Arrivals | None:
    """The request rate with this tick in it. `load`: the fleet's utilisations added up; None when not wholly known."""
    spec = policy.spec
    if spec.scaling is None:
        return None
    return demand.observe(
        service,
        memory.arrivals,
        memory.instances,
        load=load,
        lead_seconds=warmup.warm_up(spec.scaling.warmUp, memory.warmups).seconds + spec.interval,
        window_seconds=spec.signals.window,
        quantile=spec.slo.quantile,
        slots=_slots(policy),
        usual_growth=forecast.usual_growth(service, memory.forecast),
        learned=memory.lessons,
    )


def ask(policy: LoadPolicy, service: ServiceSnapshot, now: Memory) -> tuple[Asked, ForecastView | None, Memory]:
    """The floor, what the forecast in it says, and the memory with both."""
    rules = policy.spec.scaling
    if rules is None:
        return Asked(None), None, now
    lead, knee = warmup.warm_up(rules.warmUp, now.warmups), knee_utilisation.estimate(now.fullness)
    foreseen, view, learnt = forecast.foresee(rules, service, now, lead.seconds + policy.spec.interval)
    asked = demand.ask(
        rules,
        service,
        now.arrivals,
        now.instances,
        knee,
        lead=lead,
        window_seconds=policy.spec.signals.window,
        foreseen=foreseen,
        slots=_slots(policy),
    )
    asked, standing = demand.hold(
        asked,
        now.standing,
        service,
        warm_up_seconds=lead.seconds,
        noise_ratio=demand.noise_ratio(now.arrivals, policy.spec.signals.window),
    )
    return asked, view, replace(now, standing=standing, forecast=learnt)


def _slots(policy: LoadPolicy) -> int | None:
    return None if policy.spec.concurrency is None else policy.spec.concurrency.perInstance
