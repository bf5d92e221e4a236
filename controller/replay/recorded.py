"""The journal's inputs as snapshots again, and what a policy decides on them now. Pure: records come as plain JSON types.

The journal has no record of a tick that changed and held nothing, and what a decision remembers (streaks, waiting times,
estimates) is built anew from those that it has: a replay shows what other rules would have said, not every step that they
would have taken. Each decision starts from what stood then, so that one difference does not run on into the next record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.decide.decide import decide
from controller.model.memory import Memory, frozen
from controller.model.plan import Plan
from controller.model.sample import Absent, Fresh, Invalid, Sample, Signal, Stale
from controller.model.snapshot import (
    HpaSpec,
    HpaView,
    Instance,
    Known,
    NotAsked,
    Published,
    QueueView,
    Reading,
    ResourceTarget,
    ScaleView,
    ServiceSnapshot,
    Unknown,
)
from controller.policy.schema import LoadPolicy

Record = Mapping[str, Any]
BOUNDS = ("minReplicas", "maxReplicas")


@dataclass(frozen=True, slots=True)
class Replayed:
    """One record, and what is decided on its inputs now."""

    record: Record
    plan: Plan

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Each number that was set then and would be set otherwise now: the value then and now."""
        stood = {p["field"]: p for p in self.record.get("proposals") or ()}
        then: dict[str, Any] = {name: p["after"] for name, p in stood.items()}
        then |= {f"weight {e['instance']}": e["weight"] for e in self.record.get("endpoints") or () if "weight" in e}
        now = then | {name: p["before"] for name, p in stood.items()}
        now |= {c.field: c.after for c in self.plan.changes if c.field in BOUNDS}
        if self.plan.publish is not None and self.plan.publish.limit is not None:
            now["limit"] = self.plan.publish.limit
        if self.plan.publish is not None and self.plan.publish.endpoints:
            now |= {f"weight {e.instance}": e.weight for e in self.plan.publish.endpoints}
        return {
            name: (then.get(name), now.get(name)) for name in {**then, **now} if _differ(then.get(name), now.get(name))
        }


def replay(policy: LoadPolicy, records: Iterable[Record]) -> Iterator[Replayed]:
    """Decide anew on each record that holds its whole inputs, oldest first."""
    memory = Memory()
    for record in records:
        if not whole(record):
            continue
        plan, memory = decide(policy, snapshot_of(record), memory)
        yield Replayed(record, plan)


def whole(record: Record) -> bool:
    """Whether a record holds all that was seen: not those of older versions, nor of fleets too large to be kept whole."""
    return "inputs" in record and not record.get("left_out")


def snapshot_of(record: Record) -> ServiceSnapshot:
    """What was seen."""
    inputs = record["inputs"]
    weights = {e["instance"]: e["before"] for e in record.get("endpoints") or () if e.get("before") is not None}
    published = Published(1, 1, inputs["limit"], frozen(weights)) if weights or inputs["limit"] is not None else None
    return ServiceSnapshot(
        policy=record["policy"],
        at=float(record["at"]),
        instances=tuple(_instance(name, seen) for name, seen in inputs["instances"].items()),
        metrics_problem=inputs["metrics_problem"],
        instances_complete=inputs["instances_complete"],
        hpa=_reading(inputs["hpa"], _hpa),
        scale=_reading(inputs["scale"], lambda seen: ScaleView(seen["spec_replicas"], seen["status_replicas"])),
        queue=_reading(inputs["queue"], lambda seen: QueueView(seen["depth"], seen["in_flight"])),
        published=Known(published),
    )


def _instance(name: str, seen: Record) -> Instance:
    signals = {Signal(signal): _sample(sample) for signal, sample in seen["signals"].items()}
    return Instance(
        name,
        seen.get("endpoint"),
        frozen(signals),
        ready=seen["ready"],
        uid=seen.get("uid"),
        terminating=seen["terminating"],
    )


def _sample(sample: Record) -> Sample:
    match sample["is"]:
        case "fresh":
            return Fresh(sample["value"], sample["age"])
        case "stale":
            return Stale(sample["value"], sample["age"])
        case "invalid":
            return Invalid(sample["reason"])
        case _:
            return Absent(sample["reason"])


def _reading(seen: Record | None, make: Any) -> Reading[Any]:
    if seen is None:
        return NotAsked()
    if "unknown" in seen:
        return Unknown(seen["unknown"])
    return Known(None if "absent" in seen else make(seen))


def _hpa(seen: Record) -> HpaView:
    kind, _, name = str(seen["target"]).partition("/")
    targets = tuple(ResourceTarget(resource, percent) for resource, percent in seen["targets"].items())
    return HpaView(
        HpaSpec(kind, name, seen["min"], seen["max"], targets),
        current_replicas=seen["current"],
        desired_replicas=seen["desired"],
        adopted=seen["adopted"],
        foreign_owner=seen["foreign_owner"],
        paused=seen["paused"],
        limited_by_max=seen["limited_by_max"],
    )


def _differ(then: Any, now: Any) -> bool:
    if isinstance(then, float) and isinstance(now, float):
        return abs(now - then) > 0.01 * max(then, 1e-9)
    return bool(then != now)
