"""httpx and requests through a balancer, against real servers on loopback."""

import asyncio
import gc
import json

import httpx
import pytest
import requests
from balancer_lab import eventually

from trimtab import AsyncBalancer, Balancer
from trimtab.integrations.httpx import AsyncBalancedTransport, BalancedTransport
from trimtab.integrations.requests import BalancedAdapter

pytestmark = pytest.mark.integration

SERVICE = "http://model-service"


class Httpx:
    """The three clients behind one face: `send(method, path, **options)` gives (status, body, url)."""

    error = httpx.TransportError

    def __init__(self, endpoints, **options):
        self.balancer = Balancer("models/m", fallback=endpoints)
        self.client = httpx.Client(transport=BalancedTransport(self.balancer, **options), base_url=SERVICE, timeout=5)

    def send(self, method, path, **options):
        response = self.client.request(method, path, **options)
        return response.status_code, response.content, str(response.url)

    def close(self):
        self.client.close()


class AsyncHttpx:
    error = httpx.TransportError

    def __init__(self, endpoints, **options):
        self.balancer = AsyncBalancer("models/m", fallback=endpoints)
        self.options = options

    def send(self, method, path, **options):
        async def main():
            transport = AsyncBalancedTransport(self.balancer, **self.options)
            async with httpx.AsyncClient(transport=transport, base_url=SERVICE, timeout=5) as client:
                response = await client.request(method, path, **options)
                return response.status_code, response.content, str(response.url)

        return asyncio.run(main())

    def close(self):
        pass


class Requests:
    error = requests.ConnectionError

    def __init__(self, endpoints, **options):
        self.balancer = Balancer("models/m", fallback=endpoints)
        self.session = requests.Session()
        self.session.mount(f"{SERVICE}/", BalancedAdapter(self.balancer, **options))

    def send(self, method, path, *, follow_redirects=False, content=None, **options):
        response = self.session.request(
            method, SERVICE + path, timeout=5, data=content, allow_redirects=follow_redirects, **options
        )
        return response.status_code, response.content, response.url

    def close(self):
        self.session.close()


