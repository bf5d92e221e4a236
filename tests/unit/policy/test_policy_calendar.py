from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.policy.calendar import WEEKDAYS, known_date, known_zone, windows

HOUR = 3600.0
DAY = 24 * HOUR


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def found(since, until, start, end, timezone, *, days=WEEKDAYS, dates=()):
    rows = windows(days=days, dates=dates, start=start, end=end, timezone=timezone, since=utc(since), until=utc(until))
    return [
        tuple(datetime.fromtimestamp(t, UTC).strftime("%m-%dT%H:%M") for t in (w.opens_at, w.closes_at)) for w in rows
    ]


@pytest.mark.parametrize(
    ("since", "start", "end", "timezone", "expected"),
    [
        pytest.param("2026-01-15T12:00", "08:00", "20:00", "Europe/Berlin", ("01-15T07:00", "01-15T19:00"), id="Berlin, winter"),
        pytest.param("2026-07-15T12:00", "08:00", "20:00", "Europe/Berlin", ("07-15T06:00", "07-15T18:00"), id="Berlin, summer"),
        pytest.param("2026-07-15T04:00", "08:00", "20:00", "Asia/Shanghai", ("07-15T00:00", "07-15T12:00"), id="Shanghai, no DST"),
        pytest.param("2026-01-15T04:00", "08:00", "20:00", "Asia/Shanghai", ("01-15T00:00", "01-15T12:00"), id="Shanghai, winter"),
        pytest.param("2026-03-29T12:00", "08:00", "20:00", "Europe/Berlin", ("03-29T06:00", "03-29T18:00"), id="Berlin, the day it springs"),
        pytest.param("2026-03-28T23:30", "22:00", "06:00", "Europe/Berlin", ("03-28T21:00", "03-29T04:00"), id="Berlin, overnight, one hour short"),
        pytest.param("2026-10-24T23:30", "22:00", "06:00", "Europe/Berlin", ("10-24T20:00", "10-25T05:00"), id="Berlin, overnight, one hour long"),
        pytest.param("2026-03-29T01:30", "02:30", "04:00", "Europe/Berlin", ("03-29T01:00", "03-29T02:00"), id="Berlin, opens in the gap: at the jump"),
        pytest.param("2026-03-29T00:30", "01:00", "02:30", "Europe/Berlin", ("03-29T00:00", "03-29T01:00"), id="Berlin, closes in the gap: at the jump"),
        pytest.param("2026-10-25T00:45", "02:30", "04:00", "Europe/Berlin", ("10-25T00:30", "10-25T03:00"), id="Berlin, opens twice: the first"),
        pytest.param("2026-10-25T00:45", "01:00", "02:30", "Europe/Berlin", ("10-24T23:00", "10-25T01:30"), id="Berlin, closes twice: the last"),
        pytest.param("2026-03-08T12:00", "00:00", "24:00", "America/New_York", ("03-08T05:00", "03-09T04:00"), id="New York, the short day"),
        pytest.param("2026-11-01T12:00", "00:00", "24:00", "America/New_York", ("11-01T04:00", "11-02T05:00"), id="New York, the long day"),
        pytest.param("2026-03-08T07:10", "02:15", "03:30", "America/New_York", ("03-08T07:00", "03-08T07:30"), id="New York, the gap"),
        pytest.param("2026-11-01T06:10", "01:15", "01:45", "America/New_York", ("11-01T05:15", "11-01T06:45"), id="New York, both comings"),
        pytest.param("2026-05-01T12:00", "9:00", "17:00", "UTC", ("05-01T09:00", "05-01T17:00"), id="one digit"),
        pytest.param("2026-05-01T12:00", "00:00", "12:00", "Pacific/Kiritimati", ("05-01T10:00", "05-01T22:00"), id="14 hours ahead"),
        pytest.param("2026-05-01T12:00", "00:00", "12:00", "Pacific/Pago_Pago", ("05-01T11:00", "05-01T23:00"), id="11 hours behind"),
        pytest.param("2026-04-04T15:20", "01:45", "02:15", "Australia/Lord_Howe", ("04-04T14:45", "04-04T15:45"), id="half an hour of DST"),
    ],
)  # fmt: skip
def test_a_window_in_utc(since, start, end, timezone, expected):
    assert expected in found(since, since, start, end, timezone)


