"""Budgets against the policies that share them: what neither shows alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from controller.errors import Fault
from controller.policy.budget import Budget, Share
from controller.policy.cross import Source
from controller.policy.schema import LoadPolicy
from controller.policy.words import did_you_mean


def budget_faults(
    budgets: Sequence[tuple[Source, Budget]], policies: Mapping[str, LoadPolicy | None]
) -> Iterator[Fault]:
    """Unknown policies, policies without scaling, shares that contradict them, and a policy or a name in two budgets.

    Args:
        budgets: the valid ones.
        policies: by `namespace/name`; None for one with faults of its own, which is known but says nothing more.
    """
    names: dict[str, Source] = {}
    holders: dict[str, str] = {}
    for source, budget in budgets:
        name = budget.metadata.name
        if names.setdefault(name, source) is not source:
            yield source.fault(("metadata", "name"), f"there is another budget {name} in {names[name].file}")
        for index, share in enumerate(budget.spec.policies):
            place = ("spec", "policies", index)
            if share.policy not in policies:
                yield source.fault(
                    (*place, "policy"), f"there is no policy {share.policy}{did_you_mean(share.policy, policies)}"
                )
            elif share.policy in holders:
                yield source.fault((*place, "policy"), f"{share.policy} is in budget {holders[share.policy]} already")
            else:
                yield from _of_one(source, index, share, policies[share.policy])
            holders.setdefault(share.policy, name)
        promised = sum((_guaranteed(share, policies.get(share.policy)) * share.cost) for share in budget.spec.policies)
        if promised > budget.spec.units:
            message = f"what is guaranteed costs {promised} units, with the policies' min.floor, and there are {budget.spec.units}"
            yield source.fault(("spec", "units"), message)


def with_guarantees(budget: Budget, policies: Mapping[str, LoadPolicy | None]) -> Budget:
    """The budget with each guarantee filled in."""
    shares = [
        share.model_copy(update={"guaranteed": _guaranteed(share, policies.get(share.policy))})
        for share in budget.spec.policies
    ]
    return budget.model_copy(update={"spec": budget.spec.model_copy(update={"policies": shares})})


def _of_one(source: Source, index: int, share: Share, policy: LoadPolicy | None) -> Iterator[Fault]:
    place = ("spec", "policies", index)
    if policy is None:
        return
    scaling = policy.spec.scaling
    if scaling is None:
        yield source.fault((*place, "policy"), f"{share.policy} has no scaling section, so there is nothing to share")
    elif share.guaranteed is not None and share.guaranteed < scaling.min.floor:
        message = (
            f"guaranteed {share.guaranteed} is below the policy's min.floor {scaling.min.floor}, which always runs"
        )
        yield source.fault((*place, "guaranteed"), message)


def _guaranteed(share: Share, policy: LoadPolicy | None) -> int:
    if share.guaranteed is not None:
        return share.guaranteed
    return 1 if policy is None or policy.spec.scaling is None else policy.spec.scaling.min.floor
