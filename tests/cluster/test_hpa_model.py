"""The model of the HPA against the real controller, case by case: the same sizes in the same order, the same reasons."""

import re
from dataclasses import dataclass

import pytest
from plugins.planes import fresh_namespace
from support.eventually import eventually
from support.objects import Paths, deployment, hpa, utilization

from controller.lab.cluster.binaries import find_binaries
from controller.model.behavior import Direction, RatePolicy, Select
from controller.replay.behavior import Behavior, History
from controller.replay.hpa import Controller, Hpa, Seen, sync
from controller.replay.replicas import AverageValue, Failed, Pod, PodMetric, PodsAverage, Replicas, Timing, Utilization

# As the cluster of the tests runs its controller manager.
CONTROLLER = Controller(
    Timing(sync=1.0, downscale_stabilization=5.0, cpu_initialization=1.0, initial_readiness_delay=1.0)
)
GIB = 2**30
ONE_EACH = Direction((RatePolicy("Pods", 1, 1.0),), 0.0)
STILL = Direction((RatePolicy("Pods", 1, 1.0),), 0.0, Select.DISABLED)
UNREADABLE = AverageValue(1000)
"""An External metric: nobody serves that API here, so the controller cannot read it."""


@dataclass(frozen=True)
class Case:
    """`cpu` is cores per pod, None for a pod without numbers; one number is for all pods, new ones too."""

    replicas: int
    cpu: float | tuple[float | None, ...]
    sizes: list[int]
    bounds: tuple[int, int] = (1, 10)
    memory_gib: float = 0.0
    metrics: tuple = (Utilization(70),)
    behavior: Behavior | None = None
    pending: int = 0

    def core(self, index):
        return self.cpu if isinstance(self.cpu, float) else self.cpu[index] if index < len(self.cpu) else None


CASES = {
    "at-target": Case(3, 0.7, []),
    "in-tolerance": Case(3, 0.77, []),
    "percent-is-cut": Case(3, 0.779, []),
    "just-above": Case(4, 0.78, [5], bounds=(1, 5)),
    "double-at-most": Case(2, 3.0, [4], bounds=(2, 4)),
    "four-at-least": Case(1, 4.0, [4], bounds=(1, 4)),
    "average-of-unequal": Case(3, (2.0, 0.3, 0.3), [4], bounds=(1, 4)),
    "missing-up-holds": Case(4, (1.4, 1.4, None, None), []),
    "missing-up-less": Case(4, (1.9, 1.9, 1.9, None), [8], bounds=(1, 8)),
    "missing-down-holds": Case(4, (0.6, 0.6, None, None), []),
    "missing-down-less": Case(4, (0.1, 0.1, 0.1, None), [2]),
    "pending-up-holds": Case(2, 1.05, [], pending=1),
    "pending-up-less": Case(2, (2.4, 2.4), [6], pending=1, bounds=(1, 6), behavior=Behavior()),
    "larger-of-two": Case(2, 0.1, [4], memory_gib=1.6, bounds=(1, 4), metrics=(Utilization(70), Utilization(80, "memory"))),
    "average-value": Case(2, 0.75, [3], metrics=(PodsAverage(500, "cpu"),), bounds=(1, 3)),
    "down-waits": Case(4, 0.1, [1]),
    "down-at-once": Case(4, 0.1, [1], behavior=Behavior(down=Direction((RatePolicy("Percent", 100, 1.0),), 0.0))),
    "down-one-by-one": Case(4, 0.1, [3, 2], bounds=(2, 10), behavior=Behavior(down=ONE_EACH)),
    "down-by-half": Case(4, 0.1, [2, 1], behavior=Behavior(down=Direction((RatePolicy("Percent", 50, 2.0),), 0.0))),
    "never-down": Case(4, 0.1, [], behavior=Behavior(down=STILL)),
    "up-one-by-one": Case(1, 2.0, [2, 3, 4], bounds=(1, 4), behavior=Behavior(up=ONE_EACH)),
    "never-up": Case(2, 2.0, [], behavior=Behavior(up=STILL)),
    "own-tolerance": Case(3, 0.9, [], behavior=Behavior(up=Direction(ONE_EACH.policies, 0.0, tolerance=0.5))),
    "at-max": Case(4, 2.0, [], bounds=(1, 4)),
    "below-min-at-once": Case(2, 0.1, [6], bounds=(6, 10), behavior=Behavior(up=STILL)),
    "one-of-two-fails-up": Case(2, 3.0, [4], bounds=(2, 4), metrics=(UNREADABLE, Utilization(70))),
    "one-of-two-fails-same": Case(3, 0.7, [], metrics=(Utilization(70), UNREADABLE)),
    "one-of-two-fails-down": Case(4, 0.1, [], metrics=(Utilization(70), UNREADABLE)),
    "all-fail": Case(3, 3.0, [], metrics=(UNREADABLE,)),
    "above-max-at-once": Case(5, 0.75, [2], bounds=(1, 2), behavior=Behavior(down=STILL)),
}  # fmt: skip


