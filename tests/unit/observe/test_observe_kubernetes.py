from __future__ import annotations

import pytest

from controller.deadline import Deadline
from controller.errors import Denied, NotFound, Unreachable
from controller.model.drain import Mark
from controller.model.snapshot import Known, NotAsked, ResourceTarget, ScaleView, Unknown
from controller.observe.kubernetes import read_kubernetes

SCALING = {"hpa": "svc-hpa", "target": {"kind": "Deployment", "name": "svc"}}
HPAS = "/apis/autoscaling/v2/namespaces/models/horizontalpodautoscalers"
SCALE = "/apis/apps/v1/namespaces/models/deployments/svc/scale"
PODS = "/api/v1/namespaces/models/pods"


class RecordedKube:
    """Answers by path; an exception in place of an answer is raised."""

    def __init__(self, **answers):
        self.answers = {HPAS: {"items": []}, SCALE: scale(), PODS: {"items": []}} | answers.pop("answers", {})
        self.asked = []

    def get(self, path, *, query=None, deadline):  # noqa: ARG002 - the protocol's
        self.asked.append((path, dict(query or {})))
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer


def scale(replicas=3):
    return {
        "kind": "Scale",
        "spec": {"replicas": replicas},
        "status": {"replicas": replicas, "selector": "app=svc"},
    }


def cpu(percent=70, kind="Utilization"):
    target = (
        {"type": kind, "averageUtilization": percent} if kind == "Utilization" else {"type": kind, "averageValue": "2"}
    )
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def hpa(name="svc-hpa", target="svc", metadata=None, spec=None, status=None):
    return {
        "metadata": {"name": name, "uid": "u1", "resourceVersion": "42", **(metadata or {})},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            "maxReplicas": 10,
            "metrics": [cpu()],
            **(spec or {}),
        },
        "status": status or {},
    }


def read(*policies, **answers):
    kube = RecordedKube(answers=answers.get("answers", {}))
    views, problems = read_kubernetes(kube, policies, Deadline.after(5))
    return kube, views, problems


def view_of(policy, item, *others):
    made = policy(scaling=SCALING)
    return read(made, answers={HPAS: {"items": [item, *others]}})[1][made.key].hpa


def test_an_hpa_is_read_whole(policy):
    external = {"type": "External", "external": {"metric": {"name": "q"}}}
    item = hpa(
        metadata={
            "annotations": {"trimtab/paused": "holiday", "trimtab/policy": "models/svc"},
            "managedFields": [{"manager": "trimtab", "operation": "Apply"}],
        },
        spec={"minReplicas": 2, "metrics": [cpu(65), external, cpu(kind="AverageValue")]},
        status={
            "currentReplicas": 10,
            "desiredReplicas": 10,
            "conditions": [{"type": "ScalingLimited", "status": "True", "reason": "TooManyReplicas"}],
        },
    )
    view = view_of(policy, item).value
    assert (view.spec.min_replicas, view.spec.max_replicas) == (2, 10)
    assert view.spec.targets == (ResourceTarget("cpu", 65),)
    assert len(view.metrics) == 3
    assert (view.current_replicas, view.desired_replicas, view.limited_by_max) == (10, 10, True)
    assert (view.paused, view.adopted, view.foreign_owner) == ("holiday", True, None)
    assert (view.uid, view.resource_version) == ("u1", "42")


@pytest.mark.parametrize(
    ("annotations", "operation"),
    [
        pytest.param({}, "Apply", id="handed over anew: the annotation is gone"),
        pytest.param({"trimtab/policy": "models/svc"}, "Update", id="our name, but no apply"),
    ],
)
def test_an_hpa_without_our_mark_or_our_apply_is_to_be_adopted(policy, annotations, operation):
    fields = [{"manager": "trimtab", "operation": operation}]
    item = hpa(metadata={"annotations": annotations, "managedFields": fields})
    assert view_of(policy, item).value.adopted is False


