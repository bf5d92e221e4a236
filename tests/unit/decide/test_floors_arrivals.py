"""The request rate as a series that learns how wrong its forecasts are."""

import random
from math import inf, isfinite, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.floors.arrivals import (
    FIRST_MARGIN,
    FIRST_NOISE,
    LEAST_MARGIN,
    MOST_MARGIN,
    NOISE_MOST,
    PENDING,
    ahead,
    first,
    follow,
    lessons,
    noise,
    poisson,
    trust,
)
from controller.model.traffic import Arrivals, Lessons, Pending

SURE = {"lead_seconds": 180.0, "window_seconds": 60.0, "tolerated": 0.005}


def series(rates, every=15.0, before=None, at=1000.0, **given):
    for tick, rate in enumerate(rates):
        before = follow(before, rate, at + every * tick, **{**SURE, **given})
    return before


def needed(arrivals):
    return ahead(arrivals, 180.0) + arrivals.margin * noise(arrivals, 60.0)


def test_a_steady_rate_has_no_trend_and_its_noise_fades():
    found = series([40.0] * 2000)
    assert (found.rate, found.trend) == (40.0, 0.0)
    assert found.noise < 0.01 * FIRST_NOISE * 40.0
    assert found.margin < FIRST_MARGIN
    assert found.missed == 0.0


def test_a_full_fleet_keeps_the_trend_that_it_hides():
    rising = series([40.0 + 2.0 * n for n in range(40)])
    full = {"full": True, "before": rising, "at": rising.at + 15.0}
    assert series([110.0] * 4, **full).rate == pytest.approx(rising.rate + 4 * 15.0 * rising.trend, rel=0.01)
    assert series([110.0] * 400, **full).rate < 1.5 * 110.0 + 1.0, "what is not seen has a bound"
    steady = series([40.0] * 100)
    assert series([40.0], full=True, before=steady, at=steady.at + 15.0).rate > 40.0, "or no trend to go by"


def test_a_ramp_is_followed():
    found = series([40.0 + 1.5 * tick for tick in range(200)])
    assert found.rate == pytest.approx(40.0 + 1.5 * 199, rel=0.02)
    assert found.trend == pytest.approx(0.1, rel=0.05)
    assert ahead(found, 180.0) == pytest.approx(40.0 + 1.5 * 211, rel=0.02)


def test_a_falling_trend_is_not_believed():
    found = series([400.0 - tick for tick in range(100)])
    assert found.trend < 0.0
    assert found.rate <= ahead(found, 180.0) < 1.02 * found.rate, "the slow line comes down a little later"


def test_traffic_that_falls_needs_no_more_room():
    steady = series([400.0] * 60)
    found = series([400.0 - 2.0 * tick for tick in range(100)], before=steady, at=steady.at + 15.0)
    assert found.noise <= steady.noise
    assert found.margin <= steady.margin


def test_a_gap_starts_the_series_anew_and_keeps_what_it_learned():
    old = Arrivals(
        40.0, 5.0, 3.0, 1000.0, margin=4.0, pending=(Pending(1180.0, 40.0, 3.0, 15.0),), promised=9.0, kept=3.0
    )
    found = follow(old, 10.0, 1300.0, **SURE)
    assert (found.rate, found.trend, found.pending) == (10.0, 0.0, ())
    assert (found.margin, trust(found)) == (4.0, trust(old))
    assert found.noise == pytest.approx(3.0 / 40.0 * 10.0), "as a share of the rate"
    assert first(10.0, 0.0, 60.0).noise == max(FIRST_NOISE * 10.0, poisson(10.0, 60.0))


@pytest.mark.parametrize(
    ("rate", "noise_seen", "ratio"),
    [
        pytest.param(100.0, 4.0, 0.04, id="a share of the rate"),
        pytest.param(100.0, 500.0, NOISE_MOST, id="no more than all of it"),
        pytest.param(0.05, 0.03, FIRST_NOISE, id="a quiet night is chance, and tells nothing of the day"),
        pytest.param(0.0, 0.0, FIRST_NOISE, id="no traffic at all"),
    ],
)
def test_noise_is_handed_on_as_a_share(rate, noise_seen, ratio):
    old = Arrivals(rate, 0.0, noise_seen, 1000.0, margin=4.0, promised=9.0, kept=3.0)
    assert lessons(old, 60.0) == Lessons(4.0, pytest.approx(ratio), 9.0, 3.0)


def test_the_same_instant_teaches_nothing():
    found = series([40.0] * 20)
    assert follow(found, 90.0, found.at, **SURE) is found


def test_no_forecast_is_judged_twice_nor_before_its_time():
    found = series([40.0] * 12)
    assert found.judged == 0.0
    assert len(found.pending) == 11, "the first tick begins the series"
    assert series([40.0] * 14, before=found, at=found.at + 15.0).judged == pytest.approx(14 * 15.0, abs=31.0)


def test_long_leads_and_short_ticks_keep_few_forecasts():
    assert len(series([40.0] * 5000, every=1.0, lead_seconds=21600.0).pending) <= PENDING + 1


def test_a_late_forecast_is_dropped_unjudged():
    before = Arrivals(
        40.0, 0.0, 1.0, 1000.0, pending=(Pending(900.0, 1.0, 1.0, 15.0), Pending(1010.0, 40.0, 1.0, 15.0))
    )
    assert follow(before, 40.0, 1015.0, **SURE).judged == 15.0


