"""The floor from forecast: by how much the rate rose, at this point of the season, in the cycles before.

A season is an hour (jobs that start on the hour), a day or a week. For each of its cycles in the history, the growth is
the highest rate from this point to the end of the warm-up ÷ the rate of the step before it; a quantile of those growths ×
today's rate in that step is the forecast. So today's level scales it by itself, and a day far from its season (a holiday)
does not inherit the season's level.

Two quantiles are asked for. The high one is a floor by itself. The usual one goes into demand's own forecast, beside the
trend, where it gets demand's margin and is judged with it: what comes every hour is then no surprise that widens the
margin for all the rest of it.

A forecast has to earn its say. Each season is tried on the last days of the history, always from what lay before, and its
pinball loss is compared with that of one growth for all times, which knows no season. The best one speaks, if it is
better than that and covers nearly as much as its quantile says; else the forecast abstains.

Seasons are plain multiples of an hour, not wall-clock days: the service's users need no one time zone. After a clock
change the quantile over days before and after it raises the floor at both hours for a while, never lowers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, fsum, isfinite

from controller.decide.floors.arrivals import today
from controller.model.history import RateHistory
from controller.model.memory import Memory
from controller.model.plan import ForecastView
from controller.model.snapshot import Known, ServiceSnapshot, Unknown
from controller.model.traffic import ForecastMemory
from controller.policy.schema import Scaling

QUANTILE = 0.9
USUAL = 0.5
"""The quantile that is the usual growth."""
TRIED_SECONDS = 3 * 86400.0
"""The last part of the history, on which the seasons are tried."""
LEAST_TRIED = 100
SHORT_OF = 0.1
"""By how much less than its quantile a season's coverage may be."""
GROWTH_MOST = 4.0
"""No forecast is more than so many times the rate now."""


@dataclass(frozen=True, slots=True)
class Season:
    """A period, how many of its cycles count at most, and how many it takes."""

    name: str
    period_seconds: float
    most: int
    least: int


