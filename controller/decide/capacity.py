"""How many requests per second each instance can serve: one estimate for all actuators.

Rate over utilisation is nearly independent of the load itself, so it stays true while the samples age; latency is not.
The form, rate ÷ (utilisation + penalty × errors), is that of gRPC's weighted round robin (proposal A58).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import fsum, log, sqrt
from statistics import median
from typing import NamedTuple

from controller.decide.facts import LEAST_UTILISATION, NOTHING, Facts
from controller.decide.gaps import MEASURED, usual
from controller.decide.members import Member
from controller.decide.slo import LARGEST
from controller.model.memory import InstanceMemory
from controller.model.sample import Signal

ERROR_PENALTY = 1.0
"""How much utilisation one failed request in one counts for."""
SMOOTHING = 0.3
"""Share of a new estimate that enters per tick."""
FAST = 0.7
"""The same for an estimate that differs by more than its noise explains: the instance itself has changed."""
SURPRISE = 3.0
"""How many standard errors are more than noise."""
LITTLE_SMOOTHING = 0.1
"""Share for estimates from response times, which rise with load and would swing if followed fast."""
LEAST_SAMPLES = 1.0
AGED_SHARE = 0.3
"""Share of the rate window beyond which a sample is late: a window holds at least four scrapes."""

AWAITED_SECONDS = 180.0
"""A utilisation may come so late after an instance began to serve: a CPU over two minutes, scraped up to a minute apart."""


class Capacity(NamedTuple):
    """Requests/s an instance can serve, and where the figure comes from. `measured` is False for a stand-in."""

    value: float
    why: str
    measured: bool


class Learnt(NamedTuple):
    """An estimate made in this tick: requests/s, and the number of requests that it rests on."""

    capacity: float
    samples: float


def is_little(facts: Mapping[str, Facts]) -> bool:
    """Whether nobody reports a utilisation.

    Then 1 ÷ response time compares the instances; that has another scale, so it never stands beside real capacities.
    """
    return all(f.utilisation is None for f in facts.values())


def learn(
    fleet: tuple[Member, ...], facts: Mapping[str, Facts], window: float, now: float, *, little: bool
) -> dict[str, Learnt]:
    """The estimates that this tick's samples make, by instance; who taught nothing is left out.

    A capacity is a quotient of figures that need not cover the same seconds. While a window runs empty or fills again they
    read too low at different times, so that the quotient is wrong in either direction: what was known before counts on.

    Args:
        fleet: the members with what is remembered of them.
        facts: by instance, of those that were observed.
        window: seconds that a rate covers.
        now: seconds since the epoch.
        little: whether Little's law stands in for utilisation.
    """
    learnt = {}
    told: frozenset[Signal] | None = None
    late = AGED_SHARE * window
    for m in fleet:
        f, before = facts.get(m.name, NOTHING), m.memory.capacity
        measured = _measure(f, little=little)
        if measured is None or f.rate is None:
            continue
        # On the scale of response times it would be remembered, and asked for replicas by, long after the utilisation has come.
        if little and f.awaits and _begins(m, now):
            continue
        # With a part missing the figure is too high: what was known counts on, and of a newcomer nothing is known.
        if f.gaps and not MEASURED.isdisjoint(f.gaps):
            continue
        if before is None:
            told = usual(f.fresh for f in facts.values()) if told is None else told
            if not told <= f.fresh:
                continue
        if before is None or not (
            _runs_empty(f, m.memory, late, window, now) or _refills(m.memory, measured, window, now)
        ):
            learnt[m.name] = _blend(m.memory, measured, f.rate, window, now, little=little)
    return learnt


def remember(
    fleet: tuple[Member, ...], facts: Mapping[str, Facts], learnt: Mapping[str, Learnt], now: float
) -> dict[str, InstanceMemory]:
    """The members' memories with the estimates in them."""
    memories = {}
    for m in fleet:
        f, memory = facts.get(m.name, NOTHING), m.memory
        if f.told and f.told != memory.known:
            memory = replace(memory, known=f.told)
        if f.dark:
            memory = replace(memory, dark_at=now)
        if (new := learnt.get(m.name)) is not None:
            memory = replace(memory, capacity=new.capacity, capacity_at=now, samples=new.samples)
        memories[m.name] = memory
    return memories


