"""`spec.behavior`: read, written and compared as the API server does it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.model.behavior import Direction, RatePolicy, Select, Sides, as_json, missing, parse, quantity

DOWN = {
    "stabilizationWindowSeconds": 60,
    "selectPolicy": "Min",
    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}],
    "tolerance": "50m",
}


def rates():
    kinds, periods = st.sampled_from(["Pods", "Percent"]), st.integers(1, 1800).map(float)
    return st.builds(RatePolicy, kinds, st.integers(1, 10_000), periods)


def directions():
    return st.builds(
        Direction,
        st.lists(rates(), min_size=1, max_size=3).map(tuple),
        st.none() | st.integers(0, 3600).map(float),
        st.sampled_from(Select),
        st.none() | st.integers(0, 1000).map(lambda thousandths: thousandths / 1000),
    )


@given(st.builds(Sides, st.none() | directions(), st.none() | directions()))
def test_what_is_written_is_read_back_and_nothing_of_it_is_missing(sides):
    assert parse(as_json(sides)) == sides
    assert missing(parse(as_json(sides)), sides) == frozenset()
    assert missing(Sides(), sides) == sides.fields()


@pytest.mark.parametrize(
    ("live", "gone"),
    [
        pytest.param(DOWN, set(), id="as it is"),
        pytest.param(DOWN | {"tolerance": "0.05"}, set(), id="the same tolerance, written otherwise"),
        pytest.param(DOWN | {"tolerance": None}, {"scaleDown.tolerance"}, id="no tolerance"),
        pytest.param(DOWN | {"selectPolicy": "Max"}, {"scaleDown.selectPolicy"}, id="another choice"),
        pytest.param(
            DOWN | {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 30}]},
            {"scaleDown.policies"},
            id="another rate",
        ),
    ],
)
def test_what_the_live_one_lacks(live, gone):
    assert missing(parse({"scaleDown": live}), parse({"scaleDown": DOWN})) == gone


@pytest.mark.parametrize(("text", "value"), [("50m", 0.05), ("0.1", 0.1), ("1", 1.0), ("500u", 0.0005), (0.2, 0.2)])
def test_quantities(text, value):
    assert quantity(text) == pytest.approx(value)


def test_what_is_no_quantity():
    with pytest.raises(ValueError, match="could not convert"):
        quantity("5Gi")
