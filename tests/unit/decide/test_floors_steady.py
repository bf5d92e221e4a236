"""A floor that does not turn back and forth."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.floors.steady import BAND, settle

WARM = 180.0


def run(wanted, before=None, at=1000.0, running=None, noise=0.0):
    found = []
    for tick, replicas in enumerate(wanted):
        tick_at = at + 15.0 * tick
        before = settle(before, replicas, tick_at, warm_up_seconds=WARM, noise_ratio=noise, running=running)
        found.append(before.replicas)
    return found, before


def turns(sizes):
    moves = [b - a for a, b in pairwise(sizes) if a != b]
    return sum((a > 0) != (b > 0) for a, b in pairwise(moves))


def test_up_at_once():
    assert run([4, 5, 9])[0] == [4, 5, 9]


def test_down_when_less_has_been_enough_for_half_a_warm_up_with_a_little_left_on_top():
    found, _ = run([10] * 20 + [4] * 20)
    assert found == [10] * 20 + [10] * 5 + [4] * 15
    assert run([100] * 20 + [40] * 20)[0][-1] == 45


def test_down_to_the_most_that_was_wanted_meanwhile():
    found, _ = run([10] * 20 + [4] * 3 + [6] + [4] * 20)
    assert (found[20 + 5], found[24 + 5]) == (7, 4)


@pytest.mark.parametrize(
    ("wanted", "noise", "expected"),
    [
        pytest.param(87, 0.0, 100, id="an eighth is not worth a turn"),
        pytest.param(84, 0.0, 94, id="a sixth is"),
        pytest.param(84, 0.05, 100, id="not where the traffic is ragged"),
        pytest.param(74, 0.05, 83, id="unless it is five noises"),
        pytest.param(100, 0.0, 100, id="nothing to lower"),
    ],
)
def test_only_by_a_whole_band(wanted, noise, expected):
    assert run([100] * 20 + [wanted] * 40, noise=noise)[0][-1] == expected


def test_on_the_way_down_it_follows():
    found, standing = run([100] * 20 + [70] * 30)
    assert (found[-1], standing.falling) == (78, True)
    assert run([68] * 20, before=standing, at=standing.at + 15.0)[0][-1] == 76
    _, risen = run([80] + [70] * 20, before=standing, at=standing.at + 15.0)
    assert (risen.replicas, risen.falling) == (80, False), "an eighth less, after a rise"


def test_a_ripple_after_a_lowering_needs_no_turn():
    _, standing = run([100] * 20 + [70] * 30)
    assert run([70, 76, 71, 77, 70] * 10, before=standing, at=standing.at + 15.0)[0] == [78] * 50


@pytest.mark.parametrize(("runs", "wanted"), [(3, 2), (2, 1), (5, 4)])
def test_one_replica_of_a_few_may_go(runs, wanted):
    assert run([runs] * 20 + [wanted] * 40)[0][-1] == wanted


def test_what_was_found_running_stays_for_a_warm_up():
    found, _ = run([3] * 40, running=8)
    assert found == [8] * 12 + [3] * 28


def test_a_gap_begins_the_wait_anew():
    _, standing = run([10] * 20)
    found, _ = run([4] * 20, before=standing, at=standing.at + 1000.0)
    assert found[5] == 10
    assert found[6] == 4


def test_a_clock_that_turns_back_changes_nothing():
    _, standing = run([10] * 3)
    assert settle(standing, 99, standing.at - 1.0, warm_up_seconds=WARM) is standing


steps = st.lists(st.tuples(st.floats(0.0, 400.0), st.integers(0, 1000)), min_size=1, max_size=80)


@given(steps, st.none() | st.integers(0, 1000))
def test_never_below_what_is_wanted_and_never_above_what_was(ticks, running):
    standing, at, seen = None, 0.0, [running or 0]
    for elapsed, wanted in ticks:
        at += elapsed
        before = standing
        standing = settle(before, wanted, at, warm_up_seconds=WARM, running=running)
        seen.append(wanted)
        if before is None or at > before.at:
            assert standing.replicas >= wanted
        assert standing.replicas <= max(seen)
        assert list(standing.wanted) == sorted(standing.wanted, key=lambda w: (w[0], -w[1]))


@given(st.integers(5, 200), st.lists(st.floats(-1.0, 1.0), min_size=40, max_size=200))
def test_ripples_inside_the_band_turn_nothing(level, ripples):
    wanted = [round(level * (1.0 + 0.45 * BAND * r)) for r in ripples]
    assert turns(run(wanted)[0]) == 0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(0, 20))
def test_more_that_is_wanted_never_gives_less(wanted, more):
    low, high = run(wanted)[0], run([w + more for w in wanted])[0]
    assert all(b >= a for a, b in zip(low, high, strict=True))


def test_without_a_warm_up_nothing_is_waited_for():
    stands = settle(None, 5, 0.0, warm_up_seconds=0.0)
    assert settle(stands, 1, 15.0, warm_up_seconds=0.0).replicas < 5
