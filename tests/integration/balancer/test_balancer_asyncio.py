"""The asyncio form against a real Redis."""

import asyncio
import socket

import pytest
import redis.asyncio
from balancer_lab import POLICY

from trimtab import AsyncBalancer, NoEndpoints
from trimtab.balancer import State

pytestmark = pytest.mark.integration

A, B = "http://10.0.0.1:8000", "http://10.0.0.2:8000"


async def eventually(condition, seconds=15.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a thread of no loop may be what changes it
            await asyncio.sleep(0.01)


def seq(balancer):
    return balancer.status().seq


def test_following_and_closing(lab):
    async def main():
        lab.publish(1, {A: 1.0})
        async with AsyncBalancer(POLICY, lab.url, poll_seconds=3600) as balancer:
            async with balancer.pick() as endpoint:
                assert endpoint == A == balancer.best()
                assert balancer.status().in_flight == {A: 1}
            await eventually(lambda: balancer.status().clients == 1)
            lab.publish(2, {B: 1.0})
            await eventually(lambda: seq(balancer) == 2)
            lab.publish(1, {A: 1.0})
            await eventually(lambda: "older" in balancer.status().fault)
            assert balancer.best() == B
        assert lab.rows() == set()
        assert balancer.pick().endpoint == B, "what is known stands after close()"

    asyncio.run(main())


def test_nothing_known_and_then_something(lab):
    async def main():
        balancer = AsyncBalancer(POLICY, lab.url, wait_seconds=0.1, poll_seconds=0.1)
        with pytest.raises(NoEndpoints):
            balancer.pick()
        await balancer.start()
        assert balancer.status().state is State.NONE
        lab.publish(1, {A: 1.0}, announce=False)
        await eventually(lambda: seq(balancer) == 1)
        await balancer.close()

    asyncio.run(main())


def test_no_pick_waits_for_a_hung_redis(lab):
    async def main():
        lab.publish(1, {A: 0.5, B: 0.5})
        async with AsyncBalancer(POLICY, lab.url, poll_seconds=0.1) as balancer:
            lab.hang()
            for _ in range(20_000):
                async with balancer.pick():
                    pass
            await eventually(lambda: "Timeout" in balancer.status().fault)
            for _ in range(20_000):
                async with balancer.pick():
                    pass
            assert lab.hung()
            assert balancer.status().in_flight == {}
            lab.go_on()
            lab.publish(2, {B: 1.0})
            await eventually(lambda: seq(balancer) == 2)

    asyncio.run(main())


def test_a_socket_that_never_answers_delays_neither_picks_nor_the_end():
    async def main(url):
        async with AsyncBalancer(POLICY, url, fallback=[A], wait_seconds=0.05) as balancer:
            for _ in range(1000):
                async with balancer.pick() as endpoint:
                    assert endpoint == A

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(main(f"redis://127.0.0.1:{silent.getsockname()[1]}"))


def test_one_balancer_in_two_loops(lab):
    lab.publish(1, {A: 1.0})
    balancer = AsyncBalancer(POLICY, lab.url)

    async def first():
        await balancer.start()
        assert balancer.best() == A  # and the loop ends with the task still running

    async def second():
        lab.publish(2, {B: 1.0})
        assert balancer.pick().endpoint == A  # what is known; and it starts to follow anew
        await eventually(lambda: seq(balancer) == 2)
        await balancer.close()

    asyncio.run(first())
    asyncio.run(second())
    assert lab.rows() == set()


def test_a_client_of_ones_own(lab):
    async def main():
        lab.publish(1, {A: 1.0})
        async with redis.asyncio.Redis(port=lab.port) as client:
            async with AsyncBalancer(POLICY, client) as balancer:
                assert balancer.best() == A
                await eventually(lambda: balancer.status().clients == 1)
            assert await client.ping()

    asyncio.run(main())


def test_redis_is_not_up_yet(lab):
    async def main():
        lab.stop()
        async with AsyncBalancer(POLICY, lab.url, fallback=[B], wait_seconds=10) as balancer:
            assert balancer.best() == B
            assert "ConnectionError" in balancer.status().fault
            lab.start()
            lab.publish(1, {A: 1.0})
            await eventually(lambda: balancer.best() == A)

    asyncio.run(main())
