"""A journal that real decisions on fixed snapshots have filled, and the policies they were made by."""

from datetime import UTC, datetime

from controller.decide.decide import decide
from controller.journal.file import Journal
from controller.journal.record import decision_record, detail
from controller.model.memory import Memory
from controller.model.outcome import Outcome, Result
from controller.model.sample import Absent, Fresh, Signal, Stale
from controller.model.snapshot import (
    HpaSpec,
    HpaView,
    Instance,
    Known,
    Published,
    QueueView,
    ResourceTarget,
    ScaleView,
    ServiceSnapshot,
)
from controller.policy.schema import LoadPolicy
from controller.settings import Settings

KEY = "models/model-service"
BEGUN = datetime(2026, 11, 27, 14, 0, tzinfo=UTC).timestamp()
NOW = datetime(2026, 11, 27, 14, 5, tzinfo=UTC)
POLICY = """\
apiVersion: trimtab/v1
kind: LoadPolicy
metadata: {name: model-service, namespace: models}
spec:
  instances: {selector: {service: model-service}}
  signals: {preset: fastapi}
  routing: {}
  concurrency: {}
  scaling: {hpa: h, target: {name: model-service}}
"""


WELL = Fresh(0.0, 3.0)


def seen(name, rate, cpu, *, latency=0.12, errors=WELL, inside=2.0):
    signals = {
        Signal.LATENCY: Fresh(latency, 3.0),
        Signal.RATE: Fresh(rate, 3.0),
        Signal.ERRORS: errors,
        Signal.CPU: Fresh(cpu, 3.0),
        Signal.IN_FLIGHT: Fresh(inside, 3.0),
    }
    return Instance(name, f"http://{name}:8000", signals, ready=True, uid=name)


LOOKS = [
    [seen("a", 20.0, 0.5), seen("b", 20.0, 0.5), seen("c", 20.0, 0.5)],
    [seen("a", 20.0, 0.5), seen("b", 20.0, 0.8, errors=Fresh(0.04, 3.0)), seen("c", 20.0, 0.5, inside=300.0)],
    [seen("a", 20.0, 0.5), seen("b", 20.0, 0.8, errors=Absent("no series answered")), seen("c", 20.0, 0.5, errors=Stale(0.0, 75.0))],
]  # fmt: skip


def fill(tmp_path):
    """Settings of a folder with the policy and of the journal."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/model-service.yaml").write_text(POLICY)
    journal = Journal(tmp_path / "journal")
    policy = LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1", "kind": "LoadPolicy", "metadata": {"name": "model-service", "namespace": "models"},
            "spec": {"instances": {"selector": {"service": "model-service"}}, "signals": {"preset": "fastapi"}, "routing": {},
                     "concurrency": {}, "scaling": {"hpa": "h", "target": {"name": "model-service"}}},
        }
    )  # fmt: skip
    memory, said = Memory(), None
    for tick, fleet in enumerate(LOOKS):
        spec = HpaSpec("Deployment", "model-service", 2, 10, (ResourceTarget("cpu", 70), ResourceTarget("memory", 80)))
        service = ServiceSnapshot(
            KEY, BEGUN + 15.0 * tick, tuple(fleet), published=Known(said), queue=Known(QueueView(40, 12)),
            hpa=Known(HpaView(spec, current_replicas=3, desired_replicas=3, adopted=True)), scale=Known(ScaleView(3, 3)),
        )  # fmt: skip
        plan, memory = decide(policy, service, memory)
        said = Published(tick + 1, 1, plan.publish.limit, {e.instance: e.weight for e in plan.publish.endpoints})
        record = decision_record(plan, [Outcome(KEY, "publish", Result.DONE)], applied=True)
        assert journal.write(service.at, {**record, **detail(plan, service)}) is None
    return Settings(policies=str(tmp_path / "policies"), journal=str(tmp_path / "journal"), kubernetes="off")
