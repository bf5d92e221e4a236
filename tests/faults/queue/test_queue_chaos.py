"""Nothing lost and never over the limit while workers, Redis and the network break. `python -m bench.queue` soaks it."""

import os
import signal

import pytest
from support.queue_chaos import AOF, Workers, chaos, recovery
from support.redis_lab import RedisServer, until

from trimtab import RequestQueue

pytestmark = pytest.mark.fault


def test_every_acknowledged_request_ends_and_no_start_exceeds_the_limit(tmp_path):
    seen = chaos(tmp_path, seconds=10)
    assert seen["unfinished"] == 0
    assert seen["over_limit"] == 0
    assert seen["done"] + seen["dead"] + seen["expired"] == seen["acknowledged"] > 50
    assert min(seen["kills"], seen["stops"], seen["restarts"], seen["dropped_replies"], seen["lost_leases"]) > 0, seen
    assert seen["samples"] > 100


def test_all_slots_come_back_after_all_their_holders_were_killed(tmp_path):
    assert recovery(tmp_path, lease_seconds=1.0) <= 1.0 + 1.0 + 1.0, (
        "a lease and a second, and one more for a busy machine"
    )


def test_a_worker_that_was_stopped_for_several_leases_is_refused(tmp_path):
    with (
        RedisServer(tmp_path / "redis", *AOF) as server,
        RequestQueue("tests/stop", redis=server.url, lease_seconds=0.5, default_limit=1) as queue,
        Workers(tmp_path, server.url, "tests/stop", 0.5, job_seconds=1.0) as workers,
    ):
        name = queue.enqueue(b"x")
        stopped = workers.start("asyncio")
        until(lambda: queue.inspect().in_flight == 1)
        os.kill(stopped.pid, signal.SIGSTOP)
        (job,) = queue.take(wait_seconds=20)
        assert job.attempt == 2
        os.kill(stopped.pid, signal.SIGCONT)
        until(lambda: "lease lost, result dropped" in workers.log.read_text())
        queue.complete(job, b"from the new owner")
        assert queue.wait(name) == b"from the new owner"
        assert queue.inspect().counters.completions == 1
