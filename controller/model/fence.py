"""What lets a replica act: a number that older leaders cannot have, and a question to ask before each write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ANY_EPOCH = 0
"""The epoch of a replica without election: Redis goes on with the epoch that it has stored."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to act, as it was when asked for.

    Args:
        epoch: grows with each change of leader; Redis refuses an older one.
        valid: whether this replica still leads, asked before each write; reads a clock, no network.
    """

    epoch: int
    valid: Callable[[], bool]
