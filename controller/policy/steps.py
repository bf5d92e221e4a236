"""`scaling.steps`: how far a bound moves at a time, and how often."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from controller.policy.quantity import Duration
from controller.policy.section import Section

STEP_PERCENT = 20
"""Of a bound per step, where the policy says nothing: a warm-up of three minutes at a step every 30 s is three times as many."""


class Steps(Section):
    """How fast bounds move. Raising min starts pods at once and lowering max stops them, so both go in steps."""

    replicas: Annotated[int, Field(ge=1, le=100_000)] = Field(
        2, description="Largest change of a bound per step, where `percent` of the bound is not more."
    )
    percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, description="The same in percent of the bound; default 20, or 0 where `replicas` is given."
    )
    every: Duration = Field(30.0, description="Shortest time between two raises of a bound.", validate_default=False)
    lowerEvery: Duration = Field(
        300.0, description="Shortest time between two lowerings of a bound.", validate_default=False
    )
    turnsPerHour: Annotated[int, Field(ge=1, le=1000)] = Field(
        8, description="Changes of direction of a bound per hour, after which it is only raised."
    )

    def of(self, bound: int) -> int:
        """The largest step of a bound that stands at so many replicas."""
        return max(self.replicas, -(-self._percent * bound // 100))

    def under(self, bound: int) -> int:
        """A bound from which one step up reaches this one; the lowest but for rounding. Not below 0."""
        return max(0, min(bound - self.replicas, -(-100 * bound // (100 + self._percent))))

    @property
    def _percent(self) -> int:
        if self.percent is not None:
            return self.percent
        return 0 if "replicas" in self.model_fields_set else STEP_PERCENT
