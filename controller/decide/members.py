"""Who is in the fleet, and what is remembered of each: the part of a decision that outlives a gap in the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from operator import attrgetter
from typing import NamedTuple

from controller.model.memory import InstanceMemory, Memory
from controller.model.snapshot import Instance, Known, ServiceSnapshot


class Member(NamedTuple):
    """One instance as routing sees it.

    Args:
        seen: as observed in this tick; None when it is not listed but not known to be gone either.
        memory: what is remembered of it, already cleared if its pod is another pod now.
        prior: its weight in the ranking that stands; None when it has none.
    """

    name: str
    seen: Instance | None
    memory: InstanceMemory
    prior: float | None

    @property
    def routable(self) -> bool:
        """Whether requests may be sent to it, as far as known. Nothing known counts as yes: silence takes nobody out."""
        return self.memory.routable is not False


NEVER_SEEN = InstanceMemory()


def members(service: ServiceSnapshot, memory: Memory, standing: Mapping[str, float]) -> tuple[Member, ...]:
    """Every instance that exists or may still exist, by name; `standing` are the weights that clients use now."""
    found = []
    for instance in service.instances:
        name, uid = instance.name, instance.uid
        before = memory.instances.get(name, NEVER_SEEN)
        replaced = uid != before.uid and uid is not None and before.uid is not None
        known = _update(instance, NEVER_SEEN if replaced else before, service.at)
        # Whoever is as it was before does not begin to serve now.
        if known is not before and _appears(instance, before, known, memory, standing, replaced=replaced):
            known = replace(known, serving_since=service.at)
        found.append(Member(name, instance, known, None if replaced else standing.get(name)))
    if not service.instances_complete:
        listed = {m.name for m in found}
        found += [
            Member(name, None, memory.instances.get(name, NEVER_SEEN), standing.get(name))
            for name in {*standing, *memory.instances} - listed
        ]
    found.sort(key=attrgetter("name"))
    return tuple(found)


def standing_weights(service: ServiceSnapshot, memory: Memory) -> Mapping[str, float]:
    """The weights that clients now use: what Redis holds, else what was last published.

    Redis goes first because it is what happened: a failed publish, a dry run or another leader shows there.
    """
    if isinstance(service.published, Known) and service.published.value and service.published.value.weights:
        found = service.published.value.weights
        return {name: weight for name, weight in found.items() if isfinite(weight) and weight >= 0.0}
    return memory.weights


def count_ready(service: ServiceSnapshot) -> int | None:
    """How many instances serve; None when nobody can say.

    Kubernetes' word on readiness counts. Without it, an instance counts as long as it is listed: a missed scrape, a
    target that does not answer and an answer that is no number are no lost instance.
    """
    if not service.instances_complete:
        return None
    unjudged = [i for i in service.instances if i.ready is None and not i.terminating]
    if unjudged and service.metrics_problem is not None:
        return None
    return len(unjudged) + sum(i.ready is True and not i.terminating for i in service.instances)


def _appears(
    instance: Instance,
    before: InstanceMemory,
    known: InstanceMemory,
    memory: Memory,
    standing: Mapping[str, float],
    *,
    replaced: bool,
) -> bool:
    """Whether it begins to serve just now. After a restart nobody does: then only the ranking knows who is new."""
    if known.routable is False or not (memory.at is not None or standing):
        return False
    if replaced or before.routable is False:
        return True
    return instance.name not in memory.instances and not standing.get(instance.name)


def _update(instance: Instance, before: InstanceMemory, now: float) -> InstanceMemory:
    routable = (
        False
        if instance.terminating or instance.drain
        else before.routable
        if instance.ready is None
        else instance.ready
    )
    uid = before.uid if instance.uid is None else instance.uid
    endpoint = before.endpoint if instance.endpoint is None else instance.endpoint
    same = uid == before.uid and endpoint == before.endpoint and routable == before.routable
    if same and before.first_seen is not None:
        return before
    return replace(
        before,
        uid=uid,
        first_seen=now if before.first_seen is None else before.first_seen,
        endpoint=endpoint,
        routable=routable,
    )
