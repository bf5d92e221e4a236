"""The daemon's own adapter and elector on a real API server and on the emulator."""

import pytest
from support.eventually import eventually
from support.objects import hpa

from controller.clients.kube import FieldConflict, KubeApi
from controller.deadline import Deadline
from controller.errors import Conflict, NotFound, Rejected
from controller.lead.lease import LeaseLeader, Timing
from controller.settings import Settings


def soon():
    return Deadline.after(10)


@pytest.fixture
def kube(plane):
    settings = Settings(kubernetes="kubeconfig", kubeconfig=str(plane.kubeconfig), kubernetes_timeout_seconds=10)
    client = KubeApi.connect(settings)
    yield client
    client.close()


def test_an_hpa_is_created_read_and_moved(kube, paths):
    path = f"{paths.hpas}/web"
    with pytest.raises(NotFound):
        kube.get(path, deadline=soon())
    assert kube.apply(path, hpa(), deadline=soon())["spec"]["maxReplicas"] == 10
    assert kube.apply(path, hpa(most=12), deadline=soon())["spec"]["maxReplicas"] == 12
    assert [item["metadata"]["name"] for item in kube.get(paths.hpas, deadline=soon())["items"]] == ["web"]


def test_a_conflict_names_the_other_owner_and_the_field(plane, kube, paths):
    plane.api().post(paths.hpas, hpa(), fieldManager="kubectl-client-side-apply")
    with pytest.raises(FieldConflict) as caught:
        kube.apply(f"{paths.hpas}/web", hpa(least=3), deadline=soon())
    assert caught.value.managers == ("kubectl-client-side-apply",)
    assert caught.value.fields == (".spec.minReplicas",)


def test_an_invalid_hpa_is_rejected(kube, paths):
    with pytest.raises(Rejected, match="maxReplicas"):
        kube.apply(f"{paths.hpas}/web", hpa(least=11), deadline=soon())


def test_a_stale_replace_is_a_conflict(kube, paths):
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "x"},
        "spec": {"leaseTransitions": 1},
    }
    first = kube.create(paths.leases, lease, deadline=soon())
    kube.replace(f"{paths.leases}/x", {**first, "spec": {"leaseTransitions": 2}}, deadline=soon())
    with pytest.raises(Conflict):
        kube.replace(f"{paths.leases}/x", {**first, "spec": {"leaseTransitions": 3}}, deadline=soon())


def test_one_of_two_leads_and_hands_over_when_it_stops(kube, paths):
    timing = Timing(lease=6, renew=4, retry=0.1)
    leaders = [LeaseLeader(kube, namespace=paths.namespace, identity=name, timing=timing) for name in ("a", "b")]
    try:
        for leader in leaders:
            leader.start()
        first = eventually(lambda: next((leader for leader in leaders if leader.is_leader()), None))
        (second,) = set(leaders) - {first}
        eventually(lambda: "waits" in second.status())
        assert not second.is_leader()
        epoch = first.fence().epoch
        first.stop()
        assert not first.is_leader()
        eventually(second.is_leader)
        assert second.fence().epoch > epoch
    finally:
        for leader in leaders:
            leader.stop()
