"""How long pods take to serve: what is learnt from them, and what is done with it."""

from dataclasses import replace
from itertools import pairwise

import pytest
from decide_world import change, hold, hpa, instance, policy, scale, snapshot
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.decide.warmup import KEPT, Coming, WarmUp, coming, observe, warm_up
from controller.model.memory import Memory, Warmed, WarmUps
from controller.model.sample import Stale

LEARNT = WarmUp(100.0, pods=5)


def pod(name, created, ready_at=None, *, rate=None, **fields):
    serves = ready_at is not None
    given = {"ready": serves, "created_at": created, "ready_at": ready_at, **fields}
    return instance(name, rate=rate, cpu=None, latency=None, errors=None, **given)


def seen(*ticks, before=None):
    """What is known after these ticks: (instant, pods)."""
    known = WarmUps() if before is None else before
    for at, pods in ticks:
        known = observe(snapshot(pods, at=at), known)
    return known


def times(known):
    return {p.uid.removeprefix("uid-"): (p.seconds, p.watched) for p in known.pods}


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        pytest.param([(1000.0, [pod("a", 0.0, 140.0)])], {"a": (140.0, False)}, id="found ready: Kubernetes' word"),
        pytest.param([(1000.0, [pod("a", 900.0)])], {}, id="on its way"),
        pytest.param([(1000.0, [pod("a", 0.0, None, ready=True)])], {}, id="ready again after a crash"),
        pytest.param([(1000.0, [pod("a", None, 140.0)])], {}, id="no creation known"),
        pytest.param([(1000.0, [pod("a", 0.0, 140.0, uid=None)])], {}, id="no pod"),
        pytest.param([(1000.0, [pod("a", 0.0, 140.0, terminating=True)])], {}, id="on its way out"),
        pytest.param([(1000.0, [pod("a", 500.0, 400.0)])], {}, id="ready before it was created"),
        pytest.param([(90000.0, [pod("a", 0.0, 80000.0)])], {}, id="most of a day is no warm-up"),
        pytest.param(
            [(1000.0, []), (1015.0, [pod("a", 1010.0)]), (1120.0, [pod("a", 1010.0, 1110.0)])],
            {},
            id="watched and ready: its first request is still to come",
        ),
        pytest.param(
            [
                (1000.0, []),
                (1015.0, [pod("a", 1010.0)]),
                (1120.0, [pod("a", 1010.0, 1110.0)]),
                (1135.0, [pod("a", 1010.0, 1110.0, rate=2.0)]),
            ],
            {"a": (124.0, True)},
            id="watched: to the first request, as old as its sample",
        ),
        pytest.param(
            [(1000.0, []), (1015.0, [pod("a", 1010.0)]), (1120.0, [pod("a", 1010.0, 1110.0, rate=0.0)])],
            {},
            id="watched: a rate of nothing is no request",
        ),
        pytest.param(
            [(1000.0, []), (1015.0, [pod("a", 1010.0)]), (1120.0, [pod("a", 1010.0, 1110.0, rate=Stale(2.0, 99.0))])],
            {},
            id="watched: nor is a stale rate",
        ),
        pytest.param(
            [(1000.0, []), (1015.0, [pod("a", 1010.0)]), (1240.0, [pod("a", 1010.0, 1110.0)])],
            {"a": (100.0, True)},
            id="watched: idle for two minutes, so ready counts",
        ),
        pytest.param(
            [(1000.0, [pod("a", 0.0, 140.0)]), (1015.0, [pod("a", 0.0)]), (1030.0, [pod("a", 0.0, 1020.0)])],
            {"a": (140.0, False)},
            id="ready once, the probe failed and passed: the first time counts",
        ),
        pytest.param(
            [(1000.0, [pod("a", 0.0)]), (1015.0, [pod("a", 0.0, 1010.0)])],
            {"a": (1010.0, False)},
            id="half its way was before our time: as if found ready",
        ),
    ],
)
def test_what_a_pod_teaches(ticks, expected):
    assert times(seen(*ticks)) == expected


def test_only_the_newest_pods_are_kept_and_none_comes_back():
    old = [pod(f"o{n:02}", 10.0 * n, 10.0 * n + 50.0) for n in range(KEPT)]
    new = [pod(f"n{n:02}", 1000.0 + n, 1090.0 + n) for n in range(KEPT)]
    known = seen((2000.0, old), (2015.0, [*old, *new]), (2030.0, [*old, *new]))
    assert set(times(known)) == {p.name for p in new}


def test_a_restart_learns_the_same_from_the_pods_that_run():
    fleet = [pod(n, 10.0 * i, 10.0 * i + 90.0 + i) for i, n in enumerate("abcde")]
    before = seen((500.0, fleet), (515.0, fleet))
    assert warm_up(None, seen((530.0, fleet))) == warm_up(None, before) == WarmUp(94.0, pods=5)


def warmed(*seconds, watched=False):
    return WarmUps(tuple(Warmed(f"{n}", float(n), s, watched) for n, s in enumerate(seconds)))


