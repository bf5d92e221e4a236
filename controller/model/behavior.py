"""`spec.behavior` of an HPA: how fast the HPA itself may move, as values and as the API server's JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isclose
from typing import Any, Literal

_SIDES = ("scaleUp", "scaleDown")
_SUFFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "k": 1e3}


class Select(StrEnum):
    """Which policy counts when there are several: the one that allows most, or least, or no change at all."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """At most `value` pods, or percent of what ran, in `period_seconds`."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_seconds: float


@dataclass(frozen=True, slots=True)
class Direction:
    """One side of `behavior`. `window_seconds` None means the controller's own, which only exists downwards."""

    policies: tuple[RatePolicy, ...]
    window_seconds: float | None = None
    select: Select = Select.MAX
    tolerance: float | None = None


DEFAULT_UP = Direction((RatePolicy("Pods", 4, 15.0), RatePolicy("Percent", 100, 15.0)), window_seconds=0.0)
DEFAULT_DOWN = Direction((RatePolicy("Percent", 100, 15.0),))


@dataclass(frozen=True, slots=True)
class Sides:
    """What is said of `behavior`, by a person or by the server; a side of which nothing is said is None."""

    up: Direction | None = None
    down: Direction | None = None

    def __bool__(self) -> bool:
        return self.up is not None or self.down is not None

    def sides(self) -> Iterator[tuple[str, Direction]]:
        """Those of which something is said, by their field name."""
        for name, side in zip(_SIDES, (self.up, self.down), strict=True):
            if side is not None:
                yield name, side

    def fields(self) -> frozenset[str]:
        """The fields that an apply of this owns, such as `scaleUp.policies`."""
        return frozenset(f"{name}.{field}" for name, side in self.sides() for field in _fields(side))


def stands_in(live: Sides, wanted: Sides) -> bool:
    """Whether the live behaviour already says all that is wanted; what is not wanted may be anything."""
    return not missing(live, wanted)


def missing(live: Sides, wanted: Sides) -> frozenset[str]:
    """The fields in which the live behaviour is not as wanted, such as `scaleUp.tolerance`."""
    held = dict(live.sides())
    return frozenset(
        f"{name}.{field}"
        for name, side in wanted.sides()
        for field, value in _fields(side).items()
        if name not in held or not _alike(_fields(held[name]).get(field), value)
    )


def parse(raw: Mapping[str, Any] | None) -> Sides:
    """From `spec.behavior` as the server writes it."""
    given = raw or {}
    return Sides(*(_direction(given[name]) if given.get(name) else None for name in _SIDES))


def as_json(sides: Sides) -> dict[str, Any]:
    """As the server reads it."""
    return {name: _fields(side) for name, side in sides.sides()}


def show(sides: Sides) -> str:
    """`scaleDown at most 1 pods/60 s, window 300 s; scaleUp ...`, for people."""
    return "; ".join(f"{name} {_show(side)}" for name, side in sides.sides()) or "the server's defaults"


def _show(side: Direction) -> str:
    rates = [f"{p.value}{' %' if p.kind == 'Percent' else ' pods'}/{p.period_seconds:g} s" for p in side.policies]
    words = ["disabled" if side.select is Select.DISABLED else f"{side.select.lower()} of {', '.join(rates)}"]
    words += [] if side.window_seconds is None else [f"window {side.window_seconds:g} s"]
    words += [] if side.tolerance is None else [f"tolerance {side.tolerance:g}"]
    return ", ".join(words)


def _fields(side: Direction) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "selectPolicy": side.select.value,
        "policies": [
            {"type": policy.kind, "value": policy.value, "periodSeconds": int(policy.period_seconds)}
            for policy in side.policies
        ],
    }
    if side.window_seconds is not None:
        fields["stabilizationWindowSeconds"] = int(side.window_seconds)
    if side.tolerance is not None:
        fields["tolerance"] = f"{side.tolerance:.9f}".rstrip("0").rstrip(".")
    return fields


def _alike(held: Any, wanted: Any) -> bool:
    """The server writes a tolerance of 0.05 as `50m`."""
    if isinstance(held, str) and isinstance(wanted, str) and held != wanted:
        try:
            return isclose(quantity(held), quantity(wanted), abs_tol=1e-9)
        except ValueError:
            return False
    return bool(held == wanted)


def _direction(raw: Mapping[str, Any]) -> Direction:
    window, tolerance = raw.get("stabilizationWindowSeconds"), raw.get("tolerance")
    return Direction(
        policies=tuple(RatePolicy(p["type"], p["value"], float(p["periodSeconds"])) for p in raw.get("policies") or ()),
        window_seconds=None if window is None else float(window),
        select=Select(raw.get("selectPolicy") or "Max"),
        tolerance=None if tolerance is None else quantity(tolerance),
    )


def quantity(value: Any) -> float:
    """A Kubernetes quantity without a binary suffix: `50m` is 0.05.

    Raises:
        ValueError: it is none.
    """
    text = str(value).strip()
    number = text.rstrip("munk") if text[-1:] in _SUFFIXES else text
    return float(number) * _SUFFIXES[text[len(number) :]]
