"""What the real HPA controller does, which Trimtab's rails rest on."""

import pytest
from support.eventually import eventually
from support.objects import Paths, deployment, hpa


@pytest.fixture
def api(scaling_cluster):
    return scaling_cluster.api()


@pytest.fixture
def paths(namespace):
    return Paths(namespace)


@pytest.fixture
def use(scaling_cluster, namespace):
    """Say what each pod uses, as a ratio of its request of one core and 1 GiB."""
    return lambda cpu, memory=0.5: scaling_cluster.metrics.set(namespace, "*", cpu, memory * 2**30)


@pytest.fixture
def web(api, paths, use):
    """A Deployment of 2 ready pods at its target of 70 % CPU."""
    use(0.7)
    api.post(paths.deployments, deployment(replicas=2))
    eventually(lambda: ready(api, paths) == 2)


def ready(api, paths):
    return api.get(f"{paths.deployments}/web")["status"].get("readyReplicas", 0)


def replicas(api, paths):
    return api.get(f"{paths.deployments}/web")["spec"]["replicas"]


def conditions(api, paths, name="web"):
    status = api.get(f"{paths.hpas}/{name}").get("status", {})
    return {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", ())}


def settle(api, paths):
    """Wait until the HPA has read its metric once."""
    eventually(lambda: conditions(api, paths).get("ScalingActive") == ("True", "ValidMetricFound"))


@pytest.mark.usefixtures("web")
def test_load_takes_the_fleet_to_the_maximum_and_quiet_to_the_minimum(api, paths, use):
    api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
    settle(api, paths)
    assert replicas(api, paths) == 2
    use(1.5)
    eventually(lambda: ready(api, paths) == 10)
    eventually(lambda: conditions(api, paths)["ScalingLimited"] == ("True", "TooManyReplicas"))
    use(0.1, memory=0.1)
    eventually(lambda: ready(api, paths) == 2)


@pytest.mark.usefixtures("web")
def test_memory_alone_scales_too(api, paths, use):
    api.apply(f"{paths.hpas}/web", hpa(most=5), "trimtab")
    use(0.1, memory=1.6)
    eventually(lambda: ready(api, paths) == 4)


@pytest.mark.usefixtures("web")
def test_raising_the_minimum_starts_pods_though_there_is_no_load(api, paths):
    api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
    settle(api, paths)
    api.apply(f"{paths.hpas}/web", hpa(least=6), "trimtab")
    eventually(lambda: ready(api, paths) == 6, timeout_seconds=5)


@pytest.mark.usefixtures("web")
def test_lowering_the_maximum_kills_busy_pods_without_a_word(api, paths, use):
    use(1.5)
    api.apply(f"{paths.hpas}/web", hpa(most=6), "trimtab")
    eventually(lambda: ready(api, paths) == 6)
    use(0.75)  # within tolerance: nothing but the bound asks for fewer
    settle(api, paths)
    api.apply(f"{paths.hpas}/web", hpa(most=3), "trimtab")
    # Far less than the 5 s of stabilisation that every other way down takes.
    eventually(lambda: replicas(api, paths) == 3, timeout_seconds=4)
    eventually(lambda: len(api.get(paths.pods)["items"]) == 3)


@pytest.mark.usefixtures("web")
def test_missing_metrics_hold_the_fleet(api, paths, use, scaling_cluster, namespace):
    use(1.5)
    api.apply(f"{paths.hpas}/web", hpa(most=4), "trimtab")
    eventually(lambda: ready(api, paths) == 4)
    scaling_cluster.metrics.clear(namespace)
    eventually(lambda: conditions(api, paths)["ScalingActive"] == ("False", "FailedGetResourceMetric"))
    assert replicas(api, paths) == 4


def test_a_missing_target_is_reported(api, paths):
    api.apply(f"{paths.hpas}/nobody", hpa("nobody"), "trimtab")
    eventually(lambda: conditions(api, paths, "nobody").get("AbleToScale") == ("False", "FailedGetScale"))


@pytest.mark.usefixtures("web")
def test_two_hpas_on_the_same_pods_block_each_other(api, paths):
    api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
    second = hpa()
    second["metadata"]["name"] = "rival"
    api.post(paths.hpas, second)
    eventually(lambda: conditions(api, paths).get("ScalingActive") == ("False", "AmbiguousSelector"))
