"""How fast endpoints work, from everybody's answers."""

import random
from collections import Counter
from math import exp, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.balancer.core import Core
from trimtab.balancer.speed import ENOUGH, SLOWEST, TAU_SECONDS, Speed, slowness, unit

POSITIVE = st.floats(1e-6, 1e6)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def core(weights, seed=1):
    clock = Clock()
    made = Core(clock=clock, random=random.Random(seed).random)
    made.install(weights.items())
    return made, clock


def share_of_a(made, requests):
    counts = Counter()
    for _ in range(requests):
        ticket = made.take()
        counts[ticket.endpoint] += 1
        ticket.release(seconds=0.1)
    return counts["a"] / requests


def test_answers_fade():
    speed = Speed()
    speed.observe(2.0, 10.0)
    assert speed.evidence(10.0) == (1.0, 2.0)
    assert speed.evidence(10.0 + TAU_SECONDS) == pytest.approx((exp(-1), 2 * exp(-1)))
    assert Speed().evidence(5.0) == (0.0, 0.0)


def test_few_answers_say_nothing():
    assert unit([(0.5, ENOUGH / 2 - 0.1, 9.0), (0.5, ENOUGH / 2 - 0.1, 9.0)]) is None
    assert unit([(0.5, ENOUGH / 2, 2.0), (0.5, ENOUGH / 2, 3.0)]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("served", "times", "least", "most"),
    [
        pytest.param(100, 1.0, 1.0, 1.0, id="as its weight says"),
        pytest.param(10, 1.1, 1.0, 1.02, id="by chance"),
        pytest.param(30, 2.0, 1.6, 2.0, id="half as fast"),
        pytest.param(30, 0.5, 0.5, 0.63, id="twice as fast"),
        pytest.param(1e6, 1e6, SLOWEST, SLOWEST, id="bounded"),
        pytest.param(0, 3.0, 1.0, 1.0, id="no answer"),
    ],
)
def test_slowness(served, times, least, most):
    assert least - 1e-9 <= slowness(0.1, served, served * times * 5.0, 0.5) <= most + 1e-9


@given(POSITIVE, st.floats(0, 1e4), st.floats(0, 1e9), POSITIVE)
def test_slowness_is_bounded_and_finite(weight, served, work, fleet):
    assert 1 / SLOWEST - 1e-9 <= slowness(weight, served, work, fleet) <= SLOWEST + 1e-9


@given(st.floats(1, 1e4), st.floats(0.01, 100), st.floats(1.01, 10))
def test_slower_answers_never_make_an_endpoint_look_faster(served, work, times):
    assert slowness(0.2, served, work * times, 0.5) >= slowness(0.2, served, work, 0.5) - 1e-12


def test_one_that_works_at_half_its_speed_gets_about_half():
    made, _ = core(dict.fromkeys("abcd", 0.25))
    seen = {name: (30.0, 30.0 * (1.0 if name == "a" else 0.5)) for name in "abcd"}
    made.share(dict.fromkeys("abcd", 8.0), seen, 0.05)
    held = [made.take() for _ in range(400)]
    counts = Counter(ticket.endpoint for ticket in held)
    assert 0.10 < counts["a"] / 400 < 0.19  # a share of 1/7 would be exact


def test_alone_again_it_goes_by_the_weights():
    made, _ = core({"a": 0.5, "b": 0.5})
    made.share({"a": 50.0}, {"a": (50.0, 500.0), "b": (50.0, 5.0)}, 0.05)
    made.alone()
    assert share_of_a(made, 4000) == pytest.approx(0.5, abs=0.03)


def test_with_nothing_in_flight_shares_are_the_weights_whatever_the_speeds():
    made, _ = core({"a": 0.7, "b": 0.3})
    made.share({}, {"a": (50.0, 100.0), "b": (50.0, 5.0)}, 0.05)
    assert share_of_a(made, 8000) == pytest.approx(0.7, abs=0.02)


def test_counts_fade_into_fair_shares_as_they_age():
    made, clock = core({"a": 0.5, "b": 0.5})
    made.share({"a": 10.0}, None, 0.05)
    known = made._known
    assert known["a"].shared > 9.0
    made.take().release()
    clock.now += 1.0
    made.take()
    assert 5.0 < known["a"].shared < 7.0
    assert known["a"].shared + known["b"].shared == pytest.approx(10.0)


def test_one_answer_cannot_be_more_than_so_slow():
    made, _ = core({"a": 0.5, "b": 0.5})
    made.share({}, {"a": (50.0, 50.0), "b": (50.0, 50.0)}, 0.05)
    ticket = made.take()
    ticket.release(seconds=1e9)
    assert made.evidence()[ticket.endpoint][1] <= SLOWEST + 1e-9


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), min_size=1), st.integers(0, 9))
def test_never_weight_zero_while_there_is_another_when_shared(weights, seed):
    made, _ = core(weights, seed)
    made.share(dict.fromkeys(weights, 3.0), dict.fromkeys(weights, (9.0, 3.0)), 0.05)
    serving = {name for name, weight in weights.items() if weight > 0}
    for _ in range(5):
        assert made.take().endpoint in (serving or weights)
        assert all(0 <= e.shared < inf for e in made._known.values())
