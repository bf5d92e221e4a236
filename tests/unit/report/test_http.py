import http.client

import pytest

from controller.errors import TrimtabError
from controller.report.health import Health
from controller.report.http import HttpServer
from controller.report.metrics import Metrics


@pytest.fixture
def server():
    server = HttpServer(("127.0.0.1", 0), Metrics(), Health(15.0))
    server.start()
    yield server
    server.stop()


def ask(server, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_routes(server):
    assert ask(server, "/healthz")[0] == 200
    assert ask(server, "/readyz") == (503, "the first tick has not ended\n")
    status, text = ask(server, "/metrics")
    assert status == 200
    assert 'trimtab_actions_total{actuator="hpa",result="done"} 0.0' in text
    assert ask(server, "/nothing")[0] == 404
    assert ask(server, "/healthz", "HEAD") == (200, "")


def test_a_taken_port_is_one_line(server):
    with pytest.raises(TrimtabError, match=rf"cannot listen on 127.0.0.1:{server.port}: Address already in use"):
        HttpServer(("127.0.0.1", server.port), Metrics(), Health(15.0))
