import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "clients"))

from redis_server import redis_server
from scripted_api import ScriptedApi, fake_client

from controller.clients.kube import KubeApi
from controller.clients.redis import connect
from controller.settings import Settings


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as (port, _):
        yield port


@pytest.fixture
def redis_settings(redis_port):
    return Settings(redis_url=f"redis://127.0.0.1:{redis_port}/0")


@pytest.fixture
def redis(redis_settings):
    client = connect(redis_settings)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def api():
    server = ScriptedApi()
    yield server
    server.close()


@pytest.fixture
def kube(api):
    client = KubeApi(fake_client(api.url), timeout_seconds=0.5)
    yield client
    client.close()
