import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.model.sample import Absent, Fresh, Invalid, Stale, describe, fresh_value, last_value, sample_of


@pytest.mark.parametrize(
    ("value", "age", "kind"),
    [
        pytest.param(1.0, 0.0, Fresh, id="new"),
        pytest.param(0.0, 60.0, Fresh, id="zero is a value; the limit itself is fresh"),
        pytest.param(1.0, 60.1, Stale, id="old"),
        pytest.param(1.0, -3.0, Fresh, id="from a clock ahead of ours"),
        pytest.param(math.nan, 0.0, Invalid, id="nan"),
        pytest.param(math.inf, 0.0, Invalid, id="inf"),
        pytest.param(-math.inf, 500.0, Invalid, id="old and infinite"),
        pytest.param(1.0, math.nan, Invalid, id="of no age"),
        pytest.param(1.0, math.inf, Invalid, id="infinitely old"),
        pytest.param(1.0, -math.inf, Invalid, id="from a clock that is broken"),
    ],
)
def test_a_value_is_judged_by_its_finiteness_and_age(value, age, kind):
    assert isinstance(sample_of(value, age, fresh_for_seconds=60.0), kind)


@given(st.floats(), st.floats(allow_nan=False))
def test_what_may_be_acted_on_is_always_finite(value, age):
    sample = sample_of(value, age, fresh_for_seconds=60.0)
    for number in (fresh_value(sample), last_value(sample)):
        assert number is None or math.isfinite(number)


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (Fresh(0.5213, 1.0), "0.521 s"),
        (Stale(0.5, 48.2), "0.5 s, 48 s old"),
        (Absent("no series"), "no data (no series)"),
        (Invalid("not a finite number: nan"), "invalid (not a finite number: nan)"),
    ],
)
def test_each_kind_says_what_it_is(sample, words):
    assert describe(sample, " s") == words
