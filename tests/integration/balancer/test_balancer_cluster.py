"""Redis Cluster: the same calls through clients that route by hash slot."""

import asyncio

import pytest
import redis
import redis.asyncio
from balancer_lab import POLICY, eventually

from trimtab import AsyncBalancer, Balancer

pytestmark = pytest.mark.integration

A, B = "http://10.0.0.1:8000", "http://10.0.0.2:8000"


def test_threads(cluster):
    cluster.publish(1, {A: 1.0})
    with (
        redis.RedisCluster(host="127.0.0.1", port=cluster.port) as client,
        Balancer(POLICY, client, wait_seconds=10, poll_seconds=3600) as balancer,
    ):
        assert balancer.best() == A
        eventually(lambda: balancer.status().clients == 1)
        cluster.publish(2, {B: 1.0})
        eventually(lambda: balancer.status().seq == 2)
        assert balancer.status().fault == ""


def test_asyncio(cluster):
    async def main():
        cluster.publish(1, {A: 1.0})
        async with (
            redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster.port) as client,
            AsyncBalancer(POLICY, client, wait_seconds=10, poll_seconds=0.2) as balancer,
        ):
            assert balancer.best() == A
            cluster.publish(2, {B: 1.0})
            async with asyncio.timeout(15):
                while balancer.status().seq != 2 or balancer.status().clients != 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert balancer.status().fault == ""

    asyncio.run(main())
