"""The choice, the counts and their release."""

import random
import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.balancer.core import Core
from trimtab.errors import NoEndpoints

WEIGHTS = {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.07, "e": 0.03}


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def core(weights=None, *, seed=1, choices=5):
    clock = Clock()
    made = Core(choices=choices, clock=clock, random=random.Random(seed).random)
    made.install((WEIGHTS if weights is None else weights).items())
    return made, clock


def shares(made, picks, *, ok=True, **kwargs):
    counts = Counter()
    for _ in range(picks):
        ticket = made.take(**kwargs)
        counts[ticket.endpoint] += 1
        ticket.release(ok, seconds=0.1)
    return {name: count / picks for name, count in counts.items()}


@pytest.mark.parametrize("choices", [1, 2, 5])
def test_shares_follow_the_weights_when_nothing_waits(choices):
    made, _ = core(choices=choices)
    for name, share in shares(made, 40_000).items():
        assert share == pytest.approx(WEIGHTS[name], abs=0.02)


def test_shares_follow_the_weights_when_requests_pile_up():
    made, _ = core()
    tickets = [made.take() for _ in range(2000)]
    held = Counter(ticket.endpoint for ticket in tickets)
    for name, weight in WEIGHTS.items():
        assert held[name] / 2000 == pytest.approx(weight, abs=0.02)


def test_the_least_loaded_of_the_draws_wins():
    made, _ = core({"a": 0.5, "b": 0.5})
    tickets = [made.take() for _ in range(1000)]
    counts = Counter(ticket.endpoint for ticket in tickets)
    # One draw each would differ by about 30; the least loaded of five keeps the two together.
    assert abs(counts["a"] - counts["b"]) <= 4


def test_what_others_have_in_flight_counts():
    made, _ = core({"a": 0.5, "b": 0.5})
    made.share({"a": 100.0})
    assert shares(made, 500)["b"] > 0.9
    made.share({})
    assert shares(made, 4000)["b"] == pytest.approx(0.5, abs=0.04)


def test_a_slow_endpoint_gets_less_until_it_is_forgotten():
    made, clock = core({"a": 0.5, "b": 0.5})
    counts = Counter()
    for _ in range(1000):
        clock.now += 0.01
        ticket = made.take()
        counts[ticket.endpoint] += 1
        ticket.release(seconds=2.0 if ticket.endpoint == "a" else 0.1)
    assert 1 <= counts["a"] < 120
    clock.now += 120.0
    assert shares(made, 4000)["a"] == pytest.approx(0.5, abs=0.05)


def test_one_hiccup_hardly_moves_the_shares():
    made, _ = core({"a": 0.5, "b": 0.5})
    shares(made, 100)
    made.record("a", 0.5, ok=True)
    assert shares(made, 4000)["a"] == pytest.approx(0.5, abs=0.04)


def test_one_that_fails_at_once_gets_next_to_nothing():
    made, clock = core(dict.fromkeys("abcdefghij", 0.1))
    failed = 0
    for _ in range(5000):
        clock.now += 0.01
        ticket = made.take()
        bad = ticket.endpoint == "a"
        failed += bad
        ticket.release(ok=not bad, seconds=0.001 if bad else 0.1)
    assert failed < 0.01 * 5000
    assert failed > 1  # it is tried again now and then, or it could never come back


def test_when_all_fail_all_are_tried():
    made, _ = core({"a": 0.5, "b": 0.5})
    for _ in range(20):
        for name in "ab":
            made.record(name, 0.01, ok=False)
    assert set(shares(made, 200, ok=False)) == {"a", "b"}


def test_weight_zero_is_the_last_resort():
    made, _ = core({"a": 0.5, "b": 0.5, "cold": 0.0, "out": 0.0})
    for _ in range(50):
        made.record("a", 0.01, ok=False)
        made.record("b", 0.01, ok=False)
    assert set(shares(made, 300)) <= {"a", "b"}
    assert set(shares(made, 300, exclude={"a", "b"})) == {"cold", "out"}


@pytest.mark.parametrize("exclude", ["a", ["a"], ("a",), {"a"}, frozenset("a")], ids=lambda value: type(value).__name__)
def test_exclude_takes_any_collection(exclude):
    made, _ = core({"a": 0.9, "ab": 0.1})
    assert set(shares(made, 100, exclude=exclude)) == {"ab"}


