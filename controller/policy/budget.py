"""A budget that several policies share, as users write it: `kind: Budget` beside the policies."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from controller.policy.schema import DNS_LABEL, DNS_NAME, Replicas
from controller.policy.section import Section

POLICY_KEY = rf"{DNS_LABEL.removesuffix('$')}/{DNS_NAME.removeprefix('^')}"

Units = Annotated[int, Field(ge=1, le=10_000_000)]


class Share(Section):
    """One policy's part in a budget."""

    policy: Annotated[str, Field(pattern=POLICY_KEY)] = Field(description="The policy, as namespace/name.")
    cost: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1, description="Units that one replica costs, such as its GPUs."
    )
    priority: Annotated[float, Field(gt=0, le=1000)] = Field(
        1.0, description="How much a missed SLO of this policy counts against the others'."
    )
    guaranteed: Replicas | None = Field(
        None, description="Replicas that are never given to others; default, and at least, the policy's min.floor."
    )


class BudgetSpec(Section):
    """How much there is, and who shares it."""

    units: Units = Field(description="What all policies together may cost, in replicas or any other unit.")
    policies: Annotated[list[Share], Field(min_length=1)] = Field(description="Who shares it; each policy once.")

    @model_validator(mode="after")
    def _consistent(self) -> BudgetSpec:
        twice = [policy for policy, count in Counter(share.policy for share in self.policies).items() if count > 1]
        if twice:
            raise ValueError(f"policy {twice[0]} is listed twice")
        promised = sum((share.guaranteed or 0) * share.cost for share in self.policies)
        if promised > self.units:
            raise ValueError(f"the guaranteed replicas cost {promised} units, and there are {self.units}")
        return self


class BudgetMetadata(Section):
    """How reasons name it."""

    name: Annotated[str, Field(pattern=DNS_NAME)] = Field(description="Named in reasons, unique among budgets.")


class Budget(Section):
    """Replicas, or what they cost, shared by several policies."""

    apiVersion: Literal["trimtab/v1"] = Field(description="Version of this schema.")
    kind: Literal["Budget"] = Field(description="Always Budget.")
    metadata: BudgetMetadata = Field(description="How reasons name it.")
    spec: BudgetSpec = Field(description="How much there is, and who shares it.")
