"""A floor that does not turn back and forth."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.floors.steady import DEADBAND, settle

WARM = 180.0


def run(wanted, every=15.0, before=None, at=1000.0, running=None):
    found = []
    for tick, replicas in enumerate(wanted):
        before = settle(before, replicas, at + every * tick, warm_up_seconds=WARM, running=running)
        found.append(before.replicas)
    return found, before


def turns(sizes):
    moves = [b - a for a, b in pairwise(sizes) if a != b]
    return sum((a > 0) != (b > 0) for a, b in pairwise(moves))


def test_up_at_once():
    assert run([4, 5, 9])[0] == [4, 5, 9]


def test_down_when_less_has_been_enough_for_a_warm_up():
    found, _ = run([10] * 20 + [4] * 20)
    assert found == [10] * 20 + [10] * 11 + [4] * 9


def test_down_onto_the_most_that_was_wanted_meanwhile():
    found, _ = run([10] * 20 + [4] * 6 + [6] + [4] * 20)
    assert found[20 + 11] == 6


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param(9, 10, id="a tenth is noise"),
        pytest.param(8, 8, id="a fifth is not"),
        pytest.param(10, 10, id="nothing to lower"),
    ],
)
def test_only_by_more_than_noise(wanted, expected):
    assert run([10] * 20 + [wanted] * 40)[0][-1] == expected


def test_on_the_way_down_less_is_enough_to_go_on():
    found, standing = run([100] * 20 + [70] * 30)
    assert (found[-1], standing.falling) == (70, True)
    assert run([62] * 20, before=standing, at=standing.at + 15.0)[0][-1] == 62, "a ninth less"
    _, risen = run([80] + [70] * 20, before=standing, at=standing.at + 15.0)
    assert (risen.replicas, risen.falling) == (80, False), "an eighth less, after a rise"


def test_a_lowering_that_was_taken_back_makes_the_next_wait_longer():
    found, standing = run([10] * 20 + [4] * 20 + [10] + [4] * 50)
    assert found[31] == 4
    assert found[41 + 12] == 10, "a warm-up is not enough any more"
    assert found[41 + 25] == 4, "two are"
    assert 0.0 < standing.regret < 1.0
    assert run([4] * 400, before=standing, at=standing.at + 15.0)[1].regret < 0.05


def test_and_more_must_be_to_gain():
    _, standing = run([100] * 20 + [60] * 20 + [100])
    assert standing.regret == 1.0
    assert run([82] * 30, before=standing, at=standing.at + 15.0)[0][-1] == 100, "18 % less"
    assert run([75] * 30, before=standing, at=standing.at + 15.0)[0][-1] == 75, "a quarter less"
    assert run([82] * 400, before=standing, at=standing.at + 15.0)[0][-1] == 82, "it is forgotten"


def test_one_replica_of_a_few_may_go():
    assert run([3] * 20 + [2] * 40)[0][-1] == 2


def test_what_was_found_running_stays_for_two_warm_ups():
    found, _ = run([3] * 40, running=8)
    assert found == [8] * 12 + [3] * 28


def test_a_gap_begins_the_wait_anew():
    _, standing = run([10] * 20)
    found, _ = run([4] * 20, before=standing, at=standing.at + 1000.0)
    assert found[11] == 10
    assert found[12] == 4


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
def test_ripples_inside_the_deadband_turn_nothing(level, ripples):
    wanted = [round(level * (1.0 + 0.45 * DEADBAND * r)) for r in ripples]
    assert turns(run(wanted)[0]) == 0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(0, 20))
def test_more_that_is_wanted_never_gives_less(wanted, more):
    low, high = run(wanted)[0], run([w + more for w in wanted])[0]
    assert all(b >= a for a, b in zip(low, high, strict=True))


def test_without_a_warm_up_nothing_is_waited_for():
    stands = settle(None, 5, 0.0, warm_up_seconds=0.0)
    assert settle(stands, 1, 15.0, warm_up_seconds=0.0).replicas < 5
