"""One world for all rows of the outage table: each row breaks it and mends it."""

import pytest
from fault_world import world_of


@pytest.fixture(scope="package")
def world(scaling_cluster_of_the_run, tmp_path_factory):
    with world_of(tmp_path_factory.mktemp("world"), scaling_cluster_of_the_run) as running:
        yield running


@pytest.fixture(scope="session")
def scaling_cluster_of_the_run(cluster):
    if not cluster.has_controllers:
        pytest.skip("the control plane has no controllers: run `make cluster`")
    return cluster
