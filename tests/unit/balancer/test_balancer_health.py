"""What a client believes of an endpoint: peaks count at once, failures never pay, and everything is forgotten in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.balancer.health import FAILURES_MAX, LATENCY_TAU_SECONDS, Endpoint

BASE = 0.1
seconds = st.floats(0, 1e4)
times = st.floats(0, 1e6)


def endpoint(*samples):
    found = Endpoint("http://a")
    for at, took, ok in samples:
        found.observe(took, ok, at, BASE)
    return found


def test_without_samples_it_is_typical():
    assert endpoint().penalty(5.0, BASE) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("samples", "now", "expected"),
    [
        pytest.param([(0, 0.2, True)], 0, 0.2, id="the first sample counts whole"),
        pytest.param([(0, 0.2, True), (0, 0.9, True)], 0, 0.9, id="a peak counts at once"),
        pytest.param([(0, 0.9, True), (0, 0.2, True)], 0, 0.83, id="a quick one at the same moment hardly undoes it"),
        pytest.param([(0, 0.9, True)], 1000, BASE, id="a peak is forgotten towards what is typical"),
        pytest.param([(0, 0.001, True)], 1000, BASE, id="so is a quick one"),
        pytest.param(
            [(0, 0.9, True), (1000, 0.2, True)], 1000, 0.2, id="after a long silence the new sample counts whole"
        ),
        pytest.param([(0, 0.2, True), (0, 0.001, False)], 0, 0.2, id="a fast failure is not fast"),
        pytest.param([(0, 0.001, False)], 0, BASE, id="nor when it is all that is known"),
        pytest.param([(0, 0.2, True), (0, 9.0, False)], 0, 9.0, id="a slow failure is slow"),
        pytest.param([(0, 0.2, True), (0, 0.01, None)], 0, 0.2, id="given up early: nothing is learnt"),
        pytest.param([(0, 0.2, True), (0, 5.0, None)], 0, 5.0, id="given up late: it takes at least that"),
    ],
)
def test_latency(samples, now, expected):
    assert endpoint(*samples).expected_seconds(now, BASE) == pytest.approx(expected)


def test_one_hiccup_among_many_samples_is_soon_over():
    found = endpoint((0, 0.1, True), (0, 5.0, True), *[(0.01 * i, 0.1, True) for i in range(40)])
    assert found.expected_seconds(0.4, BASE) < 0.2


def test_a_time_constant_halves_a_peak_and_more():
    found = endpoint((0, 1.0, True))
    assert found.expected_seconds(LATENCY_TAU_SECONDS, 0.0) == pytest.approx(0.368, abs=0.001)


def test_failures_add_up_and_successes_halve_them():
    found = endpoint(*[(0, 0.1, False)] * 3)
    assert found.recent_failures(0) == pytest.approx(3.0)
    assert found.penalty(0, BASE) == pytest.approx(64.0)
    found.observe(0.1, True, 0, BASE)
    assert found.recent_failures(0) == pytest.approx(1.5)
    for _ in range(12):
        found.observe(0.1, True, 0, BASE)
    assert found.recent_failures(0) == 0.0


def test_failures_are_forgotten():
    assert endpoint(*[(0, 0.1, False)] * 9).recent_failures(300) < 0.01


@given(st.lists(st.tuples(times, seconds, st.sampled_from([True, False, None])), max_size=30), seconds)
def test_a_failure_never_makes_an_endpoint_look_better(history, took):
    history.sort(key=lambda sample: sample[0])
    now = history[-1][0] if history else 0.0
    before, after = endpoint(*history), endpoint(*history, (now, took, False))
    assert after.penalty(now, BASE) >= before.penalty(now, BASE) * (1 - 1e-9)
    assert 0.0 < after.penalty(now, BASE) < float("inf")
    assert 0.0 <= after.recent_failures(now) <= FAILURES_MAX


@given(st.lists(seconds, min_size=1, max_size=30))
def test_latency_stays_within_what_was_seen(samples):
    found = endpoint(*[(at, took, True) for at, took in enumerate(samples)])
    assert min([BASE, *samples]) * 0.999 <= found.expected_seconds(len(samples), BASE) <= max([BASE, *samples]) * 1.001
