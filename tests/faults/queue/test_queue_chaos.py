"""Nothing lost and never over the limit while workers, Redis and the network break. `python -m bench.queue` soaks it."""

import os
import signal

import pytest
from support.queue_chaos import AOF, FORMS, Workers, chaos, recovery
from support.redis_lab import RedisServer, until
from support.skew import library, needs_skew

from trimtab import RequestQueue
from trimtab.errors import RequestExpired

pytestmark = pytest.mark.fault


def test_every_acknowledged_request_ends_and_no_start_exceeds_the_limit(tmp_path):
    seen = chaos(tmp_path, seconds=10)
    assert seen["unfinished"] == 0
    assert seen["over_limit"] == 0
    assert seen["done"] + seen["dead"] + seen["expired"] == seen["acknowledged"] > 50
    assert min(seen["kills"], seen["stops"], seen["restarts"], seen["dropped_replies"], seen["lost_leases"]) > 0, seen
    assert seen["samples"] > 100
    if library() is not None:
        assert all(seen[f"skewed:{form}"] > 0 for form in FORMS), seen


@pytest.mark.parametrize(
    ("form", "skew"), [("threads", "+1h"), ("threads", "-1h"), ("batch", "-1h"), ("asyncio", "+1h")]
)
def test_a_worker_with_a_wrong_clock_takes_renews_and_leaves_expired_requests(tmp_path, form, skew):
    """All three go by the server's clock."""
    needs_skew()
    with (
        RedisServer(tmp_path / "redis") as server,
        server.client() as redis,
        RequestQueue("tests/skew", redis=server.url, default_limit=8) as queue,
        Workers(tmp_path, server.url, "tests/skew", lease_seconds=6.0, job_seconds=0.01) as workers,
    ):

        def expires_at():
            return max(
                (score for _, score in redis.zrange(queue.protocol.keys.leases, 0, -1, withscores=True)), default=0
            )

        expired = queue.enqueue(b"too late", deadline=0.001)
        until(lambda: queue.inspect().oldest_seconds > 0.001)
        workers.start(form, skew)
        long = queue.enqueue(b"for 5", deadline=600.0)
        first = until(expires_at)
        assert first / 1000 <= queue.inspect().at + 6.0
        until(lambda: expires_at() > first)
        queue.wait(long, timeout_seconds=60)
        queue.wait(queue.enqueue(b"plain"), timeout_seconds=60)  # by then the worker waited, its clock being wrong
        with pytest.raises(RequestExpired):
            queue.wait(expired, timeout_seconds=1)
        counters = queue.inspect().counters
        assert (counters.completions, counters.failures, counters.expired) == (2, 0, 1)
        assert 5.0 <= counters.service_seconds < 120.0, "a wrong clock in the service time"


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
