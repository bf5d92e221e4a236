"""One Redis for these tests; each test has a policy, and so a hash slot, of its own. Both forms run the same tests."""

import asyncio
import contextlib
import uuid

import pytest
from support.redis_lab import RedisServer

from trimtab import AsyncRequestQueue, RequestQueue


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(server):
    with server.client() as client:
        yield client


@pytest.fixture
def policy():
    return f"tests/{uuid.uuid4().hex}"


class Blocking:
    """An AsyncRequestQueue driven from a test that is no coroutine."""

    def __init__(self, policy, **options):
        self.runner = asyncio.Runner()
        self.queue = self.run(self._make(policy, options))
        self.protocol = self.queue.protocol

    async def _make(self, policy, options):
        return AsyncRequestQueue(policy, **options)

    def run(self, coroutine):
        return self.runner.run(coroutine)

    def __getattr__(self, name):
        method = getattr(self.queue, name)
        return lambda *args, **options: self.run(method(*args, **options))

    def close(self):
        self.run(self.queue.close())
        self.runner.close()


@pytest.fixture(params=["threads", "asyncio"])
def make(request, server, policy):
    """A factory of queues of this test's policy; the options are RequestQueue's."""
    form = {"threads": RequestQueue, "asyncio": Blocking}[request.param]
    with contextlib.ExitStack() as stack:

        def build(**options):
            queue = form(policy, **{"redis": server.url, **options})
            stack.callback(queue.close)
            return queue

        yield build


@pytest.fixture
def make_sync(server, policy):
    """The same for tests of what only threads have, or where the form does not matter."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(RequestQueue(policy, **{"redis": server.url, **options}))