SEASONS = (
    Season("hour", 3600.0, 24, 6),
    Season("day", 86400.0, 14, 2),
    Season("week", 604800.0, 4, 2),
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """By how much the rate may grow within the time ahead.

    Args:
        growth: of today's rate, a ratio of at least 1; None when the forecast abstains.
        words: the season with its figures, or why it abstains.
        usual: the usual growth, likewise; 1 when the forecast abstains.
        usual_words: which that is; empty when the forecast abstains.
    """

    growth: float | None
    words: str
    usual: float = 1.0
    usual_words: str = ""


def foresee(
    rules: Scaling, service: ServiceSnapshot, now: Memory, lead_seconds: float
) -> tuple[Forecast | None, ForecastView | None, ForecastMemory | None]:
    """The forecast that the policy asks for, the same for people to see, and what to remember of it."""
    if rules.forecast is None or not rules.forecast.enabled:
        return None, None, None
    if not isinstance(service.history, Known):
        why = service.history.reason if isinstance(service.history, Unknown) else "it was not read"
        found = Forecast(None, f"abstains: the history is not known: {why}")
        return found, ForecastView(None, "", None, None, found.words), now.forecast
    history = service.history.value
    learnt = study(history, lead_seconds, now.forecast)
    found = forecast(history, learnt, service.at)
    rate = None if found.growth is None or now.arrivals is None else found.growth * today(now.arrivals)
    skill, coverage = (learnt.skill, learnt.coverage) if learnt.season else (None, None)
    return found, ForecastView(rate, learnt.season, skill, coverage, found.words), learnt


def study(history: RateHistory, lead_seconds: float, before: ForecastMemory | None) -> ForecastMemory:
    """What the history teaches; `before` is returned when it is of the same history."""
    known = (history.ended_at, len(history.rates), lead_seconds)
    if before is not None and before.known == known:
        return before
    growths = _growths(history, lead_seconds)
    tried = _tried(growths, history)
    if len(tried) < LEAST_TRIED:
        return ForecastMemory(known, growths, "", 0.0, 0.0, "the history is too short or too full of gaps")
    level = _quantile(sorted(g for g in growths if g is not None))
    bases = {index: history.rates[index - 1] or 0.0 for index in tried}
    naive = _loss([(bases[i], level, growths[i] or 0.0) for i in tried])
    best = ForecastMemory(known, growths, "", 0.0, 0.0, "no season has enough cycles")
    for season in SEASONS:
        found = [(bases[i], g, growths[i] or 0.0) for i in tried if (g := _at(growths, i, season, history)) is not None]
        if len(found) < LEAST_TRIED:
            continue
        plain = naive if len(found) == len(tried) else _loss([(b, level, came) for b, _, came in found])
        skill = 1.0 - _loss(found) / plain if plain > 0.0 else 0.0
        coverage = sum(came <= g for _, g, came in found) / len(found)
        if not best.season or skill > best.skill:
            best = ForecastMemory(known, growths, season.name, skill, coverage, "")
    return best


def forecast(history: RateHistory, learnt: ForecastMemory, at: float) -> Forecast:
    """The growth ahead of that instant, seconds since the epoch, by the best season; or why there is none."""
    if not learnt.season:
        return Forecast(None, f"abstains: {learnt.why}{_age(history, at)}")
    figures = (
        f"{learnt.season} season, loss {_percent(learnt.skill)} than without season, coverage {learnt.coverage:.0%}"
    )
    if learnt.skill <= 0.0 or learnt.coverage < QUANTILE - SHORT_OF:
        return Forecast(None, f"abstains: the best is no good: {figures}{_age(history, at)}")
    season = next(s for s in SEASONS if s.name == learnt.season)
    index = len(history.rates) + int((at - history.ended_at) // history.step_seconds)
    seen = _seen(learnt.growths, index, season, history)
    if not seen:
        return Forecast(None, f"abstains: too few cycles know this time: {figures}{_age(history, at)}")
    growth, usual = (min(max(g, 1.0), GROWTH_MOST) for g in (_quantile(seen), _quantile(seen, USUAL)))
    words = f"{QUANTILE:.0%} quantile of its {season.name} season x {growth:.3g}: {figures}{_age(history, at)}"
    return Forecast(growth, words, usual, f"what is usual in its {season.name} season, x {usual:.3g}")


def usual_growth(service: ServiceSnapshot, learnt: ForecastMemory | None) -> float:
    """By how much today's rate usually grows within the time ahead, as far as has been learnt by now; 1 when the forecast abstains."""
    if learnt is None or not isinstance(service.history, Known):
        return 1.0
    return forecast(service.history.value, learnt, service.at).usual


def step_index(history: RateHistory, at: float) -> int:
    """In which step of the history's, counted since the epoch, that instant lies."""
    return int((at - history.ended_at % history.step_seconds) // history.step_seconds)


def _growths(history: RateHistory, lead_seconds: float) -> tuple[float | None, ...]:
    """For each step: the highest rate from it to the end of the time ahead ÷ the rate of the step before."""
    ahead = max(1, ceil(lead_seconds / history.step_seconds))
    rates = [r if r is not None and isfinite(r) and r >= 0.0 else None for r in history.rates]
    found: list[float | None] = [None]
    for index, (base, first) in enumerate(pairwise(rates), start=1):
        known = [r for r in rates[index : index + ahead + 1] if r is not None]
        whole = base is not None and base > 0.0 and first is not None and len(known) == ahead + 1
        found.append(max(known) / base if whole and base else None)
    return tuple(found)


def _tried(growths: Sequence[float | None], history: RateHistory) -> list[int]:
    first = max(1, len(growths) - int(TRIED_SECONDS / history.step_seconds))
    return [index for index in range(first, len(growths)) if growths[index] is not None]


def _at(growths: Sequence[float | None], index: int, season: Season, history: RateHistory) -> float | None:
    """The quantile of the growths at that step of the cycles before; None where too few are known."""
    seen = _seen(growths, index, season, history)
    return _quantile(seen) if seen else None


def _seen(growths: Sequence[float | None], index: int, season: Season, history: RateHistory) -> list[float]:
    """The growths at that step of the cycles before, in order; empty where too few are known."""
    period = round(season.period_seconds / history.step_seconds)
    seen = [
        g
        for cycle in range(1, season.most + 1)
        if 0 < (at := index - cycle * period) < len(growths) and (g := growths[at]) is not None
    ]
    return sorted(seen) if len(seen) >= season.least else []


def _quantile(ordered: Sequence[float], share: float = QUANTILE) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _loss(triples: Sequence[tuple[float, float, float]]) -> float:
    """Mean pinball loss at the quantile, requests/s, of (rate, growth forecast, growth that came)."""
    misses = [base * (came - foreseen) for base, foreseen, came in triples]
    return fsum(QUANTILE * m if m > 0.0 else (QUANTILE - 1.0) * m for m in misses) / max(len(misses), 1)


def _percent(skill: float) -> str:
    return f"{abs(skill):.0%} {'lower' if skill > 0.0 else 'higher'}"


def _age(history: RateHistory, at: float) -> str:
    if not history.problem:
        return ""
    return f" (history {max(at - history.ended_at, 0.0) / 60.0:.0f} min old: {history.problem})"