@pytest.mark.parametrize("tolerated", [0.05, 0.01])
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(lambda rng: max(0.0, rng.gauss(100.0, 10.0)), id="noise"),
        pytest.param(lambda rng: 100.0 + 20.0 * rng.expovariate(1.0), id="heavy tail"),
    ],
)
def test_the_margin_comes_to_hold_as_often_as_it_should(shape, tolerated):
    rng = random.Random(7)
    learnt = series([shape(rng) for _ in range(6000)], tolerated=tolerated)
    later = series([shape(rng) for _ in range(12000)], before=learnt, at=learnt.at + 15.0, tolerated=tolerated)
    assert (later.missed - learnt.missed) / (later.judged - learnt.judged) == pytest.approx(tolerated, rel=0.35)


def test_what_came_is_judged_by_the_work_where_that_is_more():
    light, heavy = series([40.0] * 60), series([40.0] * 60, judged_by=50.0)
    assert heavy.rate == light.rate
    assert heavy.noise > light.noise
    assert series([40.0] * 60, judged_by=10.0) == light


def humps(count, minutes=2.0):
    """Traffic that rises by a third within a minute, for no longer than these minutes, and is as it was for ten."""
    up = [40.0 + 13.0 * min(1.0, n / 4.0) for n in range(int(4 * minutes))]
    return [rate for _ in range(count) for rate in [*up, *[40.0] * 40]]


def test_trends_that_do_not_last_lose_their_trust():
    assert trust(series([40.0])) == 1.0
    found = series(humps(8))
    assert trust(found) < 0.5
    rising = [40.0, 45.0, 50.0]
    fresh = series(rising, before=series([40.0] * len(humps(8))), at=found.at + 15.0)
    wary = series(rising, before=found, at=found.at + 15.0)
    assert ahead(wary, 180.0) - wary.rate < 0.6 * (ahead(fresh, 180.0) - fresh.rate)


def test_trends_that_come_true_keep_their_trust_and_regain_it():
    up = [40.0 + 1.5 * n for n in range(80)]
    ramps = [rate for _ in range(4) for rate in [*up, *reversed(up)]]
    assert trust(series(ramps)) > 0.9
    distrusted = series(humps(8))
    assert trust(series(ramps, before=distrusted, at=distrusted.at + 15.0)) > trust(distrusted) + 0.3


def test_trust_does_not_depend_on_how_much_traffic_there_is():
    small, large = series(humps(4)), series([1000.0 * rate for rate in humps(4)])
    assert trust(large) == pytest.approx(trust(small), abs=0.1), "but for chance, which is less of a large rate"


wild = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0.0, 1e4)


@given(st.lists(st.tuples(st.floats(-20.0, 400.0), wild, st.none() | wild), min_size=1, max_size=60))
def test_whatever_comes_the_series_stays_finite_and_bounded(ticks):
    found, at = None, 0.0
    for elapsed, rate, work in ticks:
        at += elapsed
        found = follow(found, rate, at, judged_by=work, **SURE)
        assert isfinite(found.rate)
        assert found.rate >= 0.0
        assert isfinite(needed(found))
        assert needed(found) >= 0.0
        assert LEAST_MARGIN <= found.margin <= MOST_MARGIN
        assert 0.0 <= found.missed <= found.judged
        assert 0.0 <= trust(found) <= 1.0
        assert isfinite(found.promised)
        assert len(found.pending) <= 40


@pytest.mark.parametrize("rate", [nan, inf, -inf])
def test_what_is_no_number_changes_nothing(rate):
    found = series([40.0] * 20)
    assert follow(found, rate, found.at + 15.0, **SURE) is found


@given(st.lists(st.floats(0.0, 1e4), min_size=2, max_size=40), st.floats(1.0, 10.0))
def test_twice_the_traffic_asks_for_twice_as_much_beyond_chance(rates, scale):
    small, large = series(rates), series([scale * r for r in rates])
    assert large.rate == pytest.approx(scale * small.rate, rel=1e-6, abs=1e-6)
    assert large.trend == pytest.approx(scale * small.trend, rel=1e-6, abs=1e-6)
    assert ahead(large, 180.0) >= scale * ahead(small, 180.0) * (1.0 - 1e-6) - 1e-6, "chance hides less of a trend"


def test_a_ripple_is_not_carried_forward_and_a_ramp_is():
    rng = random.Random(3)
    ripple, ramp = [], []
    for _ in range(400):
        before = series([rng.gauss(40.0, 2.0) for _ in range(60)])
        ripple.append(ahead(before, 180.0) - before.rate)
        rises = [rng.gauss(40.0 + 0.8 * tick, 2.0) for tick in range(12)]
        ramp.append(ahead(series(rises, before=before, at=before.at + 15.0), 180.0) / (40.0 + 0.8 * 23.0))
    assert sum(ripple) / len(ripple) < 0.01 * 40.0, "a hundredth of the rate, on average"
    assert 0.9 < sum(ramp) / len(ramp) < 1.1


wild_noise = st.floats(0.0, 1e6) | st.just(5e-324)


@given(st.floats(-1e6, 1e6) | st.just(1e-157), wild_noise, st.floats(0.0, 21600.0))
def test_no_more_of_a_trend_is_believed_than_there_is(trend, doubt, lead):
    found = ahead(Arrivals(40.0, trend, 0.0, 0.0, trend_noise=doubt), lead)
    assert 40.0 <= found <= 40.0 + max(trend, 0.0) * lead * (1.0 + 1e-9)
    assert found >= ahead(Arrivals(40.0, trend, 0.0, 0.0, trend_noise=2.0 * doubt), lead)
