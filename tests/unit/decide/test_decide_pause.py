from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.pause import parse_pause

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("text", "lowering", "raising"),
    [
        (None, False, False),
        ("", False, False),
        ("false", False, False),
        ("true", True, True),
        (" All ", True, True),
        ("in", True, False),
        ("out", False, True),
        ("1790000001", True, True),
        ("1789999999", False, False),
        ("2026-09-21T14:13:21Z", True, True),
        ("2026-09-21T14:13:19Z", False, False),
        ("2026-09-21T16:13:21+02:00", True, True),
        ("2026-09-21T16:13:19+02:00", False, False),
        ("2026-09-21 14:13:21", True, True),
        ("2026-13-01T00:00:00Z", True, True),
        ("tomorrow", True, True),
    ],
)
def test_pause(text, lowering, raising):
    pause = parse_pause(text, NOW)
    assert (pause.lowering, pause.raising) == (lowering, raising)
    assert bool(pause.why) == (lowering or raising)


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001
def test_instants_are_those_of_the_calendar(moment):
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    text = moment.isoformat()
    assert parse_pause(text, moment.timestamp() - 1).raising
    assert not parse_pause(text, moment.timestamp()).raising
