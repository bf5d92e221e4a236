"""The floor from forecast: seasons that have earned their say."""

from dataclasses import replace
from math import inf, nan, sin

import pytest
from decide_world import hpa, instance, policy, scale, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.decide.floors.forecast import GROWTH_MOST, forecast, study
from controller.model.history import RateHistory
from controller.model.memory import InstanceMemory, Memory
from controller.model.sample import Signal
from controller.model.snapshot import Known, NotAsked, Unknown
from controller.model.traffic import Arrivals

STEP, END, LEAD = 300.0, 1_774_000_200.0, 195.0
HOUR, DAY, WEEK = 12, 288, 2016


def history(rate, days=14, **fields):
    """`rate` by the step's number, whose last one ends at END."""
    return RateHistory(END, STEP, tuple(rate(n) for n in range(days * DAY)), **fields)


def noise(n):
    return 1.0 + 0.02 * sin(12.9898 * n * n)


def jump(period, at, size=1.8):
    return lambda n: 100.0 * noise(n) * (size if (n - at) % period < 3 else 1.0)


def foreseen(past, steps_later=0):
    return forecast(past, study(past, LEAD, None), END + STEP * (steps_later + 0.5))


@pytest.mark.parametrize(
    ("period", "name"),
    [pytest.param(HOUR, "hour", id="jobs on the hour"), pytest.param(DAY, "day", id="a daily report")],
)
def test_a_season_is_foreseen_before_it_comes(period, name):
    past = history(jump(period, at=5))
    learnt = study(past, LEAD, None)
    assert learnt.season == name
    assert learnt.skill > 0.05
    steps_to_the_jump = (5 - len(past.rates)) % period
    assert foreseen(past, steps_to_the_jump).growth == pytest.approx(1.8, rel=0.1), "the step in which it comes"
    assert foreseen(past, steps_to_the_jump - 1).growth == pytest.approx(1.8, rel=0.1), "one step ahead"
    assert foreseen(past, steps_to_the_jump - 3).growth < 1.1, "long before"
    assert f"{name} season" in foreseen(past).words


def test_a_week_is_tried_when_there_are_two_of_them():
    def monday(n):
        return 100.0 * noise(n) * (2.0 if n % WEEK < 3 and n >= 0 else 1.0)

    assert study(history(monday, days=13), LEAD, None).season != "week"
    shifted = history(lambda n: monday(n + 3 * DAY), days=21)
    assert study(shifted, LEAD, None).season in {"week", "day", "hour"}


def test_without_a_season_it_abstains_and_says_why():
    past = history(lambda n: 100.0 * (1.0 + 0.3 * sin(78.233 * n * n)))
    found = foreseen(past)
    assert found.growth is None
    assert found.words.startswith("abstains: the best is no good: ")
    assert "loss" in found.words
    assert "coverage" in found.words


@pytest.mark.parametrize(
    "past",
    [
        pytest.param(history(lambda _: 100.0, days=1), id="one day"),
        pytest.param(history(lambda _: None), id="nothing known"),
        pytest.param(history(lambda _: 0.0), id="always idle"),
        pytest.param(history(lambda _: nan), id="not numbers"),
        pytest.param(history(lambda _: -5.0), id="negative"),
        pytest.param(RateHistory(END, STEP, ()), id="empty"),
    ],
)
def test_too_little_abstains(past):
    assert foreseen(past).growth is None
    assert foreseen(past).words.startswith("abstains: ")


def test_gaps_are_passed_over():
    whole = jump(HOUR, at=5)
    holes = history(lambda n: None if n % 97 < 9 else whole(n))
    assert foreseen(holes, (4 - len(holes.rates)) % HOUR).growth == pytest.approx(1.8, rel=0.1)


def test_an_old_history_says_how_old_it_is_and_still_serves():
    past = history(jump(HOUR, at=5), problem="no answer within 30 s")
    found = foreseen(past, 24 + (4 - len(past.rates)) % HOUR)
    assert found.growth == pytest.approx(1.8, rel=0.1)
    assert "min old: no answer within 30 s" in found.words


def test_a_holiday_scales_with_its_own_level():
    def quiet_today(n):
        return jump(HOUR, at=5)(n) * (0.3 if n >= 13 * DAY else 1.0)

    assert foreseen(history(quiet_today), 4).growth <= 2.0, "a growth, not last week's level"


def test_the_same_history_is_studied_once():
    past = history(jump(HOUR, at=5))
    learnt = study(past, LEAD, None)
    assert study(past, LEAD, learnt) is learnt
    assert study(replace(past, ended_at=END + STEP), LEAD, learnt) is not learnt


def test_only_what_lay_before_is_used_for_the_score():
    """A season that begins on the last day has no cycle to be foreseen from on its first."""
    past = history(lambda n: 100.0 * noise(n) * (3.0 if n >= 14 * DAY - 3 else 1.0))
    assert study(past, LEAD, None).skill <= 0.05


def rules(**forecast_section):
    return policy(
        scaling={"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 40}, "max": {"floor": 40, "ceiling": 40},
                 "steps": {"replicas": 40}, "demand": {}, "forecast": forecast_section}
    )  # fmt: skip


FLEET = [instance(n, rate=25.0, cpu=0.5) for n in "abcd"]
MEMORY = Memory(
    instances={n: InstanceMemory(uid=f"uid-{n}", capacity=50.0, known=frozenset({Signal.CPU})) for n in "abcd"},
    arrivals=Arrivals(100.0, 0.0, 0.0, END),
    at=END,
    hpa_seen_at=0.0,
)


def plan(past, given=None, later=0):
    service = snapshot(FLEET, at=END + STEP * later + 15.0, hpa=hpa(2, 40), scale=scale(2))
    memory = replace(MEMORY, arrivals=replace(MEMORY.arrivals, at=service.at - 15.0))
    return decide(rules(**(given or {})), replace(service, history=past), memory)


def test_the_forecast_raises_min_and_says_so():
    past = history(jump(HOUR, at=5))
    decided, memory = plan(Known(past), later=(4 - len(past.rates)) % HOUR)
    assert decided.hpa.after.min_replicas == 5
    assert "with what is usual in its hour season, x 1.8" in decided.hpa.reason
    assert "hour season" in decided.hpa.reason
    assert decided.forecast.rate == pytest.approx(180.0, rel=0.1)
    assert decided.forecast.skill > 0.0
    assert decided.forecast.coverage > 0.8
    assert memory.forecast.season == "hour"


@pytest.mark.parametrize(
    ("past", "given", "words"),
    [
        pytest.param(Unknown("refused"), {}, "abstains: the history is not known: refused", id="unknown"),
        pytest.param(NotAsked(), {}, "abstains: the history is not known: it was not read", id="not asked"),
        pytest.param(Known(history(jump(HOUR, at=5))), {"enabled": False}, None, id="switched off"),
    ],
)
def test_without_a_history_demand_alone_counts(past, given, words):
    decided, _ = plan(past, given)
    assert decided.hpa.after.min_replicas == 3
    assert (decided.forecast.words if decided.forecast else None) == words


rates = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(0.0, 500.0)


@settings(deadline=None)
@given(st.lists(rates, max_size=40), st.integers(0, 20 * DAY), st.floats(-1e6, 1e7))
def test_whatever_the_history_the_growth_is_bounded_and_never_lowers(pattern, length, later):
    past = RateHistory(END, STEP, tuple(pattern[n % len(pattern)] if pattern else inf for n in range(length)))
    found = forecast(past, study(past, LEAD, None), END + later)
    assert found.growth is None or 1.0 <= found.growth <= GROWTH_MOST
    assert found.words
