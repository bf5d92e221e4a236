import pytest
from balancer_lab import ModelServer, RedisLab, free_port


@pytest.fixture
def lab(tmp_path):
    made = RedisLab(tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def cluster(tmp_path):
    made = RedisLab(tmp_path)
    try:
        made.start_cluster()
        yield made
    finally:
        made.stop()


@pytest.fixture
def models():
    servers = [ModelServer(name) for name in ("one", "two")]
    try:
        yield servers
    finally:
        for server in servers:
            server.go_on.set()
            server.shutdown()
            server.server_close()


@pytest.fixture
def refused():
    """The address of nobody."""
    return f"http://127.0.0.1:{free_port()}"
