"""The faults that the emulator puts between a client and itself."""

import threading

import pytest
import requests
from support.objects import Paths, hpa

from controller.lab.cluster.api import ApiError
from controller.lab.emulator.faults import Fault

pytestmark = pytest.mark.integration
PATHS = Paths("default")


@pytest.fixture
def api(emulator):
    return emulator.api()


@pytest.mark.parametrize("status", [403, 409, 422, 429, 500, 503])
def test_a_status_instead_of_an_answer(emulator, api, status):
    emulator.faults.add(Fault(status=status, path="horizontalpodautoscalers", message="on purpose"))
    with pytest.raises(ApiError, match="on purpose") as caught:
        api.get(PATHS.hpas)
    assert caught.value.status == status
    assert api.get(PATHS.pods)["items"] == []
    emulator.faults.clear()
    assert api.get(PATHS.hpas)["items"] == []


def test_one_method_and_so_many_times(emulator, api):
    emulator.faults.add(Fault(status=409, method="PATCH", path="horizontalpodautoscalers", times=1))
    assert api.get(PATHS.hpas)["items"] == []
    with pytest.raises(ApiError):
        api.apply(f"{PATHS.hpas}/web", hpa(), "trimtab")
    assert api.apply(f"{PATHS.hpas}/web", hpa(), "trimtab")["spec"]["minReplicas"] == 2


def test_headers_go_along(emulator):
    emulator.faults.add(Fault(status=429, path="leases", headers={"Retry-After": "7"}))
    with requests.get(emulator.server + PATHS.leases, timeout=5) as answer:
        assert answer.headers["Retry-After"] == "7"


def test_a_hang_lasts_until_it_is_cleared(emulator, api):
    emulator.faults.add(Fault(hang=True, path="horizontalpodautoscalers"))
    with pytest.raises(requests.Timeout):
        emulator.api(timeout_seconds=0.2).get(PATHS.hpas)
    errors = []

    def ask():
        patient = emulator.api()
        try:
            patient.get(PATHS.hpas)
        except requests.ConnectionError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    emulator.faults.clear()
    thread.join(5)
    assert len(errors) == 1
    assert api.get(PATHS.hpas)["items"] == []


def test_latency_delays_the_answer(emulator, api):
    emulator.faults.add(Fault(latency_seconds=0.5, path="horizontalpodautoscalers"))
    with pytest.raises(requests.Timeout):
        emulator.api(timeout_seconds=0.1).get(PATHS.hpas)
    assert api.get(PATHS.hpas)["items"] == []
