"""An API server with other features than most: it drops a tolerance in silence, and takes minReplicas 0."""

import dataclasses
import json

import pytest
from plugins.planes import fresh_namespace
from support.objects import Paths, hpa

from controller.act.hpa import HpaWriter
from controller.clients.kube import KubeApi
from controller.deadline import Deadline
from controller.decide.behavior import propose
from controller.decide.pause import NOT_PAUSED
from controller.lab.cluster.binaries import find_binaries
from controller.lab.cluster.control_plane import Cluster
from controller.model import behavior
from controller.model.behavior import Direction, RatePolicy, Sides
from controller.model.outcome import Result
from controller.model.plan import HpaWrite
from controller.observe.hpa import view_of
from controller.policy.schema import Scaling
from controller.settings import Settings

GATES = "HPAConfigurableTolerance=false,HPAScaleToZero=true"
TOLERANT = Sides(down=Direction((RatePolicy("Pods", 1, 60.0),), tolerance=0.05))
EXTERNAL = {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}}


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    found = find_binaries()
    if isinstance(found, str):
        pytest.skip(found)
    with Cluster.start(tmp_path_factory.mktemp("other") / "plane", feature_gates=GATES) as running:
        yield running


pytestmark = pytest.mark.cluster


class Fence:
    epoch = 1

    def valid(self):
        return True


class Setup:
    """One HPA of a namespace, and the daemon's own writer and eyes."""

    def __init__(self, plane, namespace):
        self.namespace, self.api, self.paths = namespace, plane.api(), Paths(namespace)
        self.kube = KubeApi.connect(Settings(kubernetes="kubeconfig", kubeconfig=str(plane.kubeconfig)))
        self.writer = HpaWriter(self.kube)

    def view(self):
        return view_of(self.api.get(f"{self.paths.hpas}/web"), f"{self.namespace}/web")

    def write(self, *, least=None, speed=None):
        before = self.view().spec
        after = before if least is None else dataclasses.replace(before, min_replicas=least)
        write = HpaWrite(self.namespace, "web", before, after, "", speed)
        options = {"policy": f"{self.namespace}/web", "at": 0.0, "adopt": True}
        return self.writer.write(write, **options, fence=Fence(), deadline=Deadline.after(10))


@pytest.fixture
def setup(plane):
    with fresh_namespace(plane) as namespace:
        made = Setup(plane, namespace)
        body = hpa(least=1)
        body["spec"]["metrics"].append({"type": "External", "external": EXTERNAL})
        plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(body))
        yield made
        made.kube.close()


def test_a_tolerance_that_is_dropped_is_seen_said_and_not_written_again(setup):
    assert setup.write(speed=TOLERANT).result is Result.DONE
    view = setup.view()
    assert view.behavior.down.tolerance is None
    assert behavior.missing(view.behavior, TOLERANT) == {"scaleDown.tolerance"}
    rates = [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    section = {
        "hpa": "web",
        "target": {"name": "web"},
        "behavior": {"scaleDown": {"policies": rates, "tolerance": 0.05}},
    }
    move = propose(Scaling.model_validate(section), view, NOT_PAUSED)
    assert move.change is None
    assert "this API server drops scaleDown.tolerance" in move.hold.reason
    version = view.resource_version
    assert setup.write(speed=TOLERANT).result is Result.UNCHANGED
    assert setup.view().resource_version == version


def test_a_minimum_of_zero_is_taken(setup):
    assert setup.write(least=0).result is Result.DONE
    assert setup.view().spec.min_replicas == 0
