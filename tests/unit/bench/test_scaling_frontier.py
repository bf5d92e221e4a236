"""What the plain HPAs would have needed, and which traces are held to which target."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scaling import synthetic
from bench.scaling.frontier import at_hours, at_share, ratio
from bench.scaling.season import has_season
from bench.scaling.traces import LEAST_MEAN, read
from bench.scaling.world import Outcome

FRONTIER = [Outcome(100.0, 0.01), Outcome(80.0, 0.04), Outcome(60.0, 0.64)]


@pytest.mark.parametrize(
    ("hours", "share"),
    [
        pytest.param(100.0, 0.01, id="the dearest"),
        pytest.param(80.0, 0.04, id="one of them"),
        pytest.param(90.0, 0.02, id="between, by decades"),
        pytest.param(50.0, 0.64, id="cheaper than all: the cheapest one's"),
        pytest.param(101.0, None, id="dearer than all: nobody to compare with"),
    ],
)
def test_the_share_at_the_same_hours(hours, share):
    assert at_hours(FRONTIER, hours) == (None if share is None else pytest.approx(share))


@pytest.mark.parametrize(
    ("share", "hours"),
    [
        pytest.param(0.04, 80.0, id="one of them"),
        pytest.param(0.02, 90.0, id="between"),
        pytest.param(0.0, 100.0, id="better than all: the dearest one's"),
        pytest.param(0.7, None, id="worse than all"),
    ],
)
def test_the_hours_at_the_same_share(share, hours):
    assert at_share(FRONTIER, share) == (None if hours is None else pytest.approx(hours))


def test_of_those_that_miss_nothing_the_cheapest_counts():
    assert at_share([Outcome(100.0, 0.0), Outcome(80.0, 0.0), Outcome(60.0, 0.1)], 0.0) == 80.0


@given(st.floats(60.0, 100.0))
def test_the_two_ways_agree(hours):
    share = at_hours(FRONTIER, hours)
    assert share is not None
    assert at_share(FRONTIER, share) == pytest.approx(hours)


def test_a_ratio_to_nothing_is_none():
    assert ratio(1.0, None) is None
    assert ratio(1.0, 0.0) is None
    assert ratio(1.0, 2.0) == 0.5


@pytest.mark.parametrize(
    ("name", "season"),
    [
        ("season:1", True),
        ("season:2", True),
        ("jobs:1", True),
        ("noise:1", False),
        ("hump:1", False),
        ("steps:1", False),
    ],
)
def test_a_daily_season_is_what_the_hour_tells(name, season):
    assert has_season(synthetic.make(f"{synthetic.PREFIX}{name}", 14.0)) is season


def test_a_trace_is_made_of_its_seed():
    first, again, other = (synthetic.make(f"{synthetic.PREFIX}season:{s}", 2.0) for s in (1, 1, 2))
    assert first == again
    assert first.rate != other.rate


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        pytest.param("t_s,req_per_s,active_clients\n0,100,3\n600,200,4\n", (100.0, 150.0), id="rates"),
        pytest.param("100\n200\n300\n", (100.0, 150.0), id="one a second"),
        pytest.param("100\n200\n\n", (100.0, 150.0), id="a blank line at the end"),
        pytest.param("t_s,req_per_s\n0,0\n600,0\n\n", (0.0, 0.0), id="no traffic at all"),
    ],
)
def test_a_trace_is_read_and_linear_in_between(tmp_path, text, rates):
    path = tmp_path / "trace"
    path.write_text(text)
    trace = read(path, 14.0)
    half = (trace.at[1] - trace.at[0]) / 2.0
    assert (trace(0.0), trace(half)) == pytest.approx(rates)


def test_requests_are_counted_by_the_minute_and_scaled_up(tmp_path):
    path = tmp_path / "trace"
    rows = [f"2023-11-16 18:{minute:02}:{second:02}.1234567,1,1" for minute in range(10) for second in range(0, 60, 6)]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    trace = read(path, 14.0)
    assert set(trace.rate) == {10.0 / 60.0}
    assert trace(200.0) == pytest.approx(LEAST_MEAN)


def test_a_trace_is_cut_after_its_days(tmp_path):
    path = tmp_path / "trace"
    path.write_text("t_s,req_per_s\n" + "".join(f"{600 * n},100\n" for n in range(500)))
    assert read(path, 1.0).seconds == 86400.0