def test_a_new_hpa_has_defaults_and_no_status(policy):
    view = view_of(policy, hpa()).value
    assert (view.spec.min_replicas, view.current_replicas, view.adopted, view.limited_by_max) == (1, None, False, False)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param({}, None, id="nobody"),
        pytest.param({"managedFields": [{"manager": "kubectl-client-side-apply"}]}, None, id="applied by hand"),
        pytest.param(
            {"ownerReferences": [{"kind": "ScaledObject", "name": "x", "controller": True}]},
            "KEDA ScaledObject x",
            id="KEDA",
        ),
        pytest.param({"labels": {"scaledobject.keda.sh/name": "y"}}, "KEDA ScaledObject y", id="KEDA label"),
        pytest.param({"labels": {"app.kubernetes.io/managed-by": "keda-operator"}}, "KEDA", id="managed by KEDA"),
        pytest.param({"ownerReferences": [{"kind": "PodAutoscaler", "name": "pa"}]}, "PodAutoscaler pa", id="AIBrix"),
        pytest.param(
            {"ownerReferences": [{"kind": "Thing", "name": "t", "controller": True}]}, "Thing t", id="controller"
        ),
        pytest.param({"ownerReferences": [{"kind": "Thing", "name": "t"}]}, None, id="owner that controls nothing"),
        pytest.param(
            {"annotations": {"trimtab/policy": "models/other"}}, "Trimtab policy models/other", id="another policy"
        ),
        pytest.param({"annotations": {"trimtab/policy": "models/svc"}}, None, id="this policy"),
    ],
)
def test_who_owns_an_hpa(policy, metadata, expected):
    assert view_of(policy, hpa(metadata=metadata)).value.foreign_owner == expected


def test_a_second_hpa_on_the_target_is_a_rival(policy):
    keda = hpa("keda-hpa-svc", metadata={"labels": {"scaledobject.keda.sh/name": "svc"}})
    assert (
        view_of(policy, hpa(), keda).value.foreign_owner
        == "HPA keda-hpa-svc on the same target (KEDA ScaledObject svc)"
    )
    alone = view_of(policy, keda)
    assert isinstance(alone, Unknown)
    assert "keda-hpa-svc" in alone.reason


def test_no_hpa_is_an_answer(policy):
    assert view_of(policy, hpa("other", target="other")) == Known(None)


