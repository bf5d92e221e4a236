"""What usually comes at this time, as part of demand's own forecast."""

from dataclasses import replace
from math import inf, nan

import pytest
from decide_world import hpa, instance, policy, scale, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.decide.floors import demand
from controller.decide.floors.arrivals import ahead, expected, follow, noise, stepped, today
from controller.decide.floors.forecast import forecast, step_index, study, usual_growth
from controller.model.history import RateHistory
from controller.model.memory import InstanceMemory, Memory
from controller.model.sample import Signal
from controller.model.snapshot import Known, NotAsked
from controller.model.traffic import Arrivals, StepMean

STEP, END, HOUR = 300.0, 1_774_000_200.0, 3600.0
LEAD, WINDOW, EVERY = 180.0, 60.0, 15.0


@pytest.mark.parametrize(
    ("before", "index", "after"),
    [
        pytest.param(None, 7, StepMean(7, 30.0, 1), id="the first"),
        pytest.param(StepMean(7, 50.0, 2, 40.0), 7, StepMean(7, 80.0, 3, 40.0), id="one more in the same step"),
        pytest.param(StepMean(7, 50.0, 2, 40.0), 8, StepMean(8, 30.0, 1, 25.0), id="the next step"),
        pytest.param(StepMean(7, 50.0, 2, 40.0), 9, StepMean(9, 30.0, 1), id="a step was missed"),
        pytest.param(StepMean(7, 50.0, 2, 40.0), 6, StepMean(6, 30.0, 1), id="the clock went back"),
    ],
)
def test_the_means_by_steps(before, index, after):
    assert stepped(before, 30.0, index) == after


@pytest.mark.parametrize(
    ("step", "counts"),
    [
        pytest.param(None, 100.0, id="no history: now"),
        pytest.param(StepMean(7, 100.0, 1), 100.0, id="no step before: now"),
        pytest.param(StepMean(7, 100.0, 1, 60.0), 60.0, id="a rise that has come does not rise once more"),
        pytest.param(StepMean(7, 100.0, 1, 150.0), 100.0, id="what is gone is not expected back"),
    ],
)
def test_what_a_growth_counts_from(step, counts):
    assert today(Arrivals(100.0, 0.0, 0.0, END, step=step)) == counts


def jobs(at):
    """Requests/s: a job that starts each hour at its tenth minute, at full size within two, and runs for ten."""
    since = at % HOUR - 600.0
    return 100.0 * (1.0 + 0.6 * min(max(since / 120.0, 0.0), 1.0) * (since < 600.0))