@pytest.mark.parametrize(
    ("days", "dates", "expected"),
    [
        pytest.param(["mon", "wed"], (), ["05-04", "05-06"], id="days"),
        pytest.param((), ["2026-05-07"], ["05-07"], id="a date"),
        pytest.param(["mon"], ["2026-05-09", "2026-05-04"], ["05-04", "05-09"], id="both"),
        pytest.param((), ["2027-05-07"], [], id="another year"),
    ],
)
def test_which_days(days, dates, expected):
    rows = found("2026-05-04T00:00", "2026-05-10T00:00", "08:00", "20:00", "UTC", days=days, dates=dates)
    assert [opens[:5] for opens, _ in rows] == expected


def test_an_overnight_window_belongs_to_the_day_it_opens_on():
    friday = found("2026-05-09T03:00", "2026-05-09T03:00", "22:00", "06:00", "UTC", days=["fri"])
    assert friday == [("05-08T22:00", "05-09T06:00")]
    assert found("2026-05-09T03:00", "2026-05-09T03:00", "22:00", "06:00", "UTC", days=["sat"]) == []


@pytest.mark.parametrize("at", ["2026-05-08T06:00", "2026-05-07T21:00"], ids=["closed on the instant", "before"])
def test_a_window_ends_on_its_minute(at):
    assert found(at, at, "22:00", "06:00", "UTC", days=["thu"]) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("Europe/Berlim", "did you mean Europe/Berlin?", id="near"),
        pytest.param("Shanghai", "did you mean Asia/Shanghai?", id="no region"),
        pytest.param("new york", "did you mean America/New_York?", id="as spoken"),
        pytest.param("CEST+2", "is no IANA time zone", id="abbreviation"),
        pytest.param("../etc/passwd", "is no IANA time zone", id="a path"),
        pytest.param("/etc/localtime", "is no IANA time zone", id="an absolute path"),
        pytest.param("Europe", "is no IANA time zone", id="a folder"),
        pytest.param("localtime", "is no IANA time zone", id="the machine's own"),
        pytest.param("", "is no IANA time zone", id="empty"),
    ],
)
def test_unknown_zones_are_refused(name, says):
    with pytest.raises(ValueError, match="is no IANA time zone") as refused:
        known_zone(name)
    assert says in str(refused.value)


def test_a_day_that_never_was_is_refused():
    with pytest.raises(ValueError, match="no day of the calendar"):
        known_date("2026-02-30")


zones = st.sampled_from(
    ["Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe", "Africa/Casablanca"]
)
times = st.integers(0, 24 * 60 - 1).map(lambda m: f"{m // 60:02}:{m % 60:02}")


@given(zones, times, times, st.integers(0, 3 * 365).map(lambda d: utc("2025-01-01T00:00") + d * DAY))
def test_every_day_has_one_window_about_as_long_as_its_clock_says(timezone, start, end, since):
    rows = windows(days=WEEKDAYS, dates=(), start=start, end=end, timezone=timezone, since=since, until=since + 7 * DAY)
    clock = (int(end[:2]) * 60 + int(end[3:]) - int(start[:2]) * 60 - int(start[3:])) % (24 * 60) or 24 * 60
    assert 7 <= len(rows) <= 9
    for row, following in pairwise(rows):
        assert abs(row.closes_at - row.opens_at - 60 * clock) <= HOUR
        assert 22 * HOUR <= following.opens_at - row.opens_at <= 26 * HOUR
