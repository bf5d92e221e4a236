"""`scaling.behavior`: the HPA's own `spec.behavior`, checked as the API server would check it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from controller.policy.quantity import Ratio
from controller.policy.section import Section

LONGEST_WINDOW_SECONDS = 3600
LONGEST_PERIOD_SECONDS = 1800


class RatePolicy(Section):
    """How much the HPA may add or remove in a period."""

    type: Literal["Pods", "Percent"] = Field(description="What `value` counts: pods, or percent of the replicas.")
    value: Annotated[int, Field(ge=1, le=2_147_483_647)] = Field(description="The most that may change in the period.")
    periodSeconds: Annotated[int, Field(ge=1, le=LONGEST_PERIOD_SECONDS)] = Field(
        description="The period, at most 1800."
    )


class ScaleUp(Section):
    """How the HPA may add replicas. It is sent whole; what is left out is Kubernetes' default."""

    stabilizationWindowSeconds: Annotated[int, Field(ge=0, le=LONGEST_WINDOW_SECONDS)] = Field(
        0, description="The smallest recommendation of so long counts, at most 3600."
    )
    selectPolicy: Literal["Max", "Min", "Disabled"] = Field("Max", description="Which policy counts; Disabled: none.")
    policies: Annotated[list[RatePolicy], Field(min_length=1)] = Field(
        default_factory=lambda: [
            RatePolicy(type="Pods", value=4, periodSeconds=15),
            RatePolicy(type="Percent", value=100, periodSeconds=15),
        ],
        description="Rates; default 4 pods or 100 % in 15 s.",
    )
    tolerance: Ratio | None = Field(
        None, description="Change of the metric that is ignored; the server's own is 0.1. Needs Kubernetes 1.35."
    )


class ScaleDown(Section):
    """How the HPA may remove replicas. It is sent whole; what is left out is Kubernetes' default."""

    stabilizationWindowSeconds: Annotated[int, Field(ge=0, le=LONGEST_WINDOW_SECONDS)] | None = Field(
        None, description="The largest recommendation of so long counts, at most 3600; the controller's own is 300."
    )
    selectPolicy: Literal["Max", "Min", "Disabled"] = Field("Max", description="Which policy counts; Disabled: none.")
    policies: Annotated[list[RatePolicy], Field(min_length=1)] = Field(
        default_factory=lambda: [RatePolicy(type="Percent", value=100, periodSeconds=15)],
        description="Rates; default 100 % in 15 s.",
    )
    tolerance: Ratio | None = Field(
        None, description="Change of the metric that is ignored; the server's own is 0.1. Needs Kubernetes 1.35."
    )


def _says_something(behavior: Behavior) -> Behavior:
    if behavior.scaleUp is None and behavior.scaleDown is None:
        raise ValueError("give scaleUp, scaleDown or both; leave behavior out to leave the HPA's alone")
    return behavior


class Behavior(Section):
    """The HPA's own speed. A side that is left out is left alone."""

    scaleUp: ScaleUp | None = Field(None, description="How replicas may be added; omitted: left as it is.")
    scaleDown: ScaleDown | None = Field(None, description="How replicas may be removed; omitted: left as it is.")


GivenBehavior = Annotated[Behavior, AfterValidator(_says_something)]
