"""Gives HPAs back whose policy is gone: seldom anything to do, so it looks only when something may have changed.

A policy counts as gone when a good set of policies has been without it for a while. A set with a fault, an empty folder and one
that cannot be read leave the last good set in force (`policy/store.py`), so they take nothing away; and a file that is only
being replaced, in a folder that is no ConfigMap, is back in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from controller.deadline import Deadline
from controller.decide.restore import Way, restore
from controller.errors import Denied, DependencyError
from controller.model.fence import Fence
from controller.model.leftover import Leftover
from controller.model.outcome import Outcome
from controller.model.plan import Plan
from controller.observe.kubernetes import KubeReader
from controller.observe.leftovers import Steered, read_leftovers
from controller.policy.schema import LoadPolicy
from controller.policy.steps import Steps

SETTLE_SECONDS = 60.0
"""So long a policy must be away before its HPA is touched."""
RETRY_SECONDS = 30.0
"""Between two looks while a look fails, or while there is something on its way."""


class GivesBack(Protocol):
    """Writes HPAs and tells people."""

    def restore(self, plans: Sequence[Plan], fence: Fence, deadline: Deadline) -> tuple[Outcome, ...]:
        """Carry the plans out; every effect fails alone."""


@dataclass(frozen=True, slots=True)
class _Gone:
    """A policy that went: from when it counts as gone, the (namespace, name) of its HPA, and how fast it moved bounds."""

    at: float
    place: tuple[str, str]
    steps: Steps


Tell = Callable[[Plan, tuple[Outcome, ...]], None]


@dataclass
class Restorer:
    """What must survive from one look to the next.

    Args:
        installation: this installation's name, from the Lease's namespace; empty: leftovers of an earlier run are not looked for.
        tell: says what was decided and what came of it.
        first: the policies in force at the start.
    """

    kube: KubeReader
    actor: GivesBack
    installation: str
    tell: Tell
    first: Sequence[LoadPolicy]
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    settle_seconds: float = SETTLE_SECONDS
    retry_seconds: float = RETRY_SECONDS
    _steered: Steered = field(init=False)
    _gone: dict[str, _Gone] = field(default_factory=dict)
    _ways: dict[tuple[str, str], Way] = field(default_factory=dict)
    _look_at: float | None = None
    _everywhere: bool = True
    _led: bool = False

    def __post_init__(self) -> None:
        self._policies = {policy.key: policy for policy in self.first}
        self._steered = Steered.by(self.first)

    def changed(self, policies: Sequence[LoadPolicy]) -> None:
        """Take note of a new good set."""
        steered = Steered.by(policies)
        at = self.clock() + self.settle_seconds
        for place, (key, _) in self._steered.hpas.items():
            if steered.hpas.get(place, ("", True))[0] != key:
                scaling = self._policies[key].spec.scaling
                self._gone[key] = _Gone(at, place, Steps() if scaling is None else scaling.steps)
        self._gone = {
            key: gone for key, gone in self._gone.items() if steered.hpas.get(gone.place, ("", True))[0] != key
        }
        self._policies, self._steered = {policy.key: policy for policy in policies}, steered
        if self._gone:
            self._look_at = at if self._look_at is None else min(self._look_at, at)

    def tick(self, fence: Fence | None, deadline: Deadline) -> None:
        """Look and take a step, if it is time; nothing is asked of the API server otherwise."""
        if fence is None:
            self._led = False
            return
        now = self.clock()
        if not self._led:  # whoever led before may have left something half-way
            self._led, self._everywhere = True, bool(self.installation)
            if self._everywhere:
                self._look_at = now + self.settle_seconds
        if self._look_at is None or now < self._look_at or deadline.expired():
            return
        self._look_at = now + self.retry_seconds
        try:
            found = self._find(now, deadline)
        except DependencyError:
            return  # the tick before has said so; the next look is due
        self._ways = {
            place: way for place, way in self._ways.items() if place in {(f.namespace, f.name) for f in found}
        }
        self._step(found, fence, deadline)
        waiting = [gone.at for gone in self._gone.values() if gone.at > now]
        if not found:
            self._everywhere = False
            self._gone = {key: gone for key, gone in self._gone.items() if gone.at > now}
            self._look_at = min(waiting, default=None)

    def _find(self, now: float, deadline: Deadline) -> tuple[Leftover, ...]:
        gone = {key: gone.place[0] for key, gone in self._gone.items() if gone.at <= now}
        everywhere = sorted({*gone.values(), *(policy.metadata.namespace for policy in self._policies.values())})
        steered, keys, recent = self._steered, frozenset(gone), frozenset(self._gone.keys() - gone.keys())
        if self._everywhere:
            try:
                return read_leftovers(
                    self.kube,
                    None,
                    steered,
                    installation=self.installation,
                    gone=keys,
                    recent=recent,
                    deadline=deadline,
                )
            except Denied:
                pass  # no right to list the whole cluster: the usual case
        namespaces = everywhere if self._everywhere else sorted(set(gone.values()) | {place[0] for place in self._ways})
        return read_leftovers(
            self.kube,
            namespaces,
            steered,
            installation=self.installation,
            gone=keys,
            recent=recent,
            deadline=deadline,
        )

    def _step(self, found: Iterable[Leftover], fence: Fence, deadline: Deadline) -> None:
        plans = []
        for left in found:
            place = (left.namespace, left.name)
            known = self._gone.get(left.policy)
            steps = known.steps if known else Steps()
            plan, self._ways[place] = restore(left, steps, self._ways.get(place), self.now())
            plans.append(plan)
        outcomes = self.actor.restore(plans, fence, deadline)
        by_policy: Mapping[str, tuple[Outcome, ...]] = {
            plan.policy: tuple(o for o in outcomes if o.policy == plan.policy) for plan in plans
        }
        for plan in plans:
            self.tell(plan, by_policy[plan.policy])
