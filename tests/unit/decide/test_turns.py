"""The budget of direction changes, from what the API server shows."""

import pytest
from decide_world import hold, hpa, instance, policy, scale, snapshot
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.decide.proposal import Proposed
from controller.decide.turns import observe, within
from controller.model.memory import Memory, Turns

RULES = {"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 9}, "max": {"floor": 10, "ceiling": 14}}


def after(*values, every=60.0):
    found, stood = Turns(), None
    for n, value in enumerate(values):
        found = observe(found, stood, value, every * n)
        stood = value
    return found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([4], Turns(), id="a first look"),
        pytest.param([4, 4, 4], Turns(), id="nothing moves"),
        pytest.param([4, 6, 8], Turns(1), id="up and on is no turn"),
        pytest.param([4, 6, 6, 4], Turns(-1, (180.0,)), id="up, rest, down"),
        pytest.param([4, 6, 4, 6], Turns(1, (120.0, 180.0)), id="to and fro"),
    ],
)
def test_turns_are_counted(values, expected):
    assert after(*values) == expected


def test_turns_of_an_hour_ago_are_forgotten():
    assert after(4, 6, 4, 6, every=1801.0) == Turns(1, (3602.0, 5403.0))
    assert after(4, 6, 4, 6, every=3601.0) == Turns(1, (10803.0,))


@pytest.mark.parametrize(
    ("wanted", "now", "stays"),
    [
        pytest.param(4, 1000.0, True, id="down: held"),
        pytest.param(8, 1000.0, False, id="up: never"),
        pytest.param(4, 3700.0, False, id="down: the first turn is an hour ago"),
    ],
)
def test_a_spent_budget_holds_what_goes_down(wanted, now, stays):
    safe = within(Proposed("minReplicas", 6, wanted, "calm"), Turns(1, (100.0, 200.0)), 2, now)
    assert safe.after == (6 if stays else wanted)
    assert safe.held == (
        "2 changes of direction within an hour, 2 allowed; free in 2700 s; asked for 4: calm" if stays else ""
    )


def test_it_holds_through_the_whole_decision():
    memory = Memory(at=985.0, calm_since=0.0, hpa_seen_at=0.0, min_turns=Turns(1, (500.0, 600.0)), max_turns=Turns(-1))
    rules = policy(scaling={**RULES, "steps": {"turnsPerHour": 2}})
    plan, _ = decide(rules, snapshot([instance(n) for n in "abcd"], hpa=hpa(5, 12), scale=scale(4)), memory)
    assert (plan.hpa.after.min_replicas, plan.hpa.after.max_replicas) == (5, 10)
    assert hold(plan, "minReplicas").reason.startswith("2 changes of direction within an hour, 2 allowed")


@given(st.lists(st.integers(1, 9), min_size=2, max_size=40), st.integers(1, 5))
def test_a_bound_that_obeys_turns_at_most_once_more_than_its_budget(wishes, per_hour):
    """Wishes come each minute; a raise is never refused, so the last turn may be one."""
    stands, found = wishes[0], Turns()
    downs = 0
    for n, wish in enumerate(wishes[1:]):
        after = within(Proposed("b", stands, wish), found, per_hour, 60.0 * n).after
        assert after == wish or wish < stands
        turned = observe(found, stands, after, 60.0 * n)
        downs += turned.at != found.at and after < stands
        found, stands = turned, after
    assert downs <= per_hour