def usual(at):
    """By how much it grows until the warm-up is over, from the mean of the step before."""
    base = sum(jobs(STEP * (at // STEP - 1) + 15.0 * n) for n in range(20)) / 20.0
    return max(1.0, max(jobs(at + 15.0 * n) for n in range(13)) / base)


def hours(count, growth):
    """(margin in requests/s while nothing happens, share of forecasts that were too low) after so many hours of jobs."""
    found = None
    for n in range(int(count * HOUR / EVERY)):
        at = END + EVERY * n
        step = stepped(None if found is None else found.step, jobs(at), int(at // STEP))
        found = follow(
            found, jobs(at), at,
            lead_seconds=LEAD, window_seconds=WINDOW, tolerated=0.001, usual_growth=growth(at), step=step,
        )  # fmt: skip
    return found.margin * noise(found, WINDOW), found.missed / found.judged


def test_what_comes_every_hour_widens_no_margin_once_it_is_expected():
    blind, blindly_missed = hours(48, lambda _: 1.0)
    seeing, missed = hours(48, usual)
    assert seeing < 0.5 * blind
    assert missed < 0.5 * blindly_missed


SERIES = st.floats(0.0, 1e6)


@given(SERIES, st.floats(-1e3, 1e3), st.none() | SERIES, st.floats(1.0, 4.0))
def test_a_season_only_adds_to_what_the_trend_says(rate, trend, before, growth):
    arrivals = Arrivals(rate, trend, 0.0, END, step=StepMean(1, rate, 1, before))
    assert expected(arrivals, LEAD, growth) >= ahead(arrivals, LEAD)
    assert expected(arrivals, LEAD, growth) <= max(ahead(arrivals, LEAD), growth * rate)
    assert expected(arrivals, LEAD, 1.0) == pytest.approx(max(ahead(arrivals, LEAD), today(arrivals)))


def history(rates, ended_at=END):
    return RateHistory(ended_at, STEP, tuple(rates))


def by_step(days, size=1.8):
    """A step of the hour in which the rate is so much higher, in steps; the next one to come is that one."""
    return [100.0 * (size if n % 12 == 0 else 1.0) * (1.0 + 0.001 * (n % 7)) for n in range(days * 288)]


@settings(deadline=None)
@given(st.lists(st.floats(1.0, 500.0), min_size=30, max_size=60), st.integers(0, 400))
def test_the_usual_growth_is_no_more_than_the_high_one(pattern, later):
    past = history([pattern[n % len(pattern)] for n in range(14 * 288)])
    found = forecast(past, study(past, LEAD, None), END + STEP * later)
    assert found.growth is None or 1.0 <= found.usual <= found.growth
    assert found.growth is not None or found.usual == 1.0


def test_without_a_history_nothing_is_usual():
    past = history(by_step(14))
    learnt = study(past, LEAD, None)
    service = replace(snapshot([], at=END + 1.0), history=Known(past))
    assert usual_growth(service, learnt) == pytest.approx(1.8, rel=0.02)
    assert usual_growth(service, None) == 1.0
    assert usual_growth(replace(service, history=NotAsked()), learnt) == 1.0


@pytest.mark.parametrize(
    ("rates", "ended_at", "before"),
    [
        pytest.param([80.0, 90.0], END, 90.0, id="the last step of the history is the one before"),
        pytest.param([80.0, 90.0], END - STEP, None, id="an older one is not"),
        pytest.param([80.0, None], END, None, id="not known"),
        pytest.param([80.0, nan], END, None, id="no number"),
        pytest.param([80.0, inf], END, None, id="infinite"),
        pytest.param([80.0, -1.0], END, None, id="negative"),
        pytest.param([], END, None, id="an empty history"),
    ],
)
def test_a_restart_knows_the_step_before_from_the_history(rates, ended_at, before):
    arrivals = Arrivals(100.0, 0.0, 0.0, END)
    service = snapshot([instance("a", rate=100.0, cpu=0.5)], at=END + 15.0)
    found = demand.observe(
        replace(service, history=Known(history(rates, ended_at))), arrivals, {},
        load=0.5, lead_seconds=LEAD, window_seconds=WINDOW, quantile=0.95,
    )  # fmt: skip
    assert found.step == StepMean(step_index(history(rates), END + 15.0), 100.0, 1, before)


FLEET = ("a", "b")


def plan(rate_now, before, later=15.0):
    """What is decided so long after END, where each hour's first step, which begins then, is 1.8 times the others."""
    service = snapshot(
        [instance(n, rate=rate_now / 2, cpu=rate_now / 200.0) for n in FLEET], at=END + later, hpa=hpa(2, 40), scale=scale(2)
    )  # fmt: skip
    past = history(by_step(14))
    arrivals = Arrivals(
        rate_now, 0.0, 0.0, service.at - 15.0, step=StepMean(step_index(past, service.at) - 1, before, 1)
    )
    memory = Memory(
        instances={n: InstanceMemory(uid=f"uid-{n}", capacity=100.0, known=frozenset({Signal.CPU})) for n in FLEET},
        arrivals=arrivals,
        at=service.at - 15.0,
        hpa_seen_at=0.0,
    )
    rules = policy(
        scaling={
            "hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 30}, "max": {"floor": 2, "ceiling": 40},
            "demand": {}, "forecast": {}, "steps": {"replicas": 20, "percent": 100},
        }
    )  # fmt: skip
    return decide(rules, replace(service, history=Known(past)), memory)[0]


def test_a_rise_that_has_come_is_not_expected_a_second_time():
    assert plan(100.0, before=100.0).forecast.rate == pytest.approx(180.0, rel=0.03)
    assert plan(180.0, before=100.0).forecast.rate == pytest.approx(180.0, rel=0.03)
    assert plan(180.0, before=100.0).hpa is None, "nothing more is asked for"


def test_the_reason_says_what_is_usual():
    reason = plan(100.0, before=100.0).hpa.reason
    assert "100/s arrive, 1" in reason
    assert "/s with what is usual in its hour season, x 1.8, noise and 0 waiting" in reason
