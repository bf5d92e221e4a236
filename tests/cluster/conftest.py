import pytest
from acceptance_world import Exporter, World
from support.daemon import Daemon
from twin import STEPS, Twin

from controller.lab.prometheus import PrometheusServer, Target
from controller.lab.redis import RedisServer


@pytest.fixture(scope="session")
def surroundings(cluster, tmp_path_factory):
    """A real Redis and a real Prometheus, which scrapes what the pods of all worlds would export."""
    if not cluster.has_controllers:
        pytest.skip("the control plane has no controllers: no pods, no HPA")
    folder = tmp_path_factory.mktemp("surroundings")
    exporter = Exporter(cluster)
    try:
        with (
            RedisServer.start(folder / "redis") as redis,
            PrometheusServer.start(
                folder / "prometheus",
                targets=[Target(exporter.address)],
                scrape_interval="250ms",
                scrape_config={"honor_labels": True},
            ) as prometheus,
        ):
            client = redis.client()
            yield {"redis": client, "prometheus": prometheus, "exporter": exporter}
            client.close()
    finally:
        exporter.stop()


@pytest.fixture
def world(scaling_cluster, namespace, surroundings, tmp_path):
    """A namespace of this test's own, its policies, and the means to run daemons on it."""
    made = World(scaling_cluster, namespace, tmp_path, **surroundings)
    yield made
    surroundings["exporter"].set(namespace, None)


@pytest.fixture
def steered(world):
    """The world with a Deployment of two ready pods and a policy on it."""
    world.policy()
    world.deploy()
    return world


@pytest.fixture
def twin(world):
    """A steered HPA and, under the same load, the plain one that it was found with; bounds move each second."""
    world.policy(least=(2, 8), most=(10, 14), memory=None, steps=STEPS)
    made = Twin(world)
    yield made
    world.cluster.metrics.clear(world.namespace)


@pytest.fixture
def daemon(steered):
    """A daemon on it, which ticks when told to."""
    with steered.daemon() as running:
        yield running


@pytest.fixture
def start(world):
    """Starts a daemon on the world as a process of its own, `daemon-0` the first; all are ended at the end."""
    running = []

    def begin():
        running.append(Daemon(world.folder, *world.flags(), name=f"daemon-{len(running)}", wait=False))
        return running[-1]

    yield begin
    for daemon in running:
        daemon.process.kill()
