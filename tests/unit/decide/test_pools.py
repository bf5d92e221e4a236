"""A limit shared out over pools: whole slots, equal, few changes, and never more in all than the limit on the way up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.pools import grow, share_out

POOLS = st.dictionaries(st.sampled_from([f"w{index}" for index in range(12)]), st.integers(0, 20), max_size=12)
LIMITS = st.integers(0, 300)


@pytest.mark.parametrize(
    ("limit", "pools", "options", "shares"),
    [
        (9, {"a": 4, "b": 4, "c": 4}, {}, {"a": 3, "b": 3, "c": 3}),
        (8, {"a": 1, "b": 4, "c": 4}, {}, {"a": 2, "b": 3, "c": 3}),
        (2, {"a": 4, "b": 4, "c": 5}, {}, {"a": 1, "b": 0, "c": 1}),
        (0, {"a": 4}, {}, {"a": 0}),
        (40, {"a": 4, "b": 4}, {"largest": 8}, {"a": 8, "b": 8}),
        (9, {"a": 4, "b": 4}, {"elsewhere": 5}, {"a": 2, "b": 2}),
        (4, {"a": 4, "b": 4}, {"elsewhere": 4, "least": 1}, {"a": 1, "b": 1}),
        (5, {}, {}, {}),
    ],
    ids=["equal", "the rest to the larger", "fewer than workers", "pause", "largest", "elsewhere", "least", "nobody"],
)
def test_shares(limit, pools, options, shares):
    assert share_out(limit, pools, **options).shares == shares


@given(LIMITS, POOLS, st.integers(0, 40), st.integers(1, 30))
def test_shares_are_equal_and_sum_to_the_limit_unless_something_binds(limit, pools, elsewhere, largest):
    shares = share_out(limit, pools, elsewhere=elsewhere, largest=largest).shares
    free = max(0, limit - elsewhere)
    assert sum(shares.values()) == (min(free, largest * len(pools)) if pools else 0)
    if shares:
        assert max(shares.values()) - min(shares.values()) <= 1


@given(LIMITS, POOLS)
def test_sharing_out_again_changes_nothing(limit, pools):
    once = share_out(limit, pools).shares
    again = share_out(limit, once)
    assert again.shares == once
    assert not again.shrink
    assert not again.wanted


@given(LIMITS, POOLS, st.integers(0, 40), st.data())
def test_what_is_given_never_exceeds_the_limit_whoever_refuses_to_shrink(limit, pools, elsewhere, data):
    plan = share_out(limit, pools, elsewhere=elsewhere)
    for worker, slots in plan.shrink.items():
        pools[worker] -= data.draw(st.integers(0, slots))  # it shrank by so many
    before = sum(pools.values()) + elsewhere
    given_now = grow(limit, pools, plan.wanted, elsewhere=elsewhere)
    assert before + sum(given_now.values()) <= max(limit, before)
    assert all(0 < slots <= plan.wanted[worker] for worker, slots in given_now.items())
