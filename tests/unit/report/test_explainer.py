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


def explainer_with(**given):
    return Explainer(
        log=structlog.get_logger(),
        metrics=Metrics(),
        health=Health(15.0),
        systems=("Prometheus", "Redis", "Kubernetes"),
        record=lambda plan, _outcomes, _applied: {"sentence": plan.sentence()},
        **given,
    )


def one_tick(*problems, asked=("Prometheus", "Redis"), plan=None):
    plan = plan or Plan("models/web", 1.0)
    services = {plan.policy: ServiceSnapshot(plan.policy, 1.0, ())}
    return TickReport(1.0, Snapshot(1.0, services, problems, asked), (plan,))


@pytest.mark.parametrize(
    ("problems", "ready"),
    [
        pytest.param((), True, id="all well"),
        pytest.param(("Prometheus: http://p: partial answer: a store is missing",), True, id="standing warnings"),
        pytest.param(("Prometheus: policy models/web: signal cpu: 422",), True, id="one policy's query is refused"),
        pytest.param(("Prometheus: http://p: connection refused",), False, id="never answered"),
    ],
)
def test_ready_means_that_every_system_in_use_has_answered_once(problems, ready):
    with structlog.testing.capture_logs() as logs:
        explainer = explainer_with()
        for _ in range(3):
            explainer.explain(one_tick(*problems))
    assert explainer.health.ready()[0] is ready
    assert [entry["event"] for entry in logs] == ["problem"] * bool(problems)


def test_the_journal_keeps_every_tick_that_held_or_changed_something_with_its_detail():
    kept = []
    explainer = explainer_with(
        keep=lambda at, record: kept.append((at, record)), detail=lambda _p, s: {"saw": s.policy}
    )
    held = Plan("models/web", 1.0, holds=(Hold("minReplicas", "paused"),))
    with structlog.testing.capture_logs() as logs:
        for plan in (held, held, Plan("models/web", 1.0)):
            explainer.explain(one_tick(plan=plan))
    assert [record["saw"] for _, record in kept] == ["models/web"] * 2
    assert len([entry for entry in logs if entry["event"] == "decision"]) == 2  # held, and no longer held
    assert "saw" not in logs[0]
    assert 'trimtab_journal_records_total{result="kept"} 2.0' in explainer.metrics.render().decode()