@pytest.mark.parametrize(
    ("given_seconds", "learnt", "expected", "words"),
    [
        pytest.param(60.0, warmed(1.0, 2.0, 3.0), 60.0, "warm-up 60 s (the policy)", id="the policy's word"),
        pytest.param(0.0, warmed(), 0.0, "warm-up 0 s (the policy)", id="none at all, by the policy"),
        pytest.param(None, warmed(), 180.0, "warm-up 180 s (until 3 pods were seen)", id="nothing known"),
        pytest.param(None, warmed(20.0, 30.0), 180.0, "warm-up 180 s (until 3 pods were seen)", id="two are too few"),
        pytest.param(None, warmed(20.0, 40.0, 30.0), 40.0, "warm-up 40 s (learned from 3 pods)", id="three"),
        pytest.param(
            None, warmed(*[100.0] * 18, 250.0, 290.0), 100.0, "warm-up 100 s (learned from 20 pods)", id="one in ten"
        ),
        pytest.param(
            None, warmed(*[100.0] * 9, 9000.0), 100.0, "warm-up 100 s (learned from 9 pods)", id="a probe that flapped"
        ),
        pytest.param(
            None, warmed(100.0, 100.0, 400.0, watched=True), 400.0, "warm-up 400 s (learned from 3 pods)", id="watched"
        ),
    ],
)
def test_the_time_that_counts(given_seconds, learnt, expected, words):
    found = warm_up(given_seconds, learnt)
    assert (found.seconds, found.words) == (expected, words)


@pytest.mark.parametrize(
    ("pods", "fields", "expected"),
    [
        pytest.param([], {}, Coming(2, time=LEARNT), id="no pods yet: expected"),
        pytest.param([pod("x", 950.0), pod("y", 900.0)], {}, Coming(2, time=LEARNT), id="young"),
        pytest.param([pod("x", 950.0), pod("y", 850.0)], {}, Coming(2, time=LEARNT), id="late"),
        pytest.param([pod("x", 950.0), pod("y", 700.0)], {}, Coming(1, 1, 300.0, LEARNT), id="one is stuck"),
        pytest.param([pod("x", 0.0), pod("y", 0.0)], {}, Coming(0, 2, 1000.0, LEARNT), id="both are"),
        pytest.param([pod("x", 0.0), pod("y", None)], {}, Coming(1, 1, 1000.0, LEARNT), id="unknown age: expected"),
        pytest.param([pod("x", 0.0, terminating=True)], {}, Coming(2, time=LEARNT), id="one on its way out"),
        pytest.param([], {"ready": None}, Coming(), id="nobody knows who serves"),
        pytest.param([], {"ready": 9}, Coming(0, time=LEARNT), id="more serve than are asked for"),
        pytest.param([], {"scale": scale(2, 4)}, Coming(2, time=LEARNT), id="they exist, though not asked for"),
    ],
)
def test_who_is_coming(pods, fields, expected):
    fields = {"ready": 2, "scale": scale(4), **fields}
    ready = fields.pop("ready")
    assert coming(snapshot(pods, **fields), ready, LEARNT) == expected


SCALING = {"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 6}, "max": {"floor": 10, "ceiling": 14}}
SLOW = [instance(n, latency=0.9, cpu=0.9) for n in "abcd"]
PRESSED = Memory(at=985.0, pressure_since=985.0, hpa_seen_at=0.0, warmups=warmed(90.0, 90.0, 90.0))


@pytest.mark.parametrize(
    ("created", "raised"),
    [
        pytest.param(900.0, False, id="two young pods are help on its way"),
        pytest.param(800.0, True, id="two stuck ones are none"),
    ],
)
def test_a_raise_waits_for_pods_on_their_way_but_not_for_stuck_ones(created, raised):
    late = [pod(n, created) for n in "xy"]
    plan, _ = decide(policy(scaling=SCALING), snapshot([*SLOW, *late], hpa=hpa(), scale=scale(6)), PRESSED)
    if raised:
        assert "; 2 pods are stuck, not ready for up to 200 s, warm-up 90 s (learned from 3 pods)" in plan.hpa.reason
        assert plan.hpa.after.min_replicas == 4
    else:
        assert hold(plan, "minReplicas").reason.startswith("2 replicas are still coming")


def test_a_learned_warm_up_leads_a_schedule():
    window = {"name": "w", "from": "00:10", "to": "01:00", "timezone": "UTC", "min": 4}
    rules = policy(scaling={**SCALING, "schedules": [window]})
    at = 86400.0 + 600.0 - 100.0
    plans = [
        decide(rules, snapshot([instance(n) for n in "abcd"], at=at, hpa=hpa(), scale=scale(4)), memory)[0]
        for memory in (Memory(warmups=warmed(60.0, 60.0, 60.0)), Memory(warmups=warmed(90.0, 90.0, 90.0)))
    ]
    assert plans[0].hpa is None
    assert change(plans[1], "minReplicas").reason.endswith("opens in 100 s, warm-up 90 s (learned from 3 pods)")


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(-1e6, 1e6), st.none() | st.floats(-1e6, 1e6))),
        max_size=6,
    )
)
def test_whatever_pods_say_a_warm_up_stays_a_sane_time(rows):
    ticks = [
        (1000.0 + 15.0 * n, [pod(name, created, ready, rate=1.0) for name, created, ready in row])
        for n, row in enumerate(rows)
    ]
    known = seen(*ticks)
    assert len(known.pods) <= KEPT
    assert all(a.created_at <= b.created_at for a, b in pairwise(known.pods))
    assert 0.0 <= warm_up(None, known).seconds <= 6 * 3600.0


@given(st.lists(st.floats(1.0, 20000.0), min_size=1, max_size=KEPT), st.booleans())
def test_the_quantile_is_one_of_the_times_seen(seconds, watched):
    found = warm_up(None, warmed(*seconds, watched=watched))
    assert found.seconds in [180.0, *seconds]


def test_a_tick_that_does_not_know_every_pod_forgets_nobody():
    known = seen((1000.0, []), (1015.0, [pod("a", 1010.0)]))
    part = replace(snapshot([], at=1030.0), instances_complete=False)
    assert observe(part, known) == known
