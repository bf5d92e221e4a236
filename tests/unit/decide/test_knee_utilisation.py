"""How full a replica may be, from where the SLO held and broke."""

import pytest
from decide_world import hpa, instance, policy, scale, snapshot
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.decide.knee_utilisation import BINS, EXTRA, LOWEST, MOST, PRIOR, estimate, learn, samples
from controller.model.memory import Memory, UtilisationEvidence
from controller.model.sample import Signal, Stale

SLO = 0.5


def seen(pairs, ticks=20, every=15.0, before=None, at=1000.0):
    evidence = before
    for tick in range(ticks):
        evidence = learn(evidence, pairs, SLO, at + every * tick)
    return evidence


@pytest.mark.parametrize(
    ("pairs", "knee", "seen_to", "broken_from"),
    [
        pytest.param([], PRIOR, None, None, id="nothing: the prior"),
        pytest.param([(0.55, 0.1)], PRIOR, 0.56, None, id="held at 55 %: the prior still stands"),
        pytest.param([(0.85, 0.1)], 0.92, 0.86, None, id="held at 85 %: a little more may be tried"),
        pytest.param([(0.99, 0.1)], MOST, 1.0, None, id="held when full: capped all the same"),
        pytest.param([(2.0, 0.1)], MOST, 1.0, None, id="more than full counts as full"),
        pytest.param([(0.85, 0.44)], 0.868, 0.86, None, id="nearly over at 85 %: hardly more"),
        pytest.param(
            [(0.6, 0.45)], PRIOR, 0.62, None, id="nearly over below the prior: the prior stands until it breaks"
        ),
        pytest.param([(0.6, 0.1), (0.7, 0.9)], 0.70, 0.62, 0.70, id="broke below the prior"),
        pytest.param([(0.6, 0.1), (0.9, 0.9)], PRIOR, 0.62, 0.90, id="what lies between is not believed"),
        pytest.param([(0.84, 0.1), (0.9, 0.9)], 0.90, 0.86, 0.90, id="up to where it broke"),
        pytest.param([(0.83, 0.1), (0.85, 0.9)], 0.84, 0.84, 0.84, id="a sharp knee"),
        pytest.param([(0.2, 0.9), (0.5, 0.9)], PRIOR, None, 0.20, id="slow when idle: no question of utilisation"),
    ],
)
def test_the_knee(pairs, knee, seen_to, broken_from):
    found = estimate(seen(pairs))
    assert found.utilisation == pytest.approx(knee, abs=0.002)
    assert found.seen_to == (None if seen_to is None else pytest.approx(seen_to))
    assert found.broken_from == (None if broken_from is None else pytest.approx(broken_from))
    assert found.why


def test_one_bad_minute_of_an_idle_instance_outvotes_nothing():
    evidence = seen([(0.1, 9.0)], ticks=4, before=seen([(0.1, 0.1), (0.7, 0.1)], ticks=400))
    assert estimate(evidence).broken_from is None


def test_a_little_evidence_is_none():
    assert estimate(seen([(0.9, 0.1)], ticks=1)).seen_to == pytest.approx(0.92), "the first sample stands for a minute"
    assert estimate(seen([(0.9, 9.0)], ticks=2, every=5.0, before=seen([(0.5, 0.1)]), at=1300.0)).broken_from is None


def test_evidence_fades_and_may_be_overruled():
    old = seen([(0.7, 9.0)])
    assert estimate(old).utilisation == pytest.approx(0.70)
    later = learn(old, [(0.5, 0.1)], SLO, 1000.0 + 30 * 86400.0)
    assert estimate(later).broken_from is None


def test_many_instances_of_one_tick_are_no_independent_witnesses():
    one, many = seen([(0.6, 0.1)]), seen([(0.6, 0.1)] * 100)
    assert sum(many.held) == pytest.approx(10 * sum(one.held))


def test_a_clock_that_stands_or_turns_back_adds_nothing():
    evidence = seen([(0.6, 0.1)])
    assert learn(evidence, [(0.6, 9.0)], SLO, evidence.at) is evidence
    assert learn(evidence, [(0.6, 9.0)], SLO, evidence.at - 5.0) is evidence


def test_only_fresh_samples_of_serving_instances_are_evidence():
    fleet = [
        instance("a", cpu=0.6, latency=0.1),
        instance("slots", cpu=None, latency=0.2, extra={Signal.IN_FLIGHT: 4.0}),
        instance("late", cpu=Stale(0.6, 99.0)),
        instance("dark", latency=Stale(0.1, 99.0)),
        instance("new", ready=False),
        instance("going", terminating=True),
        instance("suspect"),
    ]
    found = list(samples(snapshot(fleet), slots=5, suspects=frozenset({"suspect"})))
    assert found == [(0.6, 0.1), (0.8, 0.2)]
    assert not list(samples(snapshot(fleet, metrics_problem="down")))


def test_demand_plans_for_the_knee_that_was_seen():
    rules = policy(
        scaling={"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 40}, "max": {"floor": 40, "ceiling": 40},
                 "demand": {}}
    )  # fmt: skip
    memory = Memory(fullness=seen([(0.5, 0.1), (0.6, 0.9)]))
    fleet = [instance(n, rate=5.0, cpu=0.5) for n in "abcd"]
    for tick in range(10):
        plan, memory = decide(rules, snapshot(fleet, at=2000.0 + 15.0 * tick, hpa=hpa(2, 40), scale=scale(4)), memory)
    assert "at 60% full (the SLO held up to 52%, broke from 60%): 4 needed" in plan.hpa.reason


numbers = st.floats(allow_nan=True, allow_infinity=True)
pairs = st.lists(st.tuples(numbers | st.floats(0.0, 1.2), numbers | st.floats(0.0, 2.0)), max_size=8)


@given(st.lists(st.tuples(st.floats(-10.0, 1e7), pairs), max_size=30))
def test_whatever_is_seen_the_knee_is_bounded_and_explained(ticks):
    evidence, at = None, 0.0
    for elapsed, samples_of_tick in ticks:
        at += elapsed
        evidence = learn(evidence, samples_of_tick, SLO, at)
    found = estimate(evidence)
    assert LOWEST <= found.utilisation <= MOST
    assert found.seen_to is None or found.broken_from is None or found.seen_to <= found.broken_from
    assert found.utilisation <= max(PRIOR, (found.seen_to or 0.0) + EXTRA)
    assert found.why


masses = st.tuples(*[st.just(0.0) | st.floats(0.0, 1e4)] * BINS)


@given(masses, masses, st.integers(0, BINS - 1))
def test_more_that_broke_never_raises_the_knee_and_more_that_held_never_lowers_it(held, broken, index):
    def more(mass):
        return tuple(m + 500.0 * (i == index) for i, m in enumerate(mass))

    stands = estimate(UtilisationEvidence(held, broken, (0.0,) * BINS, 0.0))
    worse = estimate(UtilisationEvidence(held, more(broken), (0.0,) * BINS, 0.0))
    better = estimate(UtilisationEvidence(more(held), broken, (0.0,) * BINS, 0.0))
    if min(broken_from for k in (stands, worse, better) if (broken_from := k.broken_from or 1.0)) >= LOWEST:
        assert worse.utilisation <= stands.utilisation + 1e-9
        assert better.utilisation >= stands.utilisation - 1e-9
