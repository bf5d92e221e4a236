"""Wall clocks: time zones, times of day and dates as people write them, and the instants they stand for.

The only room that knows calendars. Zone rules are data that come with the interpreter's host or the `tzdata` package;
nothing here reads a clock, the instant is an argument.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TIME_OF_DAY = r"^(([01]?[0-9]|2[0-3]):[0-5][0-9]|24:00)$"
CALENDAR_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_NO_PLACE = {"localtime", "posixrules", "Factory"}


@dataclass(frozen=True, slots=True)
class Window:
    """One opening of a schedule: `opens_at` <= t < `closes_at`, seconds since the epoch."""

    opens_at: float
    closes_at: float


def known_zone(name: str) -> str:
    """That name, if it is one of an IANA time zone.

    Raises:
        ValueError: it is not; the message names near ones.
    """
    try:
        found = name not in _NO_PLACE and _zone(name) is not None
    except (KeyError, ValueError, OSError):
        found = False
    if not found:
        names = available_timezones()
        if not names:
            raise ValueError("no time zone data on this machine; install the tzdata package")
        by_end = {zone.rpartition("/")[2].lower(): zone for zone in names}
        last = name.rpartition("/")[2].lower().replace(" ", "_")
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.75) or [by_end.get(last, "")]
        hint = f"; did you mean {near[0]}?" if near[0] else ", such as Europe/Berlin or UTC"
        raise ValueError(f"{name!r} is no IANA time zone{hint}")
    return name


def known_date(text: str) -> str:
    """That text, if such a day exists.

    Raises:
        ValueError: it does not.
    """
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no day of the calendar") from None
    return text


def windows(
    *,
    days: Sequence[str],
    dates: Sequence[str],
    start: str,
    end: str,
    timezone: str,
    since: float,
    until: float,
) -> tuple[Window, ...]:
    """The openings that touch `since`..`until`, by their start.

    A day is the one on which a window opens; an end at or before the start lies on the next day. Where clocks go back,
    a time that comes twice opens at its first coming and closes at its last; where they go forward, a time that never
    comes stands for the instant of the jump. So a window is never shorter than its wall clock says.

    Args:
        days: names out of WEEKDAYS.
        dates: `2026-12-24`, beside the days.
        start: `08:00`; likewise `end`, which may be `24:00`.
        timezone: IANA name.
        since: seconds since the epoch, likewise `until`.
    """
    zone = _zone(timezone)
    opens, closes = _minutes(start), _minutes(end)
    if closes <= opens:
        closes += 24 * 60
    found = []
    # A window of yesterday may still be open, and zones differ from UTC by less than a day.
    for day in _days(since - 2 * 86400.0, until + 86400.0):
        if WEEKDAYS[day.weekday()] not in days and day.isoformat() not in dates:
            continue
        window = Window(_instant(zone, day, opens, last=False), _instant(zone, day, closes, last=True))
        if window.closes_at > since and window.opens_at <= until:
            found.append(window)
    return tuple(found)


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _minutes(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


def _days(since: float, until: float) -> Iterator[date]:
    day, last = datetime.fromtimestamp(since, UTC).date(), datetime.fromtimestamp(until, UTC).date()
    while day <= last:
        yield day
        day += timedelta(days=1)


@lru_cache(maxsize=4096)
def _instant(zone: ZoneInfo, day: date, minutes: int, *, last: bool) -> float:
    """When the clock shows so many minutes after midnight of that day: the first or the last time it does."""
    wall = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(minutes=minutes)
    first, second = (wall.replace(fold=fold).timestamp() for fold in (0, 1))
    if second >= first:
        return second if last else first
    # The clock never shows it: the offset changes somewhere between the two readings.
    low, high = second, first
    before = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1.0:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high
