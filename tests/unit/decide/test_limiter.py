"""The limiter alone: what it does with one sample, and what it must never do with any."""

from dataclasses import replace
from math import inf, isfinite, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.limiter.curve import cells_of, fit
from controller.decide.limiter.limiter import DOWN, MEMORY_CUTS, UP, update
from controller.decide.limiter.sample import LimiterRules, LimiterSample
from controller.model.limiter import LimiterMemory

RULES = LimiterRules(per_instance=5, least=2, most=200, slo_seconds=1.0)
STANDING = LimiterMemory(40.0, ready=4)
GOOD = LimiterSample(in_flight=40.0, throughput=80.0, latency=0.6, ready=4)


def fleet(limit, knee, base=0.5):
    """What a fleet with a sharp knee shows at this limit; the quantile is 1.2 times the mean."""
    throughput = min(limit, knee) / base
    return LimiterSample(float(limit), throughput, latency=1.2 * limit / throughput, memory=0.5, ready=4)


def closed(state, knee, periods, base=0.5):
    limits = []
    for period in range(periods):
        now = knee(period) if callable(knee) else knee
        state, limit, _ = update(RULES, state, fleet(round(state.limit), now, base))
        limits.append(limit)
    return state, limits


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(replace(GOOD, in_flight=None), id="no in-flight"),
        pytest.param(replace(GOOD, throughput=None), id="no throughput"),
        pytest.param(replace(GOOD, throughput=nan), id="NaN"),
        pytest.param(replace(GOOD, throughput=inf), id="infinite"),
        pytest.param(replace(GOOD, throughput=-3.0), id="counter reset"),
        pytest.param(replace(GOOD, in_flight=-1.0), id="negative in flight"),
        pytest.param(replace(GOOD, latency=nan), id="latency NaN"),
        pytest.param(replace(GOOD, throughput=0.0, latency=None), id="nothing finished, nobody says why"),
        pytest.param(replace(GOOD, throughput=1e300), id="absurd"),
        pytest.param(replace(GOOD, doubt="no fresh response time from b"), id="one instance missing"),
    ],
)
@pytest.mark.parametrize("limit", [2.0, 10.0, 20.0, 40.0, 150.0])
def test_without_data_it_is_held_then_led_to_the_default(sample, limit):
    state, first, why = update(RULES, LimiterMemory(limit, ready=4), sample)
    assert first == limit
    assert why.startswith("held: ")
    limits = [first]
    for _ in range(20):
        state, now, why = update(RULES, state, sample)
        limits.append(now)
    assert limits[-1] == 20
    assert why.startswith("to the default 20")
    assert max(limits) == max(limit, 20)
    assert limits == sorted(limits, reverse=limit > 20)


def test_without_data_and_without_a_count_of_instances_it_is_held():
    state = LimiterMemory(37.0)
    for _ in range(10):
        state, limit, _ = update(RULES, state, LimiterSample(None, None))
        assert limit == 37


def test_data_again_ends_the_way_to_the_default():
    state, _, _ = update(RULES, STANDING, replace(GOOD, throughput=None))
    state, _, _ = update(RULES, state, GOOD)
    assert state.missed == 0


@pytest.mark.parametrize(
    ("was", "ready", "expected"),
    [(4, 2, 20), (4, 3, 30), (4, 8, 80), (4, 40, 200), (4, 0, 2), (0, 3, 15)],
    ids=["half lost", "one lost", "doubled", "never above max", "none left", "back from none"],
)
def test_it_follows_the_instances_at_once(was, ready, expected):
    state = LimiterMemory(40.0, ready=was, knee=36.0)
    _, limit, why = update(RULES, state, replace(GOOD, ready=ready))
    assert limit == expected
    assert why == f"ready instances {was} -> {ready}"


def test_lost_instances_are_followed_even_in_doubt():
    _, limit, _ = update(RULES, STANDING, LimiterSample(None, None, ready=3, doubt="metrics: refused"))
    assert limit == 30


def test_scarce_memory_cuts_at_once_but_not_for_ever():
    state, limits = STANDING, []
    for _ in range(8):
        state, limit, why = update(RULES, state, LimiterSample(None, None, memory=0.97, ready=4, doubt="metrics"))
        limits.append(limit)
    assert limits[0] == 28
    assert limits[MEMORY_CUTS - 1] == round(40 * 0.7**MEMORY_CUTS)
    assert limits[MEMORY_CUTS] == limits[MEMORY_CUTS - 1]
    assert why.startswith("to the default")


