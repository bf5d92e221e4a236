"""One decision record: what was decided for one policy in one tick, why, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from controller.model.outcome import Outcome
from controller.model.plan import Plan
from controller.model.sample import describe
from controller.model.snapshot import ServiceSnapshot


def decision_record(plan: Plan, outcomes: Iterable[Outcome], *, applied: bool) -> dict[str, Any]:
    """The record as plain JSON types, the same in the log and in the journal.

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


def observed_inputs(service: ServiceSnapshot) -> dict[str, Any]:
    """What the decision saw, in words short enough to keep: one line per instance and signal."""
    return {
        "at": service.at,
        "metrics_problem": service.metrics_problem,
        "instances": {
            instance.name: {
                "ready": instance.ready,
                **{signal.value: describe(sample) for signal, sample in sorted(instance.signals.items())},
            }
            for instance in service.instances
        },
    }