def estimate(memories: Mapping[str, InstanceMemory], now: float) -> dict[str, Capacity]:
    """Each instance's capacity: the last measured one, drawn to the fleet's median as far as it rests on few samples.

    How far is empirical Bayes: its noise² = capacity² ÷ samples, against the spread² of the fleet beyond its noise. A fleet of equals
    gets equal weights, an unequal one its differences. Nothing known of one: the median; of nobody: 1 for everybody.
    """
    known = {name: m.capacity for name, m in memories.items() if m.capacity is not None}
    middle = median(known.values()) if known else 0.0
    if middle <= 0.0:
        middle = fsum(known.values()) / len(known) if known else 0.0
    if not middle:
        return {name: Capacity(1.0, "no capacity is known yet: an equal share", False) for name in memories}
    # In units of the fleet's; cut, so that squares of absurd samples stay finite.
    ratios = {name: min(capacity / middle, LARGEST) for name, capacity in known.items()}
    noises = {name: _noise(ratio, memories[name].samples) for name, ratio in ratios.items()}
    spread = _spread(ratios.values(), noises.values())
    unknown = Capacity(middle, f"no data yet: the fleet's median {middle:.3g}/s", False)
    found = {}
    for name, m in memories.items():
        if m.capacity is None:
            found[name] = unknown
            continue
        value = middle + spread / (spread + noises[name]) * (m.capacity - middle)
        why = f"capacity {value:.3g}/s"
        if m.capacity_at is not None and m.capacity_at < now:
            why += f", measured {now - m.capacity_at:.0f} s ago"
        found[name] = Capacity(value, why, True)
    return found


def _begins(m: Member, now: float) -> bool:
    """Whether it began to serve so lately that its utilisation may still come."""
    stamps = (m.memory.serving_since, None if m.seen is None else m.seen.ready_at)
    return any(stamp is not None and abs(now - stamp) < AWAITED_SECONDS for stamp in stamps)  # clocks differ


def _runs_empty(f: Facts, memory: InstanceMemory, late_seconds: float, window: float, now: float) -> bool:
    """Whether the windows may be running empty: the samples are late, and something better was learnt not long ago.

    After a window without anything better the series goes on, as the window would be empty by now: it is scraped too
    seldom, and to learn from what there is, once in a window, is better than never.
    """
    if f.age is None or f.age <= late_seconds:
        return False
    return memory.capacity_at is not None and now - memory.capacity_at < window


def _refills(memory: InstanceMemory, measured: float, window: float, now: float) -> bool:
    """Whether the windows cover a gap that the estimate is older than.

    One made since rests on the same windows: it may rise as they fill, and not fall, as a rate reads too low until then.
    """
    if memory.dark_at is None or now - memory.dark_at >= window:
        return False
    since = memory.capacity_at is not None and memory.capacity_at > memory.dark_at
    return not since or (memory.capacity is not None and measured < memory.capacity)


def _measure(f: Facts, *, little: bool) -> float | None:
    full = f.utilisation
    if full is None and little and f.in_flight is not None and f.in_flight > LEAST_UTILISATION:
        full = f.in_flight
    if f.rate is None or f.rate <= 0.0 or full is None:
        return None
    # Unknown here only where it never was known, of nobody or not of most: a gap teaches nothing at all.
    errors = 0.0 if f.errors is None else f.errors
    # Only served requests count: a server that fails fast would otherwise look fast.
    return f.rate * (1.0 - errors) / (full + ERROR_PENALTY * errors)


def _blend(memory: InstanceMemory, measured: float, rate: float, window: float, now: float, *, little: bool) -> Learnt:
    inside = rate * window
    before = memory.capacity
    if before is None or before <= 0.0:
        return Learnt(measured, inside)
    share = LITTLE_SMOOTHING if little else SMOOTHING
    if not little and (measured <= 0.0 or abs(log(measured) - log(before)) * sqrt(inside) > SURPRISE):
        share = FAST
    elapsed = window if memory.capacity_at is None else min(max(now - memory.capacity_at, 0.0), window)
    samples = max(inside, (1.0 - share) * (memory.samples or 0.0) + rate * elapsed)
    return Learnt(before + share * (measured - before), samples)


def _spread(ratios: Collection[float], noises: Collection[float]) -> float:
    """Relative variance between the instances beyond what noise explains; at least a trace, to divide by."""
    if len(ratios) < 2:
        return 1.0
    far = fsum((ratio - 1.0) ** 2 for ratio in ratios) / (len(ratios) - 1)
    return max(far - fsum(noises) / len(noises), 1e-6)


def _noise(ratio: float, samples: float | None) -> float:
    """Relative variance of one estimate: a mean of n service times that spread as widely as they are long."""
    return 0.0 if samples is None else ratio * ratio / max(samples, LEAST_SAMPLES)