def test_nothing_grows_until_memory_is_well_below():
    state, _, _ = update(RULES, STANDING, replace(GOOD, memory=0.96))
    for _ in range(5):
        before = state.limit
        state, _, _ = update(RULES, state, replace(fleet(round(state.limit), 150), memory=0.92))
        assert state.limit <= before
    for _ in range(12):
        state, _, _ = update(RULES, state, fleet(round(state.limit), 150))
    assert state.limit > 40


def test_it_finds_the_knee_from_below_and_stays():
    _, limits = closed(LimiterMemory(5.0, ready=4), 100, 80)
    assert all(80 <= limit <= 130 for limit in limits[20:])


def test_it_comes_down_from_an_overload():
    _, limits = closed(LimiterMemory(200.0, ready=4), 60, 60)
    assert max(limits[10:]) <= 1.4 * 60
    assert min(limits) >= 0.8 * 60


@pytest.mark.parametrize("settled", range(20, 44, 3))
def test_a_loss_of_more_than_half_is_answered_in_four_updates_wherever_the_limit_looks_just_then(settled):
    state, _ = closed(LimiterMemory(100.0, ready=4), 100, settled)
    _, limits = closed(state, 40, 20)
    assert limits[3] <= 1.3 * 40
    assert min(limits) >= 0.7 * 40


@pytest.mark.parametrize("settled", range(20, 44, 3))
def test_more_capacity_is_used_within_eight_updates(settled):
    state, _ = closed(LimiterMemory(40.0, ready=4), 40, settled)
    _, limits = closed(state, 100, 20)
    assert limits[7] >= 80
    assert max(limits) <= 100 * UP**2  # the step that throughput did not follow is the last
    assert limits[-1] <= 1.3 * 100


def test_it_leaves_a_limit_of_one():
    rules = replace(RULES, least=1)
    state = LimiterMemory(1.0, ready=4)
    for _ in range(30):
        state, limit, _ = update(rules, state, fleet(round(state.limit), 100))
    assert limit >= 80


def test_it_does_not_grow_while_the_application_is_the_limit():
    state, _ = closed(LimiterMemory(40.0, ready=4), 100, 30)
    stood = round(state.limit)
    for _ in range(240):
        state, limit, why = update(RULES, state, LimiterSample(10.0, 20.0, latency=0.6, ready=4))
        assert limit == stood
    assert "does not bind" in why


def test_everything_at_the_timeout_falls_to_the_floor():
    state, _ = closed(LimiterMemory(40.0, ready=4), 100, 30)
    for _ in range(40):
        n = float(round(state.limit))
        state, limit, _ = update(RULES, state, LimiterSample(n, n / 30.0, latency=30.0, ready=4))
    assert limit == RULES.least


def test_nothing_finishes_any_more():
    state, _ = closed(LimiterMemory(40.0, ready=4), 100, 30)
    _, limit, why = update(RULES, state, LimiterSample(state.limit, 0.0, latency=30.0, ready=4))
    assert limit <= round(state.limit * DOWN)
    assert "over the SLO" in why


def test_one_slow_period_is_no_reason_to_cut():
    state, _ = closed(LimiterMemory(40.0, ready=4), 100, 40)
    sample = fleet(round(state.limit), 100)
    _, limit, why = update(RULES, state, replace(sample, latency=5.0))
    assert limit > state.limit * DOWN
    assert "SLO" not in why


def test_a_slower_service_is_no_lost_capacity():
    state, _ = closed(LimiterMemory(40.0, ready=4), 100, 60)
    _, limits = closed(state, 100, 60, base=0.7)
    assert min(limits) >= 40
    assert 80 <= limits[-1] <= 130


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9])
def test_lost_capacity_is_no_slower_service_whenever_in_a_period_it_is_lost(share):
    state, _ = closed(LimiterMemory(40.0, ready=4), 100, 60)
    n = float(round(state.limit))
    mixed = (share * min(n, 100.0) + (1.0 - share) * 50.0) / 0.5
    state, _, _ = update(RULES, state, LimiterSample(n, mixed, latency=1.2 * n / mixed, ready=4))
    state, limits = closed(state, 50, 20)
    assert state.base < 0.6
    assert max(limits[5:]) <= 1.4 * 50


def test_a_service_half_as_fast_is_no_lost_capacity():
    rules = replace(RULES, slo_seconds=3.0)
    state, _ = closed(LimiterMemory(40.0, ready=4), 100, 60)
    for _ in range(40):
        state, limit, _ = update(rules, state, fleet(round(state.limit), 100, 1.0))
        assert limit >= 35
    assert limit >= 80


