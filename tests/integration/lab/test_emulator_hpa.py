"""The emulator's crude HPA keeps the rules that the demo shows."""

import pytest
from support.eventually import eventually
from support.objects import Paths, deployment, hpa

pytestmark = pytest.mark.integration
PATHS = Paths("default")


@pytest.fixture
def api(emulator):
    api = emulator.api()
    emulator.metrics.set("default", "*", 0.7, 2**29)
    api.post(PATHS.deployments, deployment(replicas=2))
    eventually(lambda: replicas(api) == 2)
    api.apply(f"{PATHS.hpas}/web", hpa(), "trimtab")
    eventually(lambda: conditions(api).get("ScalingActive") == "ValidMetricFound")
    return api


def replicas(api):
    return api.get(f"{PATHS.deployments}/web")["status"].get("readyReplicas", 0)


def conditions(api):
    return {c["type"]: c["reason"] for c in api.get(f"{PATHS.hpas}/web")["status"].get("conditions", ())}


def test_load_scales_to_the_maximum_and_quiet_to_the_minimum(emulator, api):
    assert replicas(api) == 2
    emulator.metrics.set("default", "*", 1.5, 2**28)
    eventually(lambda: replicas(api) == 10)
    assert conditions(api)["ScalingLimited"] == "TooManyReplicas"
    emulator.metrics.set("default", "*", 0.1, 2**27)
    eventually(lambda: replicas(api) == 2)


def test_missing_numbers_hold_the_fleet(emulator, api):
    emulator.metrics.clear("default")
    eventually(lambda: conditions(api)["ScalingActive"] == "FailedGetResourceMetric")
    assert replicas(api) == 2


def test_a_quiet_fleet_keeps_its_resource_versions(emulator, api):
    eventually(lambda: api.get(f"{PATHS.hpas}/web")["status"]["currentReplicas"] == 2)
    before = api.get(f"{PATHS.hpas}/web")["metadata"]["resourceVersion"]
    calls = []
    emulator.metrics.set("default", "*", lambda pod: calls.append(pod) or 0.7, 2**29)
    eventually(lambda: len(calls) > 6)  # some syncs later
    assert api.get(f"{PATHS.hpas}/web")["metadata"]["resourceVersion"] == before
