"""What came of one plan's effects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """How one effect ended."""

    DONE = "done"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    """We changed our mind, or it is not ours to write: no fault, and not an error line."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One effect of one policy: `actuator` is publish, output, hpa, drain or event."""

    policy: str
    actuator: str
    result: Result
    detail: str = ""
    system: str = ""
    """The system that failed, so that one outage is logged once, not once per policy."""
