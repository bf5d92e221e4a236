"""What the scripted API server takes for granted: the real one's conflicts, locks, Events and Leases."""

import json

import pytest
from support.eventually import eventually
from support.objects import Paths, hpa, managers

from controller.act.actor import Actor
from controller.clients.kube import KubeApi
from controller.clients.redis import connect
from controller.deadline import Deadline
from controller.lead.lease import LeaseLeader, Timing
from controller.model.fence import Fence
from controller.model.plan import HpaWrite, Plan
from controller.model.snapshot import HpaSpec, ResourceTarget
from controller.policy.schema import LoadPolicy
from controller.settings import Settings

TARGETS = (ResourceTarget("cpu", 70), ResourceTarget("memory", 80))


@pytest.fixture
def kube(cluster):
    client = KubeApi.connect(Settings(kubernetes="kubeconfig", kubeconfig=str(cluster.kubeconfig)))
    yield client
    client.close()


@pytest.fixture
def step(kube, namespace):
    """Moves minReplicas of the HPA `web`; None as `before` creates it. Returns the outcomes."""
    client = connect(Settings())
    actor = Actor(Settings(), kube=kube, redis=client)

    def move(before, after, *, adopt=True):
        spec = {
            "instances": {"selector": {"service": "web"}},
            "signals": {"preset": "fastapi"},
            "scaling": {"hpa": "web", "target": {"name": "web"}, "adopt": adopt},
        }
        document = {"apiVersion": "trimtab/v1", "kind": "LoadPolicy", "spec": spec}
        policy = LoadPolicy.model_validate({**document, "metadata": {"name": "web", "namespace": namespace}})
        was, will = (None if n is None else HpaSpec("Deployment", "web", n, 10, TARGETS) for n in (before, after))
        plan = Plan(policy.key, 1.0, None, HpaWrite(namespace, "web", was, will, "backlog"))
        outcomes = actor.act([(policy, plan)], Fence(1, lambda: True), Deadline.after(10))
        return [(outcome.actuator, outcome.result.value) for outcome in outcomes], outcomes[0].detail

    yield move
    actor.close()
    client.close()


@pytest.fixture
def live(kube, namespace):
    return lambda: kube.get(f"{Paths(namespace).hpas}/web", deadline=Deadline.after(5))


@pytest.fixture
def kubectl(cluster, namespace):
    def run(*arguments, body=None):
        stdin = None if body is None else json.dumps(body)
        return cluster.kubectl("-n", namespace, *arguments, stdin=stdin)

    return run


def test_created_stepped_and_then_left_as_it_is(step, live):
    assert step(None, 2)[0] == [("hpa", "done"), ("event", "done")]
    assert step(2, 4)[0] == [("hpa", "done"), ("event", "done")]
    made = live()
    assert made["spec"]["minReplicas"] == 4
    assert managers(made) == {("trimtab", "Apply")}
    assert step(4, 4)[0] == [("hpa", "unchanged")]
    assert live()["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    results, detail = step(4, 12)
    assert results == [("hpa", "failed")]
    assert "422" in detail
    assert "must be greater than or equal to `minReplicas`" in detail


def test_adopted_taken_back_left_alone_and_handed_over(step, live, kubectl):
    kubectl("apply", "-f", "-", body=hpa())
    assert step(2, 4, adopt=False)[0][0] == ("hpa", "refused")
    kubectl("annotate", "hpa", "web", "example.com/touched=1")
    assert step(2, 4)[0][0] == ("hpa", "done")
    assert json.loads(live()["metadata"]["annotations"]["trimtab/original"])["minReplicas"] == 2
    kubectl("apply", "-f", "-", body=hpa())
    results, detail = step(2, 4)
    assert results[0] == ("hpa", "refused")
    assert "kubectl-client-side-apply owns spec.minReplicas" in detail
    assert live()["spec"]["minReplicas"] == 2
    kubectl("annotate", "hpa", "web", "trimtab/policy-")
    assert step(2, 4)[0][0] == ("hpa", "done")
    assert live()["spec"]["minReplicas"] == 4


def test_a_lease_changes_hands_with_a_higher_epoch(kube, namespace):
    timing = Timing(lease=3, renew=2, retry=0.1)
    first, second = (LeaseLeader(kube, namespace=namespace, identity=name, timing=timing) for name in ("a", "b"))
    try:
        first.start()
        eventually(first.is_leader)
        epoch = first.fence().epoch
        second.start()
        eventually(lambda: second.status() == "waits, a leads")
        first.stop()
        eventually(second.is_leader)
        assert second.fence().epoch == epoch + 1
    finally:
        first.stop()
        second.stop()
