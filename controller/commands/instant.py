"""`--at TIME` as people write it: RFC 3339, `14:05` of today, `10m ago`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from controller.errors import ConfigError

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])(?:\s+ago)?")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def instant(text: str, now: datetime) -> float:
    """Seconds since the epoch. A clock time is of today in `now`'s time zone; RFC 3339 without an offset is too.

    Raises:
        ConfigError: the text is none of the three.
    """
    words = text.strip()
    if match := _AGO.fullmatch(words):
        return (now - timedelta(seconds=float(match[1]) * _SECONDS[match[2]])).timestamp()
    try:
        if match := _CLOCK.fullmatch(words):
            hour, minute, second = (int(part or 0) for part in match.groups())
            return now.replace(hour=hour, minute=minute, second=second, microsecond=0).timestamp()
        moment = datetime.fromisoformat(words)
    except ValueError:
        raise ConfigError(
            f"--at {text!r}: no time; write 2026-11-27T14:05:00Z, 14:05 (today), or 10m ago (s, m, h, d)"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)).timestamp()


def ago(seconds: float) -> str:
    """An age in words: `12 s`, `5 min`, `3 h`, `2 days`."""
    for limit, unit, name in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172800.0, 3600.0, "h")):
        if seconds < limit:
            return f"{max(seconds, 0.0) / unit:.0f} {name}"
    return f"{seconds / 86400.0:.0f} days"
