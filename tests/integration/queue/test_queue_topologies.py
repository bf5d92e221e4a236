"""Where Redis runs in other ways: a cluster, behind Sentinel, with TLS, for a user with few rights."""

import asyncio
import contextlib
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis, RedisCluster
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import Sentinel
from support.redis_lab import RedisServer, free_cluster_port, until

from trimtab import AsyncRequestQueue, RequestQueue
from trimtab.queue import inspect_command, parse_inspection

pytestmark = pytest.mark.integration


def one_request(queue):
    name = queue.enqueue(b"x", deadline=60)
    (job,) = queue.take(wait_seconds=10)
    queue.fail(job, after_seconds=0)
    (job,) = queue.take(wait_seconds=10)
    queue.complete(job, b"\xff")
    assert queue.wait(name, timeout_seconds=10) == b"\xff"
    assert queue.take(wait_seconds=0.05) == []
    assert queue.inspect().counters.completions >= 1


async def one_request_with_asyncio(queue):
    name = await queue.enqueue(b"x", deadline=60)
    (job,) = await queue.take(wait_seconds=30)
    await queue.complete(job, b"\xff")
    assert await queue.wait(name, timeout_seconds=10) == b"\xff"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    with RedisServer(folder, "--cluster-enabled", "yes", port=free_cluster_port()) as server:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            until(lambda: client.cluster("info")["cluster_state"] == "ok")
        yield server


def test_cluster(cluster):
    client = RedisCluster(host="127.0.0.1", port=cluster.port)
    with RequestQueue("models/cluster", redis=client) as queue:
        one_request(queue)
        client.script_flush()
        one_request(queue)
    client.close()


def test_a_cluster_pipeline_reads_the_counters(cluster):
    client = RedisCluster(host="127.0.0.1", port=cluster.port)
    with RequestQueue("models/metered", redis=client) as queue:
        queue.enqueue(b"x")
        pipeline = client.pipeline()
        pipeline.execute_command(*inspect_command("models/metered"))
        (reply,) = pipeline.execute()
        assert parse_inspection(reply).waiting == 1
    client.close()


def test_cluster_with_asyncio(cluster):
    async def scenario():
        client = AsyncRedisCluster(host="127.0.0.1", port=cluster.port)
        keeper = RedisCluster(host="127.0.0.1", port=cluster.port)
        async with AsyncRequestQueue("models/async-cluster", redis=client, keeper=keeper) as queue:
            name = await queue.enqueue(b"x")
            (job,) = await queue.take()
            await queue.complete(job, b"\xff")
            assert await queue.wait(name) == b"\xff"
        keeper.close()
        await client.aclose()

    asyncio.run(scenario())


@contextlib.contextmanager
def watched_pair(folder):
    """A master, its replica, and a Sentinel that watches them. Yields (first, second, sentinel's port)."""
    with RedisServer(folder / "a") as first, RedisServer(folder / "b") as second:
        with second.client() as client:
            client.replicaof("127.0.0.1", first.port)
            until(lambda: client.info("replication")["master_link_status"] == "up")
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor main 127.0.0.1 {first.port} 1\nsentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 2000\n"
        )
        watch = RedisServer(folder / "sentinel")
        watch.command = ["redis-server", str(config), "--sentinel", "--port", str(watch.port), "--bind", "127.0.0.1"]
        with watch:
            with watch.client() as client:
                until(lambda: client.sentinel_slaves("main"))
            yield first, second, watch.port


def in_step(first, second):
    """Whether the replica has all that its master wrote."""
    with first.client() as old, second.client() as new:
        return new.info("replication")["master_repl_offset"] >= old.info("replication")["master_repl_offset"]


