"""Builders of policies and snapshots for the tests of decide/."""

from controller.model.memory import Memory
from controller.model.sample import Fresh, Signal
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

KEY = "models/m"
TARGETS = (ResourceTarget("cpu", 70), ResourceTarget("memory", 80))


def policy(**spec):
    return LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": "m", "namespace": "models"},
            "spec": {"instances": {"selector": {"app": "m"}}, "signals": {"preset": "fastapi"}, **spec},
        }
    )


def whole_policy(**spec):
    return policy(
        **{
            "routing": {},
            "concurrency": {},
            "scaling": {
                "hpa": "h",
                "target": {"name": "m"},
                "min": {"floor": 2, "ceiling": 6},
                "max": {"floor": 10, "ceiling": 20},
            },
            **spec,
        }
    )


def demand_policy(most, **spec):
    """An HPA between 2 and `most` replicas, whose floor is from demand."""
    scaling = {
        "hpa": "h",
        "target": {"name": "m"},
        "min": {"floor": 2, "ceiling": most},
        "max": {"floor": most, "ceiling": most},
        "demand": {},
    }
    return policy(scaling=scaling, **spec)


def instance(name, *, rate=10.0, cpu=0.5, latency=0.1, errors=0.0, ready=True, extra=None, age=1.0, **fields):
    """An instance with fresh samples; None leaves a signal out, a Sample is taken as it is."""
    given = {Signal.RATE: rate, Signal.CPU: cpu, Signal.LATENCY: latency, Signal.ERRORS: errors, **(extra or {})}
    signals = {s: Fresh(v, age) if isinstance(v, int | float) else v for s, v in given.items() if v is not None}
    return Instance(
        name, **{"endpoint": f"http://{name}:8000", "uid": f"uid-{name}", **fields}, signals=signals, ready=ready
    )


def hpa(minimum=2, maximum=10, **fields):
    targets = fields.pop("targets", TARGETS)
    spec = HpaSpec(fields.pop("kind", "Deployment"), fields.pop("target", "m"), minimum, maximum, targets)
    return Known(HpaView(spec, **{"adopted": True, **fields}))


def scale(spec=4, status=None):
    return Known(ScaleView(spec, spec if status is None else status))


def published(limit=None, weights=None):
    return Known(Published(1, 1, limit, weights or {}))


def queue(depth=0, in_flight=0):
    return Known(QueueView(depth, in_flight))


def snapshot(instances, at=1000.0, **fields):
    return ServiceSnapshot(KEY, at, tuple(instances), **fields)


def weights(plan):
    return {e.instance: e.weight for e in plan.publish.endpoints}


def row(plan, name):
    return next(e for e in plan.publish.endpoints if e.instance == name)


def change(plan, field):
    return next((c for c in plan.changes if c.field == field), None)


def hold(plan, field):
    return next((h for h in plan.holds if h.field == field), None)


NOTHING = Memory()