def test_retries_keep_to_the_weights():
    made, _ = core({"a": 0.4, "b": 0.4, "c": 0.2})
    assert shares(made, 20_000, exclude=["b"])["a"] == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.parametrize(
    ("weights", "exclude", "words"),
    [
        pytest.param({}, (), "no endpoint is known", id="nothing known"),
        pytest.param({"a": 1.0}, ["a"], "every endpoint is excluded", id="all excluded"),
        pytest.param({}, ["a"], "no endpoint is known", id="nothing known, and excluded"),
    ],
)
def test_nowhere_to_go(weights, exclude, words):
    made, _ = core(weights)
    with pytest.raises(NoEndpoints, match=words):
        made.take(exclude)


def test_best_is_the_first_with_weight():
    made, _ = core({"cold": 0.0, "a": 0.3, "b": 0.7})
    assert made.best() == "a"
    made.install([("cold", 0.0)])
    assert made.best() == "cold"
    made.install([])
    with pytest.raises(NoEndpoints):
        made.best()


def test_a_new_table_keeps_what_is_known_and_in_flight():
    made, _ = core({"a": 0.5, "b": 0.5})
    tickets = [made.take() for _ in range(10)]
    before = made.in_flight()
    made.install([("b", 1.0)])
    assert made.in_flight() == before
    made.install([("a", 0.5), ("b", 0.5)])
    assert made.in_flight() == before
    for ticket in tickets:
        ticket.release()
    assert made.in_flight() == {}


def test_an_endpoint_that_flaps_keeps_its_record():
    made, _ = core({"a": 0.5, "b": 0.5})
    for _ in range(5):
        made.record("a", 0.01, ok=False)
    made.install([("b", 1.0)])
    made.install([("a", 0.5), ("b", 0.5)])
    assert shares(made, 300).get("a", 0.0) < 0.05


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_record_wants_a_time(seconds):
    made, _ = core()
    with pytest.raises(ValueError, match="seconds is"):
        made.record("a", seconds, ok=True)


def test_record_of_a_stranger_is_ignored():
    made, _ = core()
    made.record("nobody", 1.0, ok=False)
    assert set(made.names()) == set(WEIGHTS)


def test_threads_lose_no_count():
    made, _ = core()

    def work():
        for _ in range(3000):
            made.take().release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.in_flight() == {}


tables = st.dictionaries(
    st.sampled_from([f"e{i}" for i in range(200)]), st.floats(0, 1) | st.just(0.0), min_size=1, max_size=200
)


@st.composite
def situations(draw):
    weights = draw(tables)
    names = list(weights)
    exclude = draw(st.sets(st.sampled_from(names)))
    busy = draw(st.dictionaries(st.sampled_from(names), st.integers(0, 50), max_size=20))
    samples = draw(
        st.lists(
            st.tuples(st.sampled_from(names), st.floats(0, 1e3), st.sampled_from([True, False, None])), max_size=20
        )
    )
    return weights, exclude, busy, samples


def prepared(weights, busy, samples, seed):
    made, _ = core(weights, seed=seed)
    made.share(busy)
    for name, took, ok in samples:
        made.record(name, took, ok)
    return made


@given(situations(), st.integers(0, 99))
def test_never_one_that_is_excluded_never_weight_zero_while_there_is_another(situation, seed):
    weights, exclude, busy, samples = situation
    made = prepared(weights, busy, samples, seed)
    allowed = {name for name in weights if name not in exclude}
    with_weight = {name for name in allowed if weights[name] > 0}
    for _ in range(5):
        if not allowed:
            with pytest.raises(NoEndpoints):
                made.take(exclude)
        else:
            assert made.take(exclude).endpoint in (with_weight or allowed)


@given(situations(), st.integers(0, 99), st.randoms(use_true_random=False))
def test_names_do_not_matter(situation, seed, shuffler):
    weights, exclude, busy, samples = situation
    names = list(weights)
    others = [f"x{name}" for name in names]
    shuffler.shuffle(others)
    to = dict(zip(names, others, strict=True))
    if len(exclude) == len(weights):
        exclude = set()
    one = prepared(weights, busy, samples, seed)
    two = prepared(
        {to[name]: weight for name, weight in weights.items()},
        {to[name]: count for name, count in busy.items()},
        [(to[name], took, ok) for name, took, ok in samples],
        seed,
    )
    barred = {to[name] for name in exclude}
    held = [(one.take(exclude), two.take(barred)) for _ in range(5)]
    assert [to[a.endpoint] for a, _ in held] == [b.endpoint for _, b in held]
