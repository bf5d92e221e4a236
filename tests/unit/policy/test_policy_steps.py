"""How far a bound may move at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.policy.steps import Steps


@pytest.mark.parametrize(
    ("steps", "bound", "step"),
    [
        pytest.param({}, 3, 2, id="at least two"),
        pytest.param({}, 10, 2, id="a fifth of ten"),
        pytest.param({}, 11, 3, id="rounded up"),
        pytest.param({}, 200, 40, id="a fifth of a large fleet"),
        pytest.param({"replicas": 1}, 200, 1, id="replicas alone mean just that many"),
        pytest.param({"replicas": 4, "percent": 10}, 30, 4, id="replicas where they are more"),
        pytest.param({"replicas": 4, "percent": 10}, 50, 5, id="percent where they are"),
        pytest.param({"percent": 0}, 200, 2, id="no percent"),
    ],
)
def test_the_largest_step(steps, bound, step):
    assert Steps(**steps).of(bound) == step


given_steps = st.builds(
    lambda r, p: Steps(**({} if r is None else {"replicas": r}), **({} if p is None else {"percent": p})),
    st.none() | st.integers(1, 30),
    st.none() | st.integers(0, 100),
)


@given(given_steps, st.integers(0, 100_000))
def test_one_step_from_below_reaches_it(steps, bound):
    below = steps.under(bound)
    assert below >= 0
    assert below < bound or bound == 0
    assert below + steps.of(below) >= bound
    higher = steps.of(bound + 1) >= steps.of(bound)
    assert higher, "a larger bound never moves by less"
