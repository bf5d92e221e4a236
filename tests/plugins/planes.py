"""Fixtures with a Kubernetes API behind them: `cluster` (real, one a run), `namespace`, `emulator` (one a test)."""

import uuid

import pytest
from support.eventually import eventually

from controller.lab.cluster.binaries import find_binaries
from controller.lab.cluster.control_plane import Cluster
from controller.lab.emulator.emulator import Emulator


def pytest_collection_modifyitems(items):
    for item in items:
        if {"cluster", "scaling_cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A real control plane, started once for the run. Break it only if you mend it."""
    found = find_binaries()
    if isinstance(found, str):
        pytest.skip(found)
    with Cluster.start(tmp_path_factory.mktemp("cluster") / "plane", binaries=found) as running:
        yield running


@pytest.fixture
def scaling_cluster(cluster):
    """The same, if its controllers are there: Deployments make pods and HPAs scale."""
    if not cluster.has_controllers:
        pytest.skip(find_binaries().note)
    return cluster


@pytest.fixture
def namespace(cluster):
    """A namespace of this test's own on the real control plane."""
    with fresh_namespace(cluster) as name:
        yield name


@pytest.fixture
def emulator(tmp_path):
    """An emulator of this test's own, with a quick HPA."""
    with Emulator.start(
        tmp_path / "emulator", hpa_sync_seconds=0.2, hpa_downscale_stabilization_seconds=1.0
    ) as running:
        yield running


class fresh_namespace:  # noqa: N801 - used like a function
    """Context manager: a new namespace on a Cluster or an Emulator, with its default ServiceAccount where there are any."""

    def __init__(self, plane):
        self.plane = plane
        self.name = f"t-{uuid.uuid4().hex[:8]}"

    def __enter__(self):
        api = self.plane.api()
        api.post("/api/v1/namespaces", {"metadata": {"name": self.name}})
        if isinstance(self.plane, Cluster) and self.plane.has_controllers:
            eventually(lambda: api.answers(f"/api/v1/namespaces/{self.name}/serviceaccounts/default"))
        return self.name

    def __exit__(self, *_):
        self.plane.metrics.clear(self.name)
        self.plane.delete_namespace(self.name)
