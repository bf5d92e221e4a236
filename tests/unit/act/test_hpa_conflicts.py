"""Which fields an apply takes by force: ours alone, whoever wrote there, and nothing of anybody else's."""

import copy

import pytest

from controller.act.hpa import HpaWriter
from controller.clients.kube import FieldConflict
from controller.deadline import Deadline
from controller.model.fence import Fence
from controller.model.outcome import Result
from controller.model.plan import HpaWrite
from controller.model.snapshot import HpaSpec

LEARNED, MIN = ".metadata.annotations.trimtab/learned", ".spec.minReplicas"
OURS = {"manager": "trimtab", "operation": "Apply", "fieldsV1": {"f:spec": {"f:maxReplicas": {}}}}
LIVE = {
    "metadata": {"name": "h", "namespace": "models", "uid": "u", "resourceVersion": "7", "managedFields": [OURS],
                 "annotations": {"trimtab/policy": "models/m", "trimtab/original": "{}", "trimtab/learned": "scribble"}},
    "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "m"}, "minReplicas": 2, "maxReplicas": 10, "metrics": []},
    "status": {"currentReplicas": 2, "desiredReplicas": 2},
}  # fmt: skip


class Server:
    """An API server that refuses an apply that is not forced, because others own these fields."""

    def __init__(self, manager, fields):
        self.manager, self.fields, self.forced = manager, fields, []

    def get(self, _path, *, deadline):
        del deadline
        return copy.deepcopy(LIVE)

    def apply(self, _path, body, *, deadline, force=False):
        del deadline
        if not force:
            raise FieldConflict("conflict", (self.manager,), self.fields)
        self.forced.append(body)
        return {**copy.deepcopy(LIVE), "spec": body["spec"]}


@pytest.mark.parametrize(
    ("manager", "fields", "adopt", "forced"),
    [
        pytest.param("kubectl-annotate", (LEARNED,), True, True, id="a scribble by hand"),
        pytest.param("argocd-controller", (LEARNED,), True, True, id="by a program"),
        pytest.param("argocd-controller", (LEARNED,), False, True, id="adopting is another matter"),
        pytest.param("kubectl-edit", (LEARNED, MIN), True, False, id="with a bound that was taken back"),
        pytest.param("argocd-controller", (MIN,), True, False, id="a bound alone"),
    ],
)
def test_what_is_taken_by_force(manager, fields, adopt, forced):
    server = Server(manager, fields)
    before = HpaSpec("Deployment", "m", 2, 10, ())
    write = HpaWrite("models", "h", before, HpaSpec("Deployment", "m", 4, 10, ()), "backlog", learned='{"v":1}')
    written = HpaWriter(server).write(
        write, policy="models/m", at=1.0, adopt=adopt, fence=Fence(1, lambda: True), deadline=Deadline.after(5.0)
    )
    assert (written.result is Result.DONE) == forced
    assert written.conflict != forced
    assert [body["metadata"]["annotations"]["trimtab/learned"] for body in server.forced] == ['{"v":1}'] * forced
