"""The token that each write carries, so that a replica that lost the lead cannot write late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fence:
    """Args: epoch counts changes of the lead; valid says whether the lead is still held, right now."""

    epoch: int
    valid: Callable[[], bool]