def modelled(case):
    """The sizes and the first sync's reasons, with new pods ready at once."""
    history, replicas, sizes, first = History(), case.replicas, [], None
    rules = Hpa(case.metrics, *case.bounds, case.behavior)
    for second in range(12):
        alive = [Pod(f"{i:02}") for i in range(replicas)]
        cores = {p.name: case.core(i) for i, p in enumerate(alive)}
        waiting = [Pod(f"pending{i}", "Pending", ready=None, started_at=None) for i in range(case.pending)]
        reads, pods = [], ()
        for metric in case.metrics:
            if metric is UNREADABLE:
                reads.append(Failed("nobody serves it"))
                continue
            memory = metric.resource == "memory"
            used = {n: case.memory_gib if memory else c for n, c in cores.items() if c is not None}
            reads.append({n: PodMetric(round(1000 * amount)) for n, amount in used.items()})
        pods = tuple(Pod(p.name, p.phase, p.ready, started_at=p.started_at) for p in [*alive, *waiting])
        seen = Seen(Replicas(replicas, replicas), pods, tuple(reads))
        done, history = sync(rules, seen, history, at=1000.0 + second, controller=CONTROLLER)
        first = first or done
        if done.desired != replicas:
            replicas = done.desired
            sizes.append(replicas)
    return sizes, first


def manifest(name, case):
    made = hpa(name, *case.bounds, cpu=None, memory=None)
    made["spec"]["metrics"] = [written(metric) for metric in case.metrics]
    if case.behavior is not None:
        sides = {"scaleUp": case.behavior.up, "scaleDown": case.behavior.down}
        made["spec"]["behavior"] = {key: rules(side) for key, side in sides.items()}
    return made


def written(metric):
    if isinstance(metric, Utilization):
        return utilization(metric.resource, metric.percent)
    target = {"type": "AverageValue", "averageValue": f"{metric.target_milli}m"}
    if metric is UNREADABLE:
        return {"type": "External", "external": {"metric": {"name": "nobody-serves-it"}, "target": target}}
    return {"type": "Resource", "resource": {"name": metric.resource, "target": target}}


def rules(side):
    policies = [{"type": p.kind, "value": p.value, "periodSeconds": int(p.period_seconds)} for p in side.policies]
    fields = {"policies": policies, "selectPolicy": side.select.value}
    if side.window_seconds is not None:
        fields["stabilizationWindowSeconds"] = int(side.window_seconds)
    if side.tolerance is not None:
        fields["tolerance"] = str(side.tolerance)
    return fields


@pytest.fixture(scope="module")
def fleets(cluster):
    """One Deployment for each case, its pods ready and its numbers told before its HPA is there."""
    if not cluster.has_controllers:
        pytest.skip(find_binaries().note)
    with fresh_namespace(cluster) as namespace:
        api, paths = cluster.api(), Paths(namespace)
        for name, case in CASES.items():
            api.post(paths.deployments, deployment(name, case.replicas))
            for index in range(case.pending):
                gated = deployment(name)["spec"]["template"]
                gated["metadata"]["name"] = f"pending-{name}-{index}"
                gated["spec"]["schedulingGates"] = [{"name": "test/never"}]
                api.post(paths.pods, gated)
        expected = sum(case.replicas for case in CASES.values())

        def ready():
            statuses = [d.get("status", {}) for d in api.get(paths.deployments)["items"]]
            return sum(status.get("readyReplicas", 0) for status in statuses) == expected

        eventually(ready, timeout_seconds=45)
        by_name = {}
        for pod in sorted(api.get(paths.pods)["items"], key=lambda p: p["metadata"]["name"]):
            by_name.setdefault(pod["metadata"]["labels"]["app"], []).append(pod["metadata"]["name"])
        for name, case in CASES.items():
            order = {pod: index for index, pod in enumerate(p for p in by_name[name] if p.startswith(name))}

            def cores(pod, case=case, order=order):
                return case.core(order.get(pod, len(order)))

            cluster.metrics.set(namespace, f"{name}-*", cores, case.memory_gib * GIB)
        for name, case in CASES.items():
            if not waits(case):
                api.apply(f"{paths.hpas}/{name}", manifest(name, case), "trimtab")
        yield api, paths


def waits(case):
    """Whether it stands still before it moves: its first reasons pass, so its HPA is made when somebody looks."""
    return bool(case.sizes) and not modelled(case)[1].rescaled


def sizes(api, paths, name):
    """Every size the controller set, in order, from its Events."""
    events = api.get(
        paths.events, fieldSelector=f"involvedObject.kind=HorizontalPodAutoscaler,involvedObject.name={name}"
    )
    said = [(int(e["metadata"]["resourceVersion"]), e["message"]) for e in events["items"] if e["reason"] == "SuccessfulRescale"]  # fmt: skip
    return [int(re.search(r"New size: (\d+)", message).group(1)) for _, message in sorted(said)]


def reasons(api, paths, name):
    found = api.get(f"{paths.hpas}/{name}").get("status", {}).get("conditions", ())
    return {c["type"]: c["reason"] for c in found}


def agree(first, found):
    """Whether the controller gives the model's reasons; a failed sync leaves two of them as they were, and names the metric."""
    if first.active == "Failed":
        return found["ScalingActive"] == "FailedGetExternalMetric" and found["AbleToScale"] == "SucceededGetScale"
    return found == {"ScalingActive": first.active, "AbleToScale": first.able, "ScalingLimited": first.limited}


@pytest.mark.parametrize("name", CASES)
def test_the_model_does_what_the_controller_does(fleets, name):
    api, paths = fleets
    case = CASES[name]
    expected, first = modelled(case)
    assert expected == case.sizes, "the model"
    if waits(case):
        api.apply(f"{paths.hpas}/{name}", manifest(name, case), "trimtab")
    if not first.rescaled:
        eventually(lambda: agree(first, reasons(api, paths, name)))
    eventually(lambda: sizes(api, paths, name) == expected)
    assert api.get(f"{paths.deployments}/{name}")["spec"]["replicas"] == (expected or [case.replicas])[-1]