@pytest.fixture(params=[Httpx, AsyncHttpx, Requests])
def connect(request):
    made = []

    def make(*endpoints, **options):
        made.append(request.param(list(endpoints), **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def failures(client):
    return {name: round(value) for name, value in client.balancer._core.recent_failures().items()}


def test_each_request_goes_to_a_picked_endpoint(connect, models):
    one, two = models
    client = connect(one.url, two.url)
    for _ in range(40):
        status, body, url = client.send("POST", "/ok?a=b%20c", content=b"question")
        assert (status, url) == (200, f"{SERVICE}/ok?a=b%20c")
        assert json.loads(body)["from"] in ("one", "two")
    for server in models:
        host = server.url.removeprefix("http://")
        assert set(server.seen) == {("POST", "/ok?a=b%20c", host, b"question")}
        assert len(server.seen) > 5
    assert client.balancer.status().in_flight == {}


def test_an_endpoint_may_have_a_path_or_no_scheme(connect, models):
    one, _ = models
    connect(f"{one.url}/v1/").send("GET", "/ok?x=1")
    connect(one.url.removeprefix("http://")).send("HEAD", "/ok")
    assert [path for _, path, _, _ in one.seen] == ["/v1/ok?x=1", "/ok"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nobody_there_so_another_is_tried(connect, models, refused, method):
    one, _ = models
    client = connect(refused, one.url)
    for _ in range(10):
        assert client.send(method, "/ok", content=b"x" if method == "POST" else None)[0] == 200
    assert failures(client).keys() <= {refused}
    assert client.balancer.status().in_flight == {}


def test_a_broken_connection_is_retried_when_that_is_safe(connect, models):
    one, two = models
    one.broken = True
    client = connect(one.url, two.url)
    for _ in range(12):
        assert client.send("GET", "/ok")[0] == 200
    assert len(one.seen) < len(two.seen)
    assert set(failures(client)) <= {one.url}


def test_a_broken_connection_is_no_reason_to_post_twice(connect, models):
    one, two = models
    one.broken = two.broken = True
    client = connect(one.url, two.url)
    with pytest.raises(client.error):
        client.send("POST", "/ok", content=b"pay")
    assert len(one.seen) + len(two.seen) == 1
    assert client.balancer.status().in_flight == {}


def test_when_nobody_is_left_the_last_error_is_told(connect, refused):
    client = connect(refused)
    with pytest.raises(client.error) as raised:
        client.send("GET", "/ok")
    assert "excluded" not in str(raised.value)
    assert failures(client) == {refused: 1}


def test_retries_may_be_switched_off(connect, models, refused):
    client = connect(refused, models[0].url, retries=0)
    for _ in range(50):
        try:
            client.send("GET", "/ok")
        except client.error:
            return
    pytest.fail("it never went to the endpoint that refuses")


def test_no_endpoint_is_an_error_of_the_clients_own_kind(connect):
    client = connect()
    with pytest.raises(client.error, match="no endpoint is known"):
        client.send("GET", "/ok")


@pytest.mark.parametrize(("status", "counted"), [(200, 0), (404, 0), (429, 1), (500, 1), (503, 1)])
def test_what_a_status_says_of_the_endpoint(connect, models, status, counted):
    client = connect(models[0].url)
    assert client.send("GET", f"/status/{status}")[0] == status
    assert sum(failures(client).values()) == counted
    assert client.balancer.status().in_flight == {}


def test_a_redirect_stays_with_the_service(connect, models):
    client = connect(*[server.url for server in models])
    status, _, url = client.send("GET", "/move", follow_redirects=True)
    assert (status, url) == (200, f"{SERVICE}/ok")


def test_httpx_counts_a_stream_until_it_is_closed(models):
    one, _ = models
    client = Httpx([one.url])
    with client.client.stream("GET", "/stream") as response:
        chunks = response.iter_bytes()
        assert next(chunks) == b"hello"
        assert client.balancer.status().in_flight == {one.url: 1}
        one.go_on.set()
        assert b"".join(chunks) == b"world"
    assert client.balancer.status().in_flight == {}
    client.close()


def test_httpx_gives_up_a_stream(models):
    client = Httpx([models[0].url])
    with client.client.stream("GET", "/stream") as response:
        next(response.iter_bytes())
    assert client.balancer.status().in_flight == {}
    client.close()


def test_requests_counts_a_stream_until_it_is_closed(models):
    one, _ = models
    client = Requests([one.url])
    with client.session.get(f"{SERVICE}/stream", stream=True, timeout=5) as response:
        assert client.balancer.status().in_flight == {one.url: 1}
        one.go_on.set()
        assert response.content == b"helloworld"
        assert client.balancer.status().in_flight == {}
    with client.session.get(f"{SERVICE}/stream", stream=True, timeout=5):
        assert client.balancer.status().in_flight == {one.url: 1}
    assert client.balancer.status().in_flight == {}
    client.close()


def test_async_httpx_cancelled_in_the_middle(models):
    one, _ = models
    balancer = AsyncBalancer("models/m", fallback=[one.url])

    async def main():
        async with httpx.AsyncClient(transport=AsyncBalancedTransport(balancer), base_url=SERVICE) as client:
            task = asyncio.create_task(client.get("/stream"))
            async with asyncio.timeout(10):
                while not one.seen:  # noqa: ASYNC110 - a server thread fills it
                    await asyncio.sleep(0.01)
            assert balancer.status().in_flight == {one.url: 1}
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        gc.collect()
        assert balancer.status().in_flight == {}
        assert balancer._core.recent_failures() == {}

    asyncio.run(main())


def test_a_read_timeout_is_a_failure_and_is_not_retried(models):
    one, two = models
    client = Httpx([one.url, two.url])
    with pytest.raises(httpx.ReadTimeout):
        client.client.get("/stream", timeout=0.2)
    eventually(lambda: len(one.seen) + len(two.seen) == 1)
    assert sum(failures(client).values()) == 1
    assert client.balancer.status().in_flight == {}
    client.close()
