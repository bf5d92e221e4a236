from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.lab.pickers import LeastInFlight, RoundRobin
from trimtab import NoEndpoints

NAMES = ("a", "b", "c")


def test_round_robin_takes_turns():
    side = RoundRobin(["a", "b"])
    assert [side.pick().endpoint for _ in range(4)] == ["a", "b", "a", "b"]
    assert [side.pick(exclude=["a"]).endpoint for _ in range(2)] == ["b", "b"]


@pytest.mark.parametrize("picker", [RoundRobin, LeastInFlight])
def test_nowhere_to_go_is_said(picker):
    side = picker(["a", "b"])
    with pytest.raises(NoEndpoints, match="every endpoint is excluded"):
        side.pick(exclude=["a", "b"])
    side.replace([])
    with pytest.raises(NoEndpoints):
        side.pick()


def test_the_least_busy_is_taken_and_equals_share():
    side = LeastInFlight(NAMES, seed=1)
    first = [side.pick() for _ in NAMES]
    assert sorted(claim.endpoint for claim in first) == list(NAMES)
    with first[1] as freed:
        pass
    assert side.pick(exclude=[]).endpoint == freed
    fair = LeastInFlight(NAMES, seed=1)
    counts = Counter()
    for _ in range(3000):
        with fair.pick() as endpoint:
            counts[endpoint] += 1
    assert all(abs(counts[name] - 1000) < 130 for name in NAMES)  # five standard deviations


@given(st.lists(st.one_of(st.just("pick"), st.integers(0, 9)), max_size=40))
def test_what_is_open_is_counted_once_and_never_uneven_by_more_than_was_released(steps):
    side = LeastInFlight(NAMES)
    claims = []
    for step in steps:
        if step == "pick":
            claim = side.pick()
            assert side.in_flight[claim.endpoint] - 1 == min(
                side.in_flight[name] - (name == claim.endpoint) for name in NAMES
            )
            claims.append(claim)
        elif claims:
            claims[step % len(claims)].release()  # again and again: only the first counts
    opened = Counter(claim.endpoint for claim in claims)
    assert all(0 <= side.in_flight[name] <= opened[name] for name in NAMES)
    for claim in claims:
        claim.release()
    assert not any(side.in_flight.values())
