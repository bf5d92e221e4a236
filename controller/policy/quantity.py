"""Durations and ratios as people write them: `500ms`, `15s`, `2m`, `1%`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 365 * 86400.0
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")


def duration_seconds(text: object) -> float:
    """Seconds of a duration such as `500ms`, `15s`, `1m30s`, `2h`.

    Raises:
        ValueError: the unit is missing or unknown; the message says what a duration looks like.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise ValueError(f"a duration needs a unit, such as {text:.15g}s")
    if not isinstance(text, str):
        raise ValueError("a duration is text such as 500ms, 15s, 2m or 1h")
    parts = list(_DURATION.finditer(text.strip()))
    if not parts or "".join(part.group() for part in parts) != text.strip():
        raise ValueError(f"{_cut(text)} is no duration; write one such as 500ms, 15s, 2m or 1h")
    seconds = sum(float(part.group(1)) * _UNITS[part.group(2)] for part in parts)
    if seconds > _LONGEST:
        raise ValueError(f"{_cut(text)} is longer than a year")
    return seconds


def at_least(lowest: float) -> Callable[[float], float]:
    """A check that a duration is not shorter than so many seconds."""

    def check(seconds: float) -> float:
        if seconds < lowest:
            raise ValueError(f"must be at least {duration_text(lowest)}")
        return seconds

    return check


def at_most(longest: float) -> Callable[[float], float]:
    """A check that a duration is not longer than so many seconds."""

    def check(seconds: float) -> float:
        if seconds > longest:
            raise ValueError(f"must be at most {duration_text(longest)}")
        return seconds

    return check


def duration_text(seconds: float) -> str:
    """A duration as people write it: 0.5 is `500ms`, 60 is `60s`."""
    return f"{seconds:.15g}s" if seconds >= 1 or seconds == 0 else f"{seconds * 1000:.15g}ms"


def _cut(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def ratio(value: object) -> float:
    """A ratio in 0..1 from `1%` or `0.01`.

    Raises:
        ValueError: neither, or outside 0..1.
    """
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value.strip())):
        number = float(match.group(1)) / 100.0
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    else:
        raise ValueError("a ratio is a percentage such as 1% or a number between 0 and 1")
    if not math.isfinite(number) or not 0.0 <= number <= 1.0:
        hint = f"; write {value}% if percent is meant" if isinstance(value, int | float) and 1 < value <= 100 else ""
        raise ValueError(f"a ratio lies between 0 and 1 (0% and 100%), not at {_cut(str(value))}{hint}")
    return number


Duration = Annotated[
    float,
    BeforeValidator(duration_seconds, json_schema_input_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "examples": ["500ms", "15s", "2m"]}),
]
"""Seconds, written with a unit."""

Ratio = Annotated[
    float,
    BeforeValidator(ratio),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": r"^\d+(\.\d+)?%$"}],
            "examples": ["1%", 0.01],
        }
    ),
]
"""0..1, written as a percentage or a number."""
