"""One reason for a least number of replicas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Floor:
    """At least so many replicas, and why, in words."""

    replicas: int
    reason: str


def highest(floors: Iterable[Floor | None]) -> Floor | None:
    """The largest of them, the first among equals; None when there is none."""
    return max((f for f in floors if f is not None), key=lambda f: f.replicas, default=None)
