"""Which HPAs are left over: steered by this installation once, by none of its policies now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.deadline import Deadline
from controller.errors import Denied, DependencyError, NotFound
from controller.model.hpa import (
    INSTALLATION,
    MANAGED_BY,
    MANAGER,
    POLICY,
    adopted,
    annotations_of,
    metadata_of,
    owns,
    spec_of,
)
from controller.model.leftover import Leftover
from controller.model.snapshot import Known, Reading, ScaleView, Unknown
from controller.observe.hpa import view_of
from controller.observe.kubernetes import PLURALS, KubeReader, scale_of, scale_path
from controller.policy.schema import LoadPolicy, Mode

API = "/apis/autoscaling/v2"


@dataclass(frozen=True, slots=True)
class Steered:
    """What the policies in force steer: `hpas` by (namespace, name), the policy's key and whether it may write."""

    hpas: Mapping[tuple[str, str], tuple[str, bool]]

    @classmethod
    def by(cls, policies: Iterable[LoadPolicy]) -> Steered:
        """The HPAs of these policies."""
        return cls(
            {
                (policy.metadata.namespace, policy.spec.scaling.hpa): (policy.key, policy.spec.mode is Mode.ENFORCE)
                for policy in policies
                if policy.spec.scaling is not None
            }
        )


def read_leftovers(
    kube: KubeReader,
    namespaces: Sequence[str] | None,
    steered: Steered,
    *,
    installation: str,
    gone: frozenset[str],
    recent: frozenset[str] = frozenset(),
    deadline: Deadline,
) -> tuple[Leftover, ...]:
    """The leftovers of these namespaces, of all of them when None is given.

    Args:
        installation: this installation's name; HPAs that another one steered are its own affair. Empty: not known.
        gone: keys of policies that this process itself saw go, long enough ago.
        recent: keys of those that went only just now, and may come back.

    Raises:
        DependencyError: a list was not answered; one that is denied is an empty one, as it was never ours to read.
    """
    found: list[Leftover] = []
    for path in (
        [f"{API}/horizontalpodautoscalers"]
        if namespaces is None
        else [f"{API}/namespaces/{namespace}/horizontalpodautoscalers" for namespace in namespaces]
    ):
        try:
            items = kube.get(path, deadline=deadline)["items"]
        except Denied:
            if namespaces is None:
                raise
            continue
        found += [
            _leftover(kube, item, steered, deadline)
            for item in items
            if _left(item, steered, installation, gone) and annotations_of(item)[POLICY] not in recent
        ]
    return tuple(found)


def _left(item: Mapping[str, Any], steered: Steered, installation: str, gone: frozenset[str]) -> bool:
    metadata = metadata_of(item)
    policy, ours = annotations_of(item).get(POLICY), annotations_of(item).get(INSTALLATION)
    if not adopted(item) or policy is None or metadata.get("deletionTimestamp"):
        return False
    holder = steered.hpas.get((metadata["namespace"], metadata["name"]))
    if holder is not None and (holder[0] == policy or not holder[1]):
        return False
    # Another installation may well have a policy of that name, and its policies are not known here.
    return (policy in gone and ours in {None, installation}) or (bool(installation) and ours == installation)


def _leftover(kube: KubeReader, item: Mapping[str, Any], steered: Steered, deadline: Deadline) -> Leftover:
    metadata = metadata_of(item)
    namespace, name, policy = metadata["namespace"], metadata["name"], annotations_of(item)[POLICY]
    holder = steered.hpas.get((namespace, name))
    return Leftover(
        namespace=namespace,
        name=name,
        policy=policy,
        view=view_of(item, policy),
        scale=_scale(kube, item, namespace, deadline),
        bounds_owned=owns(item, ".spec.minReplicas") and owns(item, ".spec.maxReplicas"),
        created=(metadata.get("labels") or {}).get(MANAGED_BY) == MANAGER,
        successor=None if holder is None else holder[0],
    )


def _scale(kube: KubeReader, item: Mapping[str, Any], namespace: str, deadline: Deadline) -> Reading[ScaleView | None]:
    spec = spec_of(item)
    if spec.target_kind not in PLURALS:
        return Unknown(f"{spec.target_kind} is no kind that Trimtab knows")
    try:
        path = scale_path(spec.target_kind, namespace, spec.target_name)
        return Known(scale_of(kube.get(path, deadline=deadline))[0])
    except NotFound:
        return Known(None)
    except DependencyError as error:
        return Unknown(str(error))
