"""Two annotations of exactly one pod, written and taken back; a pod that is gone needs none."""

import json

import pytest

from controller.act.drain import PodMarker
from controller.deadline import Deadline
from controller.errors import Conflict, Denied, NotFound
from controller.model.outcome import Result
from controller.model.plan import Drain, DrainPod

COST, DRAINING = "controller.kubernetes.io/pod-deletion-cost", "trimtab/draining"


class Kube:
    def __init__(self, error=None):
        self.error, self.calls = error, []

    def patch_merge(self, path, body, *, query, deadline):  # noqa: ARG002 - the client's
        self.calls.append((path, body))
        if self.error:
            raise self.error
        return {}


class Fence:
    epoch = 1

    def __init__(self, *, holds=True):
        self.holds = holds

    def valid(self):
        return self.holds


def carry_out(drain, kube, **fence):
    return PodMarker(kube).carry_out(drain, "models", at=12.3456, fence=Fence(**fence), deadline=Deadline.after(5))


def test_a_mark_keeps_the_cost_that_was_there():
    kube = Kube()
    result, detail = carry_out(Drain(mark=(DrainPod("a", "u1", cost="7"), DrainPod("b", "u2"))), kube)
    assert (result, detail) == (Result.DONE, "a draining, b draining")
    (path, body), (_, other) = kube.calls
    assert path == "/api/v1/namespaces/models/pods/a"
    assert body["metadata"]["uid"] == "u1"
    assert body["metadata"]["annotations"][COST] == "-1000"
    assert json.loads(body["metadata"]["annotations"][DRAINING]) == {"since": 12.346, "cost": "7"}
    assert json.loads(other["metadata"]["annotations"][DRAINING])["cost"] is None


@pytest.mark.parametrize("before", ["7", None])
def test_given_back_it_has_what_it_had(before):
    kube = Kube()
    carry_out(Drain(release=(DrainPod("a", "u1", "-1000", before),)), kube)
    assert kube.calls[0][1]["metadata"]["annotations"] == {DRAINING: None, COST: before}


@pytest.mark.parametrize(
    "error", [NotFound("Kubernetes", "404"), Conflict("Kubernetes", "the UID in the precondition")]
)
def test_a_pod_that_is_gone_or_another_is_no_failure(error):
    assert carry_out(Drain(mark=(DrainPod("a", "u1"),)), Kube(error)) == (Result.UNCHANGED, "the pods are gone")


def test_a_missing_right_is_named():
    with pytest.raises(Denied, match="needs the verb patch on pods"):
        carry_out(Drain(mark=(DrainPod("a", "u1"),)), Kube(Denied("Kubernetes", "403")))


def test_who_leads_no_more_marks_nothing():
    kube = Kube()
    assert carry_out(Drain(mark=(DrainPod("a", "u1"),)), kube, holds=False)[0] is Result.REFUSED
    assert kube.calls == []