def test_sentinel_and_a_failover(tmp_path):
    with watched_pair(tmp_path) as (first, second, port):
        sentinel = Sentinel([("127.0.0.1", port)], socket_timeout=1)
        master = sentinel.master_for("main", socket_timeout=1)
        with RequestQueue("models/sentinel", redis=master, timeout_seconds=30) as queue:
            one_request(queue)
            name = queue.enqueue(b"before")
            until(lambda: in_step(first, second))
            first.kill()
            (job,) = queue.take(wait_seconds=30)
            assert job.payload == b"before"
            queue.complete(job, b"after")
            assert queue.wait(name) == b"after"
        master.close()
        for client in sentinel.sentinels:
            client.close()


def test_sentinel_and_a_failover_with_asyncio(tmp_path):
    async def scenario(first, second, port):
        sentinel = AsyncSentinel([("127.0.0.1", port)], socket_timeout=1)
        master = sentinel.master_for("main", socket_timeout=1)
        threaded = Sentinel([("127.0.0.1", port)], socket_timeout=1)
        keeper = threaded.master_for("main", socket_timeout=1)
        async with AsyncRequestQueue("models/sentinel", redis=master, keeper=keeper, timeout_seconds=30) as queue:
            await one_request_with_asyncio(queue)
            name = await queue.enqueue(b"before")
            await asyncio.to_thread(until, lambda: in_step(first, second))
            first.kill()
            (job,) = await queue.take(wait_seconds=30)
            await queue.complete(job, b"after")
            assert await queue.wait(name) == b"after"
        await master.aclose()
        keeper.close()
        for client in threaded.sentinels:
            client.close()
        for client in sentinel.sentinels:
            await client.aclose()

    with watched_pair(tmp_path) as parts:
        asyncio.run(scenario(*parts))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls(tmp_path):
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key",
            "-out",
            "cert",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    cert, key = str(tmp_path / "cert"), str(tmp_path / "key")
    options = ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no"]
    with RedisServer(tmp_path / "redis", *options, tls=True) as server:
        url = f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={cert}"
        with RequestQueue("models/tls", redis=url) as queue:
            one_request(queue)

        async def scenario():
            async with AsyncRequestQueue("models/tls", redis=url) as queue:
                await one_request_with_asyncio(queue)

        asyncio.run(scenario())


def test_a_user_with_the_documented_rights_and_no_others(redis, server):
    page = (Path(__file__).parents[3] / "docs" / "queue.md").read_text()
    (command,) = re.findall(r"^ACL SETUSER worker (.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    redis.execute_command("ACL", "SETUSER", "worker", *command.replace("models/model-service", "models/acl").split())
    url = f"redis://worker:secret@127.0.0.1:{server.port}/0"
    with RequestQueue("models/acl", redis=url) as queue:
        one_request(queue)
        queue.set_limit(2)
    with Redis.from_url(url, protocol=2) as client, pytest.raises(Exception, match=r"(?i)no permissions"):
        client.get("trimtab:{models/other}:limit")


@pytest.mark.parametrize("form", ["threads", "asyncio"])
def test_a_call_to_a_master_that_became_a_replica_is_repeated_until_there_is_one_again(tmp_path, form):
    with RedisServer(tmp_path / "a") as first, RedisServer(tmp_path / "b") as second, first.client() as client:
        client.replicaof("127.0.0.1", second.port)

        def enqueue():
            if form == "threads":
                with RequestQueue("models/read-only", redis=first.url, timeout_seconds=30) as queue:
                    return queue.enqueue(b"x")

            async def scenario():
                async with AsyncRequestQueue("models/read-only", redis=first.url, timeout_seconds=30) as queue:
                    return await queue.enqueue(b"x")

            return asyncio.run(scenario())

        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(enqueue)
            until(lambda: call.done() or calls(client) >= 3)
            assert not call.done(), call.result()
            client.replicaof("NO", "ONE")
            assert call.result(timeout=30)


def calls(client):
    """Scripts asked for, whatever became of them."""
    stats = client.info("commandstats")
    return sum(value["calls"] for name, value in stats.items() if name in {"cmdstat_eval", "cmdstat_evalsha"})
