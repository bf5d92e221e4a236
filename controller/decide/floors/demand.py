"""The floor from demand: (arrival rate + backlog ÷ drain time) ÷ what one replica may serve.

The rate is smoothed, carried forward by its trend over the warm-up time, and given a margin for how wrong such forecasts
have been, because a replica asked for now serves only then. Replicas that are on their way count by themselves, as the
floor is about how many there should be in all. What comes of it is held steady, so that the fleet does not turn with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil, exp, fsum

from controller.decide.floors import arrivals as arrivals_series
from controller.decide.floors import trend
from controller.decide.floors.floor import Floor, highest
from controller.decide.floors.forecast import Forecast, step_index
from controller.decide.floors.steady import WAIT_WARM_UPS, settle
from controller.decide.knee_utilisation import UtilisationKnee
from controller.decide.slo import LARGEST
from controller.decide.warmup import WarmUp
from controller.model.memory import InstanceMemory
from controller.model.sample import Signal, fresh_value
from controller.model.snapshot import Known, ServiceSnapshot, Unknown
from controller.model.traffic import Arrivals, Lessons, Standing, StepMean
from controller.policy.schema import Scaling

MOST = 1_000_000.0
"""Replicas are cut here; the policy's ceiling is far below."""
FULL = 0.99
"""Mean utilisation from which a fleet hides how much more would come."""
CAPACITY_SECONDS = 300.0
"""Time constant of the mean capacity."""
CHANGED = 0.1
"""A capacity that is lower by more than this share is another one, not noise."""
TRUSTED = 0.95
"""From so much trust in trends on, nothing is said of it."""
TOLERATED = 0.02
"""A forecast may be too low for this part of the time that the SLO allows to be missed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What demand asks for.

    Args:
        floor: the least replicas; None when nothing is known to reckon them from.
        doubt: why the floor may be too low, so that nothing should be lowered on it; empty when it is whole.
    """

    floor: Floor | None
    doubt: str = ""


def observe(
    service: ServiceSnapshot,
    before: Arrivals | None,
    instances: Mapping[str, InstanceMemory],
    *,
    load: float | None,
    lead_seconds: float,
    window_seconds: float,
    quantile: float,
    slots: int | None = None,
    usual_growth: float = 1.0,
    learned: Lessons | None = None,
) -> Arrivals | None:
    """The arrivals with this tick in them; as they were when this tick's rate is not wholly known.

    Args:
        service: as observed.
        before: the arrivals so far.
        instances: what is remembered of them, for their capacity.
        load: the fleet's utilisations added up; None when not known.
        lead_seconds: how far ahead to look.
        window_seconds: what a rate is a mean over.
        quantile: share of the requests that shall keep the SLO.
        slots: requests that an instance serves at once, if the policy says so.
        usual_growth: what the season makes of today's rate by then, a ratio.
        learned: what an earlier run has learned, for arrivals that begin here.
    """
    rate, doubt = _arriving(service)
    if doubt or rate is None:
        return before
    capacity = _capacity(instances, slots)
    came = None if load is None or capacity is None else load * capacity
    serving = sum(i.ready is not False and not i.terminating for i in service.instances)
    full = load is not None and load >= FULL * serving > 0.0
    if full and came is not None:
        came *= trend.HIDDEN
    after = arrivals_series.follow(
        before,
        rate,
        service.at,
        lead_seconds=_ahead(lead_seconds, window_seconds),
        window_seconds=window_seconds,
        tolerated=TOLERATED * (1.0 - quantile),
        judged_by=came,
        full=full,
        usual_growth=usual_growth,
        step=_stepped(before, rate, service),
        learned=learned,
    )
    return replace(after, capacity=_smoothed(before, capacity, service.at))


def _stepped(before: Arrivals | None, rate: float, service: ServiceSnapshot) -> StepMean | None:
    """The rate by steps of the history; None without one. The last step that the history has counts where none was seen whole."""
    if not isinstance(service.history, Known):
        return None
    history = service.history.value
    index = step_index(history, service.at)
    after = arrivals_series.stepped(None if before is None else before.step, rate, index)
    last = history.rates[-1] if history.rates and index == step_index(history, history.ended_at) else None
    return replace(after, before=last) if after.before is None and last is not None and 0.0 <= last < LARGEST else after


def _ahead(lead_seconds: float, window_seconds: float) -> float:
    """How far beyond the last rates a forecast must look: a mean over a window is half of it old."""
    return lead_seconds + window_seconds / 2.0


def _smoothed(before: Arrivals | None, capacity: float | None, at: float) -> float | None:
    """What one replica serves, without the ups and downs of single ticks; a change beyond those counts at once.

    The work of a request differs from tick to tick for all instances alike, so their mean is no steadier than one of them.
    """
    old = None if before is None else before.capacity
    if before is None or old is None or old <= 0.0 or capacity is None or capacity < (1.0 - CHANGED) * old:
        return old if capacity is None else capacity
    elapsed = min(max(at - before.at, 0.0), CAPACITY_SECONDS)
    return old + (1.0 - exp(-elapsed / CAPACITY_SECONDS)) * (capacity - old)


def _capacity(instances: Mapping[str, InstanceMemory], slots: int | None) -> float | None:
    """Requests/s that one replica serves when full, the mean of those that are known.

    Of an instance that never told how full it is the estimate rests on response times. That compares instances, and says
    nothing of how many are needed.
    """
    known = [m.capacity for m in instances.values() if m.capacity is not None and m.capacity > 0.0 and _told(m, slots)]
    return fsum(known) / len(known) if known else None


def _told(memory: InstanceMemory, slots: int | None) -> bool:
    """Whether it ever told how full it is."""
    known = memory.known
    return Signal.CPU in known or Signal.UTILISATION in known or (slots is not None and Signal.IN_FLIGHT in known)


