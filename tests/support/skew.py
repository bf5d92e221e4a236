"""Processes whose wall clock is wrong, by libfaketime (Debian's package `faketime`); their monotonic clock runs as ever."""

import os
import platform
from pathlib import Path

import pytest

SKEWS = ("+1h", "-1h", "+20s", "-20s")
PATCH = Path(__file__).parent / "skewed"


def library() -> Path | None:
    """Where libfaketime is installed; None where it is not."""
    places = [f"/usr/lib/{platform.machine()}-linux-gnu", "/usr/lib", "/usr/lib64", "/usr/local/lib"]
    return next((found for place in places if (found := Path(place, "faketime", "libfaketimeMT.so.1")).exists()), None)


def needs_skew() -> Path:
    """The library, or a skip that says what to install; with NO_SKIPS=1 a failure."""
    found = library()
    if found is None:
        pytest.skip("no libfaketime: wrong clocks were not tested (Debian, Ubuntu: apt-get install faketime)")
    return found


def skewed(skew: str | None) -> dict[str, str]:
    """The environment of a Python process whose wall clock is off by `skew`, for example `-20s`; None: by nothing.

    libfaketime 0.9.10 moves the end of absolute sleeps by the skew even on a monotonic clock that it was told to leave alone:
    `clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, ...)`, and so `time.sleep` since Python 3.11, then fails with EINVAL. The
    folder `skewed` on the path makes `time.sleep` a select() instead. Nor may it fake the monotonic clock as well: then
    each lock with a timeout waits for decades.
    """
    found = library()
    if found is None or skew is None:
        return dict(os.environ)
    return {
        **os.environ,
        "LD_PRELOAD": str(found),
        "FAKETIME": skew,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": str(PATCH),
    }
