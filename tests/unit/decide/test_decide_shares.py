from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.shares import fill, project


@pytest.mark.parametrize(
    ("targets", "low", "high", "expected"),
    [
        pytest.param((3, 1), (0, 0), (1, 1), (0.75, 0.25), id="in proportion"),
        pytest.param((3, 1), (0, 0.4), (1, 1), (0.6, 0.4), id="lower bound"),
        pytest.param((3, 1), (0, 0), (0.5, 1), (0.5, 0.5), id="upper bound"),
        pytest.param((0, 1), (0.5, 0.25), (0.8, 0.4), (0.6, 0.4), id="a target of nothing gives way within its bounds"),
        pytest.param((3, 1), (0.9, 0.9), (1, 1), (0.5, 0.5), id="bounds that cannot be kept give way evenly"),
    ],
)
def test_project(targets, low, high, expected):
    shares = project(*(dict(zip("ab", row, strict=True)) for row in (targets, low, high)), 1.0)
    assert tuple(shares[n] for n in "ab") == pytest.approx(expected)


rows = st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=8)


@given(rows)
def test_bounds_that_can_be_kept_are_kept(rows):
    names = range(len(rows))
    low = {n: min(a, b) / len(rows) for n, (_, a, b) in zip(names, rows, strict=True)}
    high = {n: 1.0 / len(rows) + max(a, b) for n, (_, a, b) in zip(names, rows, strict=True)}
    shares = project({n: t for n, (t, _, _) in zip(names, rows, strict=True)}, low, high, 1.0)
    assert fsum(shares.values()) == pytest.approx(1.0, abs=1e-12)
    assert all(low[n] - 1e-9 <= shares[n] <= high[n] + 1e-9 for n in names)


@pytest.mark.parametrize(
    ("capacities", "backlogs", "amount", "expected"),
    [
        pytest.param((2, 1), (0, 0), 30, (20, 10), id="nothing waits: by capacity"),
        pytest.param((1, 1), (10, 0), 30, (10, 20), id="levels are made equal"),
        pytest.param((1, 1), (50, 0), 30, (0, 30), id="who has more than its level gets nothing"),
        pytest.param((1, 1), (10, 0), 1e9, (5e8, 5e8), id="old data: by capacity"),
    ],
)
def test_fill(capacities, backlogs, amount, expected):
    poured = fill(dict(zip("ab", capacities, strict=True)), dict(zip("ab", backlogs, strict=True)), amount)
    assert tuple(poured.values()) == pytest.approx(expected, rel=1e-6)


@given(st.lists(st.tuples(st.floats(0.01, 100.0), st.floats(0.0, 1000.0)), min_size=1, max_size=8), st.floats(0.1, 1e4))
def test_all_is_poured_and_nothing_is_taken_away(rows, amount):
    poured = fill({n: c for n, (c, _) in enumerate(rows)}, {n: b for n, (_, b) in enumerate(rows)}, amount)
    assert fsum(poured.values()) == pytest.approx(amount, rel=1e-6)
    assert min(poured.values()) >= 0.0
