"""Who moves the bounds: nobody, Trimtab, or somebody who knows the future."""

from __future__ import annotations

from bench.scaling.world import CAPACITY, KNEE, MOST, STEP_SECONDS, WARM_SECONDS, Scaler, Step
from controller.decide.decide import decide
from controller.model.memory import Memory
from controller.model.sample import Fresh, Signal
from controller.model.snapshot import HpaSpec, HpaView, Instance, Known, ResourceTarget, ScaleView, ServiceSnapshot
from controller.policy.schema import LoadPolicy

LEAST = 2


def plain() -> Scaler:
    return lambda _: (LEAST, MOST)


def policy(target: int, utilisation: float, interval_seconds: int) -> LoadPolicy:
    """One policy for every trace. It tells neither what a replica serves nor how full it may be."""
    return LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": "m", "namespace": "bench"},
            "spec": {
                "interval": f"{interval_seconds}s",
                "instances": {"selector": {"app": "m"}},
                "signals": {"preset": "fastapi"},
                "scaling": {
                    "hpa": "m",
                    "target": {"name": "m"},
                    "min": {"floor": LEAST, "ceiling": MOST},
                    "max": {"floor": MOST, "ceiling": MOST},
                    "cpu": {"target": target},
                    "memory": None,
                    "steps": {"replicas": 5, "every": "15s", "lowerEvery": "2m"},
                    "warmUp": "3m",
                    "demand": {"utilisation": utilisation},
                },
            },
        }
    )


class Trimtab:
    """decide() as the daemon runs it; its writes stand from the next sync on."""

    def __init__(self, target: int, utilisation: float, interval_seconds: int) -> None:
        self._policy = policy(target, utilisation, interval_seconds)
        self._targets = (ResourceTarget("cpu", target),)
        self._every = interval_seconds
        self._memory = Memory()
        self._bounds = (LEAST, MOST)

    def __call__(self, step: Step) -> tuple[int, int]:
        if step.at % self._every >= STEP_SECONDS:
            return self._bounds
        spec = HpaSpec("Deployment", "m", *self._bounds, self._targets)
        view = HpaView(spec, current_replicas=step.asked, desired_replicas=step.asked, adopted=True)
        each = step.rate / max(step.ready, 1)
        signals = {
            Signal.RATE: Fresh(each, 1.0),
            Signal.CPU: Fresh(step.cpu, 1.0),
            Signal.LATENCY: Fresh(step.latency, 1.0),
        }
        serving = tuple(Instance(f"{n}", f"http://{n}", signals, ready=True, uid=f"{n}") for n in range(step.ready))
        service = ServiceSnapshot(
            "bench/m", step.at, serving, hpa=Known(view), scale=Known(ScaleView(step.asked, step.asked))
        )
        plan, self._memory = decide(self._policy, service, self._memory)
        if plan.hpa is not None:
            self._bounds = (plan.hpa.after.min_replicas, plan.hpa.after.max_replicas)
        return self._bounds


def oracle(steps: list[tuple[float, float]]) -> Scaler:
    """Always what will be needed once a replica asked for now serves; nobody can do better without missing."""
    ahead = int(WARM_SECONDS / STEP_SECONDS) + 2
    needed = [int(rate * work / CAPACITY / KNEE) + 1 for rate, work in steps]

    def bounds(step: Step) -> tuple[int, int]:
        n = int(step.at / STEP_SECONDS)
        count = max(needed[n : n + ahead], default=LEAST)
        return max(count, LEAST), max(count, LEAST)

    return bounds
