"""The control plane itself: numbers that tests set, and faults that they make."""

import pytest
import requests
from support.eventually import eventually
from support.objects import Paths, deployment

from controller.lab.cluster.api import ApiError
from controller.lab.cluster.metrics import ROOT
from controller.lab.cluster.processes import Processes, StartError


@pytest.fixture
def api(cluster):
    return cluster.api()


class TestMetrics:
    @pytest.fixture(autouse=True)
    def pods(self, scaling_cluster, namespace):
        api = scaling_cluster.api()
        paths = Paths(namespace)
        for name in ("web", "other"):
            api.post(paths.deployments, deployment(name, replicas=1))

        def running():
            return [pod for pod in api.get(paths.pods)["items"] if pod["status"]["phase"] == "Running"]

        return eventually(lambda: running() if len(running()) == 2 else None)

    def listed(self, api, namespace, **params):
        items = api.get(f"{ROOT}/namespaces/{namespace}/pods", **params)["items"]
        return {item["metadata"]["name"]: item["containers"][0]["usage"] for item in items}

    def test_are_what_the_test_says_and_absent_otherwise(self, cluster, api, namespace, pods):
        names = sorted(pod["metadata"]["name"] for pod in pods)
        assert self.listed(api, namespace) == {}
        cluster.metrics.set(namespace, names[0], 0.25, 2**20)
        assert self.listed(api, namespace) == {names[0]: {"cpu": "250000000n", "memory": "1048576"}}
        assert api.get(f"{ROOT}/namespaces/{namespace}/pods/{names[0]}")["kind"] == "PodMetrics"
        with pytest.raises(ApiError) as caught:
            api.get(f"{ROOT}/namespaces/{namespace}/pods/{names[1]}")
        assert caught.value.status == 404

    def test_may_be_functions_and_patterns(self, cluster, api, namespace):
        cluster.metrics.set(namespace, "*", lambda pod: None if pod.startswith("other") else 1.0)
        assert {usage["cpu"] for usage in self.listed(api, namespace).values()} == {"1000000000n"}
        assert len(self.listed(api, namespace)) == 1

    def test_honour_label_selectors(self, cluster, api, namespace):
        cluster.metrics.set(namespace, "*", 1.0)
        assert [name[:4] for name in self.listed(api, namespace, labelSelector="app=web")] == ["web-"]

    def test_are_served_to_the_front_proxy_only(self, cluster, api):
        port = api.get("/api/v1/namespaces/kube-system/services/metrics-server")["spec"]["ports"][0]["port"]
        with pytest.raises(requests.ConnectionError):
            requests.get(f"https://localhost:{port}{ROOT}", verify=cluster.ca_file, timeout=5)


# Python's ssl leaks a socket that is reset between connecting and wrapping, which a kill may just hit.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
class TestFaults:
    def test_a_paused_api_server_hangs_and_resumes(self, cluster):
        api, hasty = cluster.api(), cluster.api(timeout_seconds=0.5)
        cluster.pause()
        try:
            with pytest.raises(requests.Timeout):
                hasty.get("/api/v1/namespaces")
        finally:
            cluster.resume()
        eventually(lambda: api.answers("/readyz"))

    def test_a_killed_api_server_refuses_and_comes_back_with_its_data(self, cluster, namespace):
        api = cluster.api()
        cluster.kill()
        try:
            with pytest.raises(requests.ConnectionError):
                api.get("/api/v1/namespaces")
        finally:
            cluster.restart()
        assert api.get(f"/api/v1/namespaces/{namespace}")["metadata"]["name"] == namespace


def test_a_program_that_fails_is_named_with_its_last_words(tmp_path):
    processes = Processes(tmp_path)
    try:
        processes.start("etcd", ["/bin/sh", "-c", "echo cannot bind; exit 3"])
        with pytest.raises(StartError, match=r"etcd ended with 3; its last lines:\ncannot bind"):
            processes.wait("etcd", lambda: False, ["etcd"], 10)
    finally:
        processes.stop()
