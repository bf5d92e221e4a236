"""What makes a decision news."""

import pytest
import structlog

from controller.model.plan import Hold, Plan
from controller.model.snapshot import ServiceSnapshot, Snapshot
from controller.model.tick import TickReport
from controller.report.explainer import Explainer
from controller.report.health import Health
from controller.report.metrics import Metrics


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        pytest.param("the next step may come in 12 s", "the next step may come in 2.5 s", 1, id="another number"),
        pytest.param("the next step may come in 12 s", "paused by trimtab/paused: true", 2, id="another reason"),
    ],
)
def test_a_hold_is_told_again_when_its_reason_is_another(first, second, told):
    with structlog.testing.capture_logs() as logs:
        explainer = Explainer(
            log=structlog.get_logger(),
            metrics=Metrics(),
            health=Health(15.0),
            systems=("Redis",),
            record=lambda plan, _outcomes, _applied: {"sentence": plan.sentence()},
        )
        for reason in (first, second):
            plan = Plan("models/web", 1.0, holds=(Hold("minReplicas", reason),))
            services = {"models/web": ServiceSnapshot("models/web", 1.0, ())}
            explainer.explain(TickReport(1.0, Snapshot(1.0, services), (plan,)))
    assert len([entry for entry in logs if entry["event"] == "decision"]) == told
