"""What will change, from what, to what, and why. `plan`, `--dry-run`, the journal and Events print this object."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from dataclasses import field as field_
from enum import StrEnum
from typing import Any

from controller.model.behavior import Sides
from controller.model.breakdown import Breakdown
from controller.model.snapshot import HpaSpec


class EndpointState(StrEnum):
    """What clients are told of an endpoint."""

    SERVING = "serving"
    WARMING = "warming"
    STALE = "stale"
    EJECTED = "ejected"


@dataclass(slots=True)
class RankedEndpoint:
    """One row of the ranking. Seconds and ratios; None where nothing is known. Weights of one ranking sum to 1.

    A value, not frozen for the same reason as `InstanceMemory`.
    """

    endpoint: str
    instance: str
    rank: int
    weight: float
    state: EndpointState
    age: float | None = None
    latency: float | None = None
    cpu: float | None = None
    memory: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Overload:
    """Demand lasts and every actuator is at its end.

    Args:
        retry_after_seconds: how long what waits now takes to be served; None when not known.
    """

    reason: str
    retry_after_seconds: float | None


@dataclass(frozen=True, slots=True)
class Publish:
    """One atomic publish to Redis: ranking, weights and limit change together or not at all.

    `limit` None means that the policy has no `concurrency` section, or that nothing is known to set it from.
    `endpoints` None means that the policy has no `routing` section, or that the last ranking must stand.
    `limit_carried`: the limit is the inner loop's; it is told to readers of the ranking, and not written.
    `default_limit` is what the queue named `queue` goes back to when the limit has expired.
    `overload` is told to producers; None when something can still be done.
    """

    endpoints: tuple[RankedEndpoint, ...] | None
    limit: int | None
    panic: bool
    valid_for_seconds: float
    limit_carried: bool = False
    default_limit: int | None = None
    queue: str | None = None
    overload: Overload | None = None


@dataclass(frozen=True, slots=True)
class HpaWrite:
    """One write of an HPA: create when `before` is None, else from `before` to `after`.

    Args:
        behavior: what is to stand in `spec.behavior`; None when none of it is ours.
        learned: what a restart must not forget, as text; empty for nothing.
    """

    namespace: str
    name: str
    before: HpaSpec | None
    after: HpaSpec
    reason: str
    behavior: Sides | None = None
    learned: str = field_(default="", compare=False)


@dataclass(frozen=True, slots=True)
class HpaRelease:
    """Letting go of an HPA: its values stay, Trimtab's annotations and its part in managedFields go.

    Args:
        handover: another policy of ours steers it from now on: only the mark of the old one goes.
    """

    namespace: str
    name: str
    reason: str
    handover: bool = False


@dataclass(frozen=True, slots=True)
class DrainPod:
    """One pod by name and uid, the deletion cost that it has, and the one that it had before it was drained."""

    name: str
    uid: str
    cost: str | None = None
    cost_before: str | None = None


@dataclass(frozen=True, slots=True)
class Drain:
    """Pods to mark as the next to go, and pods to give back."""

    mark: tuple[DrainPod, ...] = ()
    release: tuple[DrainPod, ...] = ()


@dataclass(slots=True)
class Change:
    """One number that changes: `limit: 40 -> 28, p95 0.9 s is over the SLO 0.5 s`. Values are None when there is none.

    A value, not frozen for the same reason as `InstanceMemory`.
    """

    field: str
    before: float | str | None
    after: float | str | None
    reason: str
    asked: int | None = field_(default=None, compare=False)
    """What the rules asked for, before bounds and rails; None for what is not a whole number."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One actuator that stays where it is though something asked it to move, and why."""

    field: str
    reason: str
    asked: int | None = field_(default=None, compare=False)
    """What was asked for; None for what is not a whole number."""


@dataclass(frozen=True, slots=True)
class Stability:
    """How far the routing loop is from swinging.

    Args:
        delay_seconds: age of what a weight rests on, when clients follow it: scrape, rate window, tick, delivery.
        elasticity: relative change of the measured signal per relative change of a weight.
        gain: share of the way to its target that a weight goes per tick.
        margin: gain × elasticity ÷ the bound beyond which the loop swings; below 1 is stable.
        swing: share of all weight that goes to and fro per tick, smoothed.
        herding: the first endpoint's share of the traffic ÷ its weight; None when not measured. Far above 1, clients do
            not follow the weights but all take the best.
        findings: what is wrong, in words; empty when nothing is.
    """

    delay_seconds: float
    elasticity: float
    gain: float
    margin: float
    swing: float
    herding: float | None = None
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForecastView:
    """What the forecast of the request rate says, and how good it has been.

    Args:
        rate: requests/s within the time ahead; None when the forecast abstains.
        season: the season that is best; empty when none could be tried.
        skill: share by which its loss is below that of a forecast without season; negative when above.
        coverage: share of the time for which it was not exceeded.
        words: all of it in words, or why it abstains.
    """

    rate: float | None
    season: str
    skill: float | None
    coverage: float | None
    words: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one tick wants to do for one policy.

    Args:
        changes: every number that changes, each with its reason, after the rails.
        holds: every actuator that is held, with the reason.
        stability: of the routing loop; None when no weights are decided.
        overload: that nothing is left to do for the demand that lasts; None when something is.
        protected: instances that must not be scaled in now, by name: just warmed, or just given more of the traffic.
        forecast: of the request rate; None when the policy asks for none.
    """

    policy: str
    at: float
    publish: Publish | None = None
    hpa: HpaWrite | None = None
    changes: tuple[Change, ...] = ()
    holds: tuple[Hold, ...] = ()
    stability: Stability | None = None
    breakdown: Breakdown | None = None
    """What made each weight; None when none are decided."""
    release: HpaRelease | None = None
    overload: Overload | None = None
    protected: tuple[str, ...] = ()
    drain: Drain | None = None
    forecast: ForecastView | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, for `-o json` and golden tests; without the breakdown, which is the journal's, and `learned`."""
        shown = asdict(replace(self, breakdown=None))
        del shown["breakdown"]
        if shown["hpa"] is not None:
            del shown["hpa"]["learned"]
        return shown

    def sentence(self) -> str:
        """The plan in one line, for the log."""
        parts = [f"{c.field} {_show(c.before)} -> {_show(c.after)} ({c.reason})" for c in self.changes]
        parts += [f"held {h.field} ({h.reason})" for h in self.holds]
        parts += [] if self.overload is None else [f"overloaded ({self.overload.reason})"]
        return "; ".join(parts) or "no change"


def _show(value: float | str | None) -> str:
    if value is None:
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
