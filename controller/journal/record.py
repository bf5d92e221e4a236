"""One decision record: what was decided for one policy in one tick, from what, why, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, assert_never

from controller.model.outcome import Outcome
from controller.model.plan import EndpointState, Plan, RankedEndpoint
from controller.model.sample import Absent, Fresh, Invalid, Sample, Stale
from controller.model.snapshot import HpaView, Known, NotAsked, Reading, ServiceSnapshot, Unknown

MOST_INSTANCES = 100
"""A larger fleet's record holds those that moved the most or are in trouble, and says how many are left out."""


def decision_record(plan: Plan, outcomes: Iterable[Outcome], *, applied: bool) -> dict[str, Any]:
    """The record as plain JSON types, as the log shows it; the journal adds `detail`.

    Args:
        applied: False for a dry run, a policy in observe mode or a standby replica: nothing was written.
    """
    return {
        "policy": plan.policy,
        "sentence": plan.sentence(),
        "applied": applied,
        "changes": [asdict(change) for change in plan.changes],
        "holds": [asdict(hold) for hold in plan.holds],
        "outcomes": [
            {"actuator": outcome.actuator, "result": outcome.result.value, "detail": outcome.detail}
            for outcome in outcomes
        ],
    }


def detail(plan: Plan, service: ServiceSnapshot) -> dict[str, Any]:
    """What the decision saw, and how each number was made, as plain JSON types."""
    rows = () if plan.publish is None else plan.publish.endpoints or ()
    shown = _chosen(plan, rows)
    named = {row.instance for row in shown}
    seen = [i for i in service.instances if i.name in named] if shown else list(service.instances[:MOST_INSTANCES])
    return {
        "inputs": {
            "metrics_problem": service.metrics_problem,
            "instances_complete": service.instances_complete,
            "instances": {
                instance.name: {
                    "ready": instance.ready,
                    "terminating": instance.terminating,
                    "endpoint": instance.endpoint,
                    "uid": instance.uid,
                    "signals": {signal.value: sampled(sample) for signal, sample in instance.signals.items()},
                }
                for instance in seen
            },
            "hpa": _reading(service.hpa),
            "scale": _reading(service.scale),
            "queue": _reading(service.queue),
            "limit": service.published.value.limit
            if isinstance(service.published, Known) and service.published.value
            else None,
        },
        "endpoints": [
            {
                "instance": row.instance,
                "rank": row.rank,
                "state": row.state.value,
                **({} if plan.breakdown is None else plan.breakdown.of(row.instance)),
                "why": row.why,
            }
            for row in shown
        ],
        "left_out": len(rows) - len(shown) if rows else max(0, len(service.instances) - len(seen)),
        "panic": plan.publish is not None and plan.publish.panic,
        "proposals": _proposals(plan, service),
        "stability": None if plan.stability is None else asdict(plan.stability),
    }


def _proposals(plan: Plan, service: ServiceSnapshot) -> list[dict[str, Any]]:
    """What stands, what was asked for and what is set, of the limit and the bounds, moved or not."""
    stands: dict[str, int | None] = {}
    if plan.publish is not None and plan.publish.limit is not None:
        said = service.published.value if isinstance(service.published, Known) else None
        stands["limit"] = None if said is None else said.limit
    if isinstance(service.hpa, Known) and service.hpa.value is not None:
        spec = service.hpa.value.spec
        stands |= {"minReplicas": spec.min_replicas, "maxReplicas": spec.max_replicas}
    changes = {change.field: change for change in plan.changes}
    holds = {hold.field: hold for hold in plan.holds}
    found = []
    for name in ("limit", "minReplicas", "maxReplicas"):
        change, hold = changes.get(name), holds.get(name)
        if name not in stands and change is None:
            continue
        before = stands.get(name)
        after = (
            change.after if change is not None else plan.publish.limit if name == "limit" and plan.publish else before
        )
        asked = next((told.asked for told in (change, hold) if told is not None and told.asked is not None), after)
        found.append(
            {
                "field": name,
                "before": before,
                "asked": asked,
                "after": after,
                "reason": "" if change is None else change.reason,
                "held": "" if hold is None else hold.reason,
            }
        )
    return found


def sampled(sample: Sample) -> dict[str, Any]:
    """A sample with its freshness: value and age in seconds, or the reason why there is none."""
    match sample:
        case Fresh() | Stale():
            return {"is": type(sample).__name__.lower(), "value": sample.value, "age": sample.age_seconds}
        case Absent() | Invalid():
            return {"is": type(sample).__name__.lower(), "reason": sample.reason}
        case _:
            assert_never(sample)


def _chosen(plan: Plan, rows: tuple[RankedEndpoint, ...]) -> tuple[RankedEndpoint, ...]:
    if len(rows) <= MOST_INSTANCES:
        return rows
    before = {} if plan.breakdown is None else plan.breakdown.before
    foremost = sorted(
        rows,
        key=lambda row: (
            row.state is EndpointState.SERVING and not row.why.startswith("shed"),
            -abs(row.weight - before.get(row.instance, 0.0)),
        ),
    )
    return tuple(sorted(foremost[:MOST_INSTANCES], key=lambda row: row.rank))


def _reading(reading: Reading[Any]) -> dict[str, Any] | None:
    match reading:
        case Known(value=None):
            return {"absent": True}
        case Known(value=HpaView() as view):
            return {
                "target": f"{view.spec.target_kind}/{view.spec.target_name}",
                "min": view.spec.min_replicas,
                "max": view.spec.max_replicas,
                "targets": {target.name: target.percent for target in view.spec.targets},
                "current": view.current_replicas,
                "desired": view.desired_replicas,
                "limited_by_max": view.limited_by_max,
                "paused": view.paused,
                "adopted": view.adopted,
                "foreign_owner": view.foreign_owner,
            }
        case Known(value=value):
            return asdict(value)
        case Unknown(reason=reason):
            return {"unknown": reason}
        case NotAsked():
            return None
    return None
