"""How far the routing loop is from swinging, and the gain that keeps it there.

A loop that moves weights by gain × elasticity on information that is D ticks old is d[k+1] = d[k] − g·e·d[k−D]. It is stable
exactly while g·e < 2 sin(π ÷ (2(2D + 1))), the classical bound for one delayed integrator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum, log, pi, sin

from controller.decide.facts import Facts
from controller.model.memory import Memory
from controller.model.plan import Stability

CLIENT_SECONDS = 1.0
"""From a publish until the last client follows it."""
THIN = 0.5
"""The margin that the gain keeps: half of what would swing."""
GAIN_LEAST = 0.1
LATENCY_ELASTICITY = 4.0
"""Of response time at utilisation 0.8, ρ ÷ (1 − ρ), for fleets that report no utilisation."""
FULLEST = 0.95
OLDEST_SECONDS = 1e6
"""Twelve days: beyond it one age is as bad as another, and the bound would end at 0."""
SWING_SMOOTHING = 0.2
SWINGING, CALM = 0.05, 0.02
"""Share of all weight to and fro per tick that halves the gain, and that lets it recover by a tenth."""
HERDING = 3.0
"""The first endpoint's traffic ÷ its weight that no balancing explains."""
HERDING_REQUESTS = 100.0


@dataclass(frozen=True, slots=True)
class Loop:
    """The loop in this tick.

    Args:
        delay_seconds: age of what a weight rests on, when clients follow it.
        horizon_seconds: how far ahead requests are spread: age of the samples, tick, delivery.
        rate: the fleet's requests/s; None when not all of it is known.
        backlog: requests inside the fleet; None likewise.
        utilisation: of the fleet, 0..1; None when not known.
        elasticity, gain: see `Stability`.
    """

    delay_seconds: float
    horizon_seconds: float
    rate: float | None
    backlog: float | None
    utilisation: float | None
    elasticity: float
    gain: float
    bound: float


def loop(facts: Mapping[str, Facts], interval: float, window: float, gain: float, *, little: bool) -> Loop:
    """What this tick's data say of the loop; `gain` is the most that is left after earlier swings."""
    seen = facts.values()
    ages = [min(f.age, OLDEST_SECONDS) for f in seen if f.age is not None]
    age = fsum(ages) / len(ages) if ages else 0.0
    delay = age + 0.5 * window + 0.5 * interval + CLIENT_SECONDS
    horizon = age + interval + CLIENT_SECONDS
    rates = [f.rate for f in seen if f.rate is not None]
    inside = [f.in_flight for f in seen if f.in_flight is not None]
    full = [f.utilisation for f in seen if f.utilisation is not None]
    rate = fsum(rates) if len(rates) == len(facts) and rates else None
    backlog = fsum(inside) if len(inside) == len(facts) and inside else None
    utilisation = min(fsum(full) / len(full), FULLEST) if full else None
    elasticity = LATENCY_ELASTICITY if little else _backlog_elasticity(rate, backlog, utilisation, horizon)
    bound = stability_bound(delay / interval)
    if elasticity > 0.0:
        gain = min(gain, max(THIN * bound / elasticity, GAIN_LEAST))
    return Loop(delay, horizon, rate, backlog, utilisation, elasticity, gain, bound)


def stability_bound(delay_ticks: float) -> float:
    """The gain × elasticity at which a loop with that many ticks of delay begins to swing for ever."""
    return 2.0 * sin(pi / (2.0 * (2.0 * delay_ticks + 1.0)))


def moves_of(standing: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """The relative change of each weight, as a logarithm; only of those that had one and have one."""
    return {
        name: log(weight / before)
        for name, weight in weights.items()
        if weight > 0.0 and (before := standing.get(name, 0.0)) > 0.0 and weight != before
    }


def swing_of(memory: Memory, weights: Mapping[str, float], moves: Mapping[str, float]) -> float:
    """The smoothed share of all weight that went back where it came from in this tick."""
    last = memory.moves.get
    back = fsum(
        weights[name] * min(abs(move), abs(before))
        for name, move in moves.items()
        if (before := last(name, 0.0)) * move < 0.0
    )
    return memory.swing + SWING_SMOOTHING * (back - memory.swing)


def next_gain(gain: float, swing: float) -> float:
    """Halved while the weights swing, and back by and by."""
    if swing > SWINGING:
        return max(GAIN_LEAST, 0.5 * gain)
    return min(1.0, 1.1 * gain) if swing < CALM else gain


def herding_of(facts: Mapping[str, Facts], standing: Mapping[str, float], window: float) -> float | None:
    """The first endpoint's share of the traffic over its weight; None with too little traffic or data, or no ranking."""
    rates = {name: f.rate for name, f in facts.items() if f.rate is not None}
    total = fsum(rates.values())
    if not len(facts) == len(rates) >= 2 or total * window < HERDING_REQUESTS or not standing:
        return None
    most = max(standing.values())
    first = min(name for name, weight in standing.items() if weight == most)
    if first not in rates or most <= 0.0:
        return None
    return rates[first] / total / most


def report(now: Loop, swing: float, herding: float | None) -> Stability:
    """What is exported, with what is wrong in words."""
    margin = now.gain * now.elasticity / now.bound
    findings = []
    if swing > SWINGING:
        findings.append(f"weights swing: {swing:.0%} of all weight goes to and fro per tick; gain {now.gain:.2g}")
    if margin > 1.0:
        findings.append(
            f"the data are {now.delay_seconds:.0f} s old when clients follow them: too old for this interval"
        )
    if herding is not None and herding > HERDING:
        findings.append(f"clients herd: the first endpoint gets {herding:.1f} times its weight of the requests")
    return Stability(
        delay_seconds=now.delay_seconds,
        elasticity=now.elasticity,
        gain=now.gain,
        margin=margin,
        swing=swing,
        herding=herding,
        findings=tuple(findings),
    )


def _backlog_elasticity(rate: float | None, backlog: float | None, utilisation: float | None, horizon: float) -> float:
    """Of water-filling: backlog ÷ requests to come, times how strongly a backlog follows the load, 1 ÷ (1 − ρ)."""
    if not rate or backlog is None:
        return 0.0
    return min(1.0, backlog / (rate * horizon)) / (1.0 - (0.5 if utilisation is None else utilisation))