def test_pods_are_read(policy):
    made = policy(scaling=SCALING)
    ready = {"type": "Ready", "status": "True"}
    items = [
        {
            "metadata": {"name": "b", "uid": "2", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {
                "phase": "Running",
                "podIP": "10.0.0.2",
                "startTime": "2026-01-01T00:00:10Z",
                "conditions": [ready],
            },
        },
        {
            "metadata": {"name": "a", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": "Pending"},
        },
        {"metadata": {"name": "done", "uid": "3"}, "status": {"phase": "Succeeded"}},
        {"metadata": {"name": "evicted", "uid": "4"}, "status": {"phase": "Failed"}},
    ]
    kube, views, problems = read(made, answers={PODS: {"items": items}})
    a, b = views[made.key].pods.value
    assert (a.name, a.ready, a.ip, a.terminating, a.started_at) == ("a", False, None, False, 1767225600.0)
    assert (b.name, b.ready, b.ip, b.terminating, b.started_at) == ("b", True, "10.0.0.2", True, 1767225610.0)
    assert (PODS, {"labelSelector": "app=svc"}) in kube.asked
    assert problems == []


SINCE = {"lastTransitionTime": "2026-01-01T00:03:00Z"}
RUNNING = {"containerStatuses": [{"name": "model", "restartCount": 0}]}


@pytest.mark.parametrize(
    ("status", "ready_at"),
    [
        pytest.param(
            {"conditions": [{"type": "Ready", "status": "True", **SINCE}], **RUNNING}, 1767225780.0, id="ready"
        ),
        pytest.param({"conditions": [{"type": "Ready", "status": "False", **SINCE}], **RUNNING}, None, id="not ready"),
        pytest.param({"conditions": [{"type": "PodScheduled", "status": "True", **SINCE}]}, None, id="only scheduled"),
        pytest.param(
            {"conditions": [{"type": "Ready", "status": "True"}]}, None, id="the server does not say since when"
        ),
        pytest.param(
            {
                "conditions": [{"type": "Ready", "status": "True", **SINCE}],
                "containerStatuses": [{"name": "model", "restartCount": 1}],
            },
            None,
            id="crashed and became ready again",
        ),
        pytest.param(
            {
                "conditions": [{"type": "Ready", "status": "True", **SINCE}],
                **RUNNING,
                "initContainerStatuses": [{"name": "sidecar", "restartCount": 2}],
            },
            None,
            id="its sidecar crashed",
        ),
        pytest.param({}, None, id="no status"),
    ],
)
def test_how_long_a_pod_took_to_warm_up(policy, status, ready_at):
    made = policy(scaling=SCALING)
    item = {"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status}
    (pod,) = read(made, answers={PODS: {"items": [item]}})[1][made.key].pods.value
    assert (pod.created_at, pod.ready_at) == (1767225600.0, ready_at)


def test_what_is_written_on_a_pod_that_is_drained(policy):
    made = policy(scaling=SCALING)
    notes = {"trimtab/draining": '{"since":12.5,"cost":"7"}', "controller.kubernetes.io/pod-deletion-cost": "-1000"}
    items = [{"metadata": {"name": "a", "annotations": notes}}, {"metadata": {"name": "b"}}]
    a, b = read(made, answers={PODS: {"items": items}})[1][made.key].pods.value
    assert (a.drain, a.deletion_cost) == (Mark(12.5, "7"), "-1000")
    assert (b.drain, b.deletion_cost) == (None, None)


def test_calls_are_shared_by_policies(policy):
    policies = [policy(f"p{i}", scaling={**SCALING, "hpa": f"h{i}"}) for i in range(10)]
    kube, views, _ = read(*policies)
    assert len(kube.asked) == 3
    assert len(views) == 10


def test_what_needs_no_kubernetes_asks_nothing(policy):
    made = policy(endpoint="http://{instance}")
    kube, views, _ = read(made)
    assert kube.asked == []
    assert (views[made.key].hpa, views[made.key].pods) == (NotAsked(), NotAsked())


def test_an_endpoint_with_pod_ip_lists_the_namespace(policy):
    made = policy(endpoint="http://{pod_ip}:80")
    kube, views, _ = read(made)
    assert kube.asked == [(PODS, {})]
    assert views[made.key].pods == Known(())


def test_no_target_is_an_answer_and_its_pods_are_unknown(policy):
    made = policy(scaling=SCALING)
    _, views, problems = read(made, answers={SCALE: NotFound("Kubernetes", "no such object")})
    assert views[made.key].scale == Known(None)
    assert views[made.key].pods == Unknown("Deployment models/svc does not exist")
    assert problems == []


def test_scale_of_zero_is_left_out_by_the_server(policy):
    made = policy(scaling=SCALING)
    _, views, _ = read(made, answers={SCALE: {"spec": {}, "status": {"replicas": 0, "selector": "app=svc"}}})
    assert views[made.key].scale == Known(ScaleView(0, 0))


def test_one_refusal_leaves_the_rest(policy):
    made = policy(scaling=SCALING)
    _, views, problems = read(made, answers={HPAS: Denied("Kubernetes", "may not list horizontalpodautoscalers")})
    assert isinstance(views[made.key].hpa, Unknown)
    assert views[made.key].scale == Known(ScaleView(3, 3))
    assert problems == ["Kubernetes: may not list horizontalpodautoscalers"]


def test_an_outage_is_asked_once(policy):
    policies = [policy(f"p{i}", scaling=SCALING) for i in range(3)]
    kube, views, problems = read(*policies, answers={HPAS: Unreachable("Kubernetes", "connection refused")})
    assert len(kube.asked) == 1
    assert all(isinstance(view.pods, Unknown) and isinstance(view.scale, Unknown) for view in views.values())
    assert problems == ["Kubernetes: connection refused"]


def test_rubbish_is_unknown(policy):
    made = policy(scaling=SCALING)
    _, views, problems = read(made, answers={HPAS: {"kind": "Status"}})
    assert isinstance(views[made.key].hpa, Unknown)
    assert len(problems) == 1