def test_a_restart_takes_what_stands():
    _, limit, _ = update(RULES, LimiterMemory(100.0, ready=4), fleet(100, 100))
    assert 80 <= limit <= 125


def test_the_curve_is_found():
    samples = [(float(n), min(n, 60) / 0.4) for n in (20, 30, 40, 50, 60, 70, 80, 90)]
    curve = fit(cells_of(samples, memory=50.0), 0.05, base=None, trust=0.0, knee=None)
    assert curve.knee == pytest.approx(60, rel=0.08)
    assert curve.base == pytest.approx(0.4, rel=0.05)
    assert curve.lack(100) > 10
    assert curve.lack(35) > 10


anything = st.none() | st.floats() | st.sampled_from([0.0, 1.0, 5.0, 1e-300, 1e300, nan, inf, -1.0])
samples = st.builds(
    LimiterSample,
    in_flight=anything | st.floats(0.1, 300),
    throughput=anything | st.floats(0.01, 1000),
    latency=anything | st.floats(0.01, 10),
    memory=anything,
    ready=st.none() | st.integers(0, 50),
    doubt=st.sampled_from(["", "", "", "metrics: refused"]),
)


@given(st.integers(1, 400), st.lists(samples, max_size=12))
def test_whatever_it_is_told_the_limit_is_in_range_and_the_state_is_finite(start, told):
    state = LimiterMemory(float(start), ready=4)
    for sample in told:
        state, limit, why = update(RULES, state, sample)
        assert RULES.least <= limit <= RULES.most
        assert why
        numbers = (state.limit, state.noise, state.above, state.below, state.base or 1.0, state.knee or 1.0)
        assert all(isfinite(n) and n >= 0.0 for n in numbers)


steady = st.tuples(st.floats(1.0, 400.0), st.floats(0.1, 1000.0), st.floats(0.01, 5.0))


@given(st.integers(2, 200), st.lists(steady, min_size=1, max_size=12))
def test_with_the_same_instances_and_enough_memory_each_step_is_bounded(start, told):
    state = LimiterMemory(float(start), ready=4)
    for in_flight, throughput, latency in told:
        before = RULES.clamp(state.limit)
        state, _, _ = update(RULES, state, LimiterSample(in_flight, throughput, latency, memory=0.5, ready=4))
        assert before * DOWN * 0.999 <= state.limit <= max(before * UP, before + 1.0) * 1.001


@given(st.integers(2, 200), st.lists(samples, min_size=1, max_size=8))
def test_without_data_it_never_goes_above_what_stood_and_the_default(start, told):
    state = LimiterMemory(float(start), ready=4)
    for sample in told:
        state, limit, _ = update(RULES, state, replace(sample, throughput=None, ready=4))
        assert limit <= max(start, 20)


@given(st.integers(2, 20), st.integers(25, 150))
def test_it_reaches_any_knee_from_below_without_noise(start, knee):
    _, limits = closed(LimiterMemory(float(start), ready=4), knee, 60)
    assert all(0.7 * knee <= limit <= 1.4 * knee for limit in limits[40:])


def test_noise_does_not_keep_it_below_the_default():
    state, noise = LimiterMemory(3.0, ready=4), (0.7, 1.4, 0.9, 1.3, 0.75, 1.1, 1.25, 0.8)
    for period in range(60):
        n = float(round(state.limit))
        throughput = min(n, 100.0) / 0.5 * noise[period % len(noise)]
        state, limit, _ = update(RULES, state, LimiterSample(n, throughput, latency=0.6, ready=4))
    assert limit >= 20


@pytest.mark.parametrize(
    ("stands", "within", "reaches"),
    [
        pytest.param(20.0, 10, True, id="at the default, which nobody found: it climbs"),
        pytest.param(40.0, 10, False, id="above the default, found by an earlier run: noise feigns no growth"),
    ],
)
def test_in_noise_a_guess_is_left_and_a_finding_is_not(stands, within, reaches):
    state, noise = LimiterMemory(stands, ready=4), (0.85, 1.15, 0.9, 1.12, 0.88, 1.05, 1.14, 0.95)
    limits = []
    for period in range(within):
        n = float(round(state.limit))
        throughput = min(n, 100.0) / 0.5 * noise[period % len(noise)]
        state, limit, _ = update(RULES, state, LimiterSample(n, throughput, latency=0.6, ready=4))
        limits.append(limit)
    assert (max(limits) >= 80) is reaches, limits