def ask(
    rules: Scaling,
    service: ServiceSnapshot,
    arrivals: Arrivals | None,
    instances: Mapping[str, InstanceMemory],
    knee: UtilisationKnee,
    *,
    lead: WarmUp,
    window_seconds: float,
    foreseen: Forecast | None = None,
    slots: int | None = None,
) -> Asked:
    """The floor that demand and forecast ask for, where the policy wants them.

    `knee`: how full a replica may be, where the policy does not say; `lead`: how far ahead to look; `window_seconds`:
    what a rate is a mean over; `foreseen`: how far the rate may grow; `slots`: requests that an instance serves at once, if the
    policy says so.
    """
    if rules.demand is None and foreseen is None:
        return Asked(None)
    _, doubt = _arriving(service)
    capacity = arrivals.capacity if arrivals is not None and arrivals.capacity else _capacity(instances, slots)
    if capacity is None:
        blind = any(m.capacity for m in instances.values())
        return Asked(None, "no instance tells how full it is" if blind else "no capacity is known yet")
    if arrivals is None:
        return Asked(None, doubt or "no request rate is known yet")
    given = None if rules.demand is None else rules.demand.utilisation
    per_replica = capacity * (knee.utilisation if given is None else given)
    serves = f"one replica serves {per_replica:.3g}/s"
    serves += f" at {knee.utilisation:.0%} full ({knee.why})" if given is None else ""
    floors = []
    if rules.demand is not None:
        waiting = _backlog(service)
        spare = arrivals.margin * arrivals_series.noise(arrivals, window_seconds)
        expected, why = _expected(arrivals, _ahead(lead.seconds, window_seconds), foreseen)
        load = expected + spare + waiting / rules.demand.drain
        words = f"{arrivals.rate:.3g}/s arrive"
        if load > 1.01 * arrivals.rate:
            words += f", {load:.3g}/s with {why}, noise and {waiting} waiting, {lead.words}"
        floors.append(_floor(load, per_replica, f"{words}; {serves}"))
    if foreseen is not None and foreseen.growth is not None:
        load = max(arrivals.rate, arrivals_series.today(arrivals) * foreseen.growth)
        floors.append(_floor(load, per_replica, f"forecast {load:.3g}/s, {foreseen.words}; {serves}"))
    return Asked(highest(floors), doubt)


def _expected(arrivals: Arrivals, lead_seconds: float, foreseen: Forecast | None) -> tuple[float, str]:
    """Requests/s forecast for so long ahead, without margin, and what makes them more than now."""
    found = arrivals_series.expected(arrivals, lead_seconds, 1.0 if foreseen is None else foreseen.usual)
    if foreseen is not None and found > arrivals_series.ahead(arrivals, lead_seconds):
        return found, foreseen.usual_words
    trust = arrivals_series.trust(arrivals)
    return found, f"trend ({trust:.0%} of it trusted)" if trust < TRUSTED else "trend"


def noise_ratio(arrivals: Arrivals | None, window_seconds: float) -> float:
    """By how much forecasts of the rate err, as a share of it; 0 where there is none."""
    if arrivals is None or arrivals.rate <= 0.0:
        return 0.0
    return arrivals_series.noise(arrivals, window_seconds) / arrivals.rate


def hold(
    asked: Asked,
    before: Standing | None,
    service: ServiceSnapshot,
    *,
    warm_up_seconds: float,
    noise_ratio: float = 0.0,
) -> tuple[Asked, Standing | None]:
    """What is asked for, held steady, and what to remember of it. While in doubt the floor that stands is not lowered."""
    if asked.floor is None:
        return asked, before
    running = service.scale.value.spec_replicas if isinstance(service.scale, Known) and service.scale.value else None
    if asked.doubt and before is not None:
        after = replace(before, replicas=max(before.replicas, asked.floor.replicas))
    else:
        after = settle(
            before,
            asked.floor.replicas,
            service.at,
            warm_up_seconds=warm_up_seconds,
            noise_ratio=noise_ratio,
            running=running,
        )
    if after.replicas <= asked.floor.replicas:
        return asked, after
    wait = WAIT_WARM_UPS * warm_up_seconds
    words = f"{asked.floor.reason}; {after.replicas} stay until clearly less has been enough for {wait:.0f} s"
    return replace(asked, floor=Floor(after.replicas, words)), after


def _floor(load: float, per_replica: float, words: str) -> Floor:
    replicas = ceil(min(load / per_replica, MOST)) if per_replica > 0.0 else 0
    return Floor(replicas, f"{words}: {replicas} needed")


def _arriving(service: ServiceSnapshot) -> tuple[float | None, str]:
    """Requests/s that the fleet finishes, and what is missing from the sum."""
    if service.metrics_problem is not None:
        return None, f"metrics: {service.metrics_problem}"
    if not service.instances_complete:
        return None, "not every instance is known"
    serving = [i for i in service.instances if i.ready is not False and not i.terminating]
    rates = {i.name: fresh_value(i.signal(Signal.RATE)) for i in serving}
    dark = sorted(name for name, rate in rates.items() if rate is None)
    if dark:
        return None, f"no fresh request rate from {', '.join(dark[:3])}"
    if isinstance(service.queue, Unknown):
        return _sum(rates.values()), f"queue: {service.queue.reason}"
    return (_sum(rates.values()), "") if rates else (None, "no serving instance is known")


def _sum(rates: Iterable[float | None]) -> float:
    return fsum(min(max(rate, 0.0), LARGEST) for rate in rates if rate is not None)


def _backlog(service: ServiceSnapshot) -> int:
    return max(service.queue.value.depth, 0) if isinstance(service.queue, Known) else 0
