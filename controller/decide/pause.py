"""The annotation `trimtab/paused`: a person's word on an HPA, read anew each tick, no state kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?\s*(?:([Zz])|([+-])(\d\d):?(\d\d))", re.ASCII
)
_NUMBER = re.compile(r"\d{1,12}(\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pause:
    """What must not be done now, and why, in words."""

    lowering: bool
    raising: bool
    why: str


NOT_PAUSED = Pause(lowering=False, raising=False, why="")


def parse_pause(text: str | None, now: float) -> Pause:
    """Read `trimtab/paused`.

    `true` or `all` holds everything, `in` holds lowering (no scaling in), `out` holds raising, `false` or empty nothing.
    A time holds everything until then: RFC 3339 with an offset, or seconds since the epoch. Anything else holds
    everything: somebody wanted a pause and wrote it wrong.
    """
    word = "" if text is None else text.strip().lower()
    if word in {"", "false", "no", "none"}:
        return NOT_PAUSED
    if word in {"in", "out"}:
        return Pause(lowering=word == "in", raising=word == "out", why=f"paused by trimtab/paused: {word}")
    until = _instant(word)
    if until is not None:
        return Pause(lowering=True, raising=True, why=f"paused until {text}") if now < until else NOT_PAUSED
    if word in {"true", "all", "yes"}:
        return Pause(lowering=True, raising=True, why=f"paused by trimtab/paused: {word}")
    why = f"paused: trimtab/paused {text!r} is none of true, all, in, out, false or a time such as 2026-01-31T18:00:00Z"
    return Pause(lowering=True, raising=True, why=why)


def _instant(word: str) -> float | None:
    """Seconds since the epoch, or None; calendar sums by hand because decide/ has no clock module."""
    if _NUMBER.fullmatch(word):
        return float(word)
    match = _INSTANT.fullmatch(word)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour <= 23 and minute <= 59 and second <= 60):
        return None
    seconds = float(_days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second)
    if match.group(8):
        offset = int(match.group(9)) * 3600 + int(match.group(10)) * 60
        seconds -= offset if match.group(8) == "+" else -offset
    return seconds


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar, with years that begin in March so that leap days come last."""
    y = year - (month <= 2)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return 365 * y + y // 4 - y // 100 + y // 400 + day_of_year - 719468
