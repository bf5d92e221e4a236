"""Lost replies, busy workers, forks and stops: what must not go wrong when the rest does."""

import asyncio
import multiprocessing
import threading
import time

import pytest
from support.redis_lab import Proxy, until

from trimtab import AsyncRequestQueue, RequestQueue
from trimtab.errors import QueueUnavailable, WaitTimedOut
from trimtab.queue import Reject, Retry

pytestmark = pytest.mark.integration


@pytest.fixture
def proxy(server):
    with Proxy(server.port) as proxy:
        yield proxy


def test_lost_replies_lose_and_double_nothing(make, proxy):
    queue = make(redis=proxy.url)
    queue.inspect()  # connected
    proxy.drop_replies()
    name = queue.enqueue(b"x")
    proxy.drop_replies()
    (job,) = queue.take()
    assert job.attempt == 1, "the lease that the lost reply carried is handed out again"
    proxy.drop_replies()
    queue.complete(job, b"y")
    assert queue.wait(name) == b"y"
    seen = queue.inspect().counters
    assert proxy.dropped == 3
    assert (seen.arrivals, seen.starts, seen.completions) == (1, 1, 1)


def test_a_lost_reply_to_a_fused_call_settles_once_and_takes_once(make, proxy):
    queue = make(redis=proxy.url)
    queue.enqueue_many([b"1", b"2", b"3"])
    (one,) = queue.take()
    proxy.drop_replies()
    (two,) = queue.complete(one, b"", take=1)
    assert two.payload == b"2"
    assert queue.inspect().in_flight == 1


def test_an_unreachable_redis_is_one_clear_error(make, proxy):
    queue = make(redis=proxy.url, timeout_seconds=0.2)
    proxy.drop_replies(1000)
    with pytest.raises(QueueUnavailable, match=r"^Redis: "):
        queue.enqueue(b"x")


def test_a_handler_that_computes_for_several_leases_keeps_its_lease(make):
    queue = make(lease_seconds=0.3)
    name = queue.enqueue(b"x")
    (job,) = queue.take()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:  # in Python, on this thread: an event loop would be blocked
        pass
    assert not job.lost
    queue.complete(job, b"kept")
    assert queue.wait(name) == b"kept"
    assert queue.inspect().counters.lost == 0


def test_renewals_outlive_an_error_that_nobody_expected(make_sync, monkeypatch, caplog):
    queue = make_sync(lease_seconds=0.5)
    renew, failures = queue._keeper._renew_once, iter([ValueError("read of closed file"), OSError("gone")])

    def flawed(link):
        for error in failures:
            raise error
        renew(link)

    monkeypatch.setattr(queue._keeper, "_renew_once", flawed)
    queue.enqueue(b"x")
    (job,) = queue.take()
    first = queue.inspect().at
    until(lambda: queue.inspect().at > first + 1.5)
    queue.complete(job)
    assert queue.inspect().counters.lost == 0
    assert sum("leases not renewed" in record.message for record in caplog.records) == 2


def test_a_redis_that_is_full_refuses_requests_and_lets_those_within_end(make, redis):
    queue = make(timeout_seconds=1.0, lease_seconds=0.5)
    names = [queue.enqueue(b"x") for _ in range(3)]
    (held,) = queue.take()
    redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(QueueUnavailable, match=r"OOM|memory"):
            queue.enqueue(b"one more")
        full = queue.inspect().at
        until(lambda: queue.inspect().at > full + 1.2)  # two leases and more: it was renewed
        (taken,) = queue.complete(held, b"1", take=1)
        queue.complete(taken, b"2")
        (last,) = queue.take()
        queue.fail(last, after_seconds=0)
        (again,) = queue.take()
        with pytest.raises(WaitTimedOut):
            queue.wait(names[2], timeout_seconds=0.1)
        queue.complete(again, b"3")
        assert [queue.wait(name, timeout_seconds=5) for name in names] == [b"1", b"2", b"3"]
    finally:
        redis.config_set("maxmemory", "0")
    assert queue.inspect().counters.lost == 0


def test_an_idle_worker_is_woken_by_an_enqueue_and_by_a_raised_limit(make_sync, redis):
    queue = make_sync(default_limit=0)
    got = []
    stop = threading.Event()
    worker = threading.Thread(target=lambda: queue.work(lambda job: got.append(job.payload), stop=stop))
    worker.start()
    try:
        queue.enqueue(b"held back")
        until(lambda: redis.pubsub_numsub(queue.protocol.changed)[0][1] == 1)
        redis.set(queue.protocol.limit, 1)
        redis.publish(queue.protocol.changed, "7")  # as the controller does
        until(lambda: got == [b"held back"])
        queue.enqueue(b"at once")
        until(lambda: len(got) == 2)
    finally:
        stop.set()
        worker.join()


def test_a_published_limit_leaves_a_wake_up_when_there_is_work_and_room(make_sync, redis):
    queue = make_sync(default_limit=0)
    queue._keeper.listen()
    until(lambda: redis.pubsub_numsub(queue.protocol.changed)[0][1] == 1)
    queue.enqueue(b"x")
    assert redis.llen(queue.protocol.keys.wake) == 0
    redis.set(queue.protocol.limit, 1)
    redis.publish(queue.protocol.changed, "8")
    until(lambda: redis.llen(queue.protocol.keys.wake) == 1)


def test_a_stopped_worker_finishes_its_job_and_returns_the_rest(make_sync):
    queue = make_sync(default_limit=10)
    stop = threading.Event()
    names = queue.enqueue_many([b"1", b"2", b"3"])

    def handler(job):
        stop.set()
        return job.payload

    queue.work(handler, batch=3, stop=stop)
    assert queue.wait(names[0]) == b"1"
    seen = queue.inspect()
    assert (seen.waiting, seen.in_flight, seen.counters.released) == (2, 0, 2)
    assert [job.attempt for job in queue.take(2)] == [1, 1]


def test_what_a_handler_raises_decides_what_becomes_of_its_request(make_sync):
    queue = make_sync(max_attempts=2, backoff_seconds=0)
    stop = threading.Event()
    tries = []

    def handler(job):
        tries.append(job.payload)
        if job.payload == b"reject":
            raise Reject("no model of that name")
        if job.payload == b"retry" and job.attempt == 1:
            raise Retry("warming up", after_seconds=0)
        if job.payload == b"bug":
            raise KeyError("oops")
        if job.payload == b"text":
            return "not bytes"
        if job.payload == b"end":
            stop.set()
        return None

    queue.enqueue_many([b"reject", b"retry", b"bug", b"text"])
    queue.enqueue(b"end", priority=-100)
    queue.work(handler, batch=2, stop=stop)
    assert {letter.payload: letter.reason for letter in queue.dead_letters()} == {
        b"reject": "no model of that name",
        b"bug": "KeyError: 'oops'",
        b"text": "TypeError: a result must be bytes or None, not str; to_json() makes some",
    }
    assert sorted(tries) == [b"bug", b"bug", b"end", b"reject", b"retry", b"retry", b"text", b"text"]


def test_asyncio_workers_run_side_by_side_and_stop_cleanly(server, policy):
    async def scenario():
        async with AsyncRequestQueue(policy, redis=server.url, default_limit=4) as queue:
            stop = asyncio.Event()
            together = asyncio.Barrier(4)

            async def handler(job):
                await together.wait()
                return job.payload

            worker = asyncio.create_task(queue.work(handler, concurrency=8, stop=stop))
            names = await queue.enqueue_many([b"%d" % number for number in range(8)])
            results = await asyncio.gather(*(queue.wait(name, timeout_seconds=30) for name in names))
            stop.set()
            await worker
            return results, await queue.inspect()

    results, seen = asyncio.run(scenario())
    assert results == [b"%d" % number for number in range(8)]
    assert (seen.in_flight, seen.counters.lost) == (0, 0)


def test_a_cancelled_asyncio_worker_gives_its_request_back(server, policy):
    async def scenario():
        async with AsyncRequestQueue(policy, redis=server.url) as queue:
            started = asyncio.Event()

            async def handler(_):
                started.set()
                await asyncio.Event().wait()

            await queue.enqueue(b"x")
            worker = asyncio.create_task(queue.work(handler))
            await started.wait()
            worker.cancel()
            with pytest.raises(asyncio.CancelledError):
                await worker
            return await queue.inspect()

    seen = asyncio.run(scenario())
    assert (seen.in_flight, seen.waiting, seen.counters.retries) == (0, 1, 1)


def _in_a_child(queue, answers):
    (job,) = queue.take()
    time.sleep(0.7)  # several leases
    queue.complete(job, b"child")
    answers.put(job.lost)


def test_a_forked_child_has_connections_and_renewals_of_its_own(make_sync):
    queue = make_sync(lease_seconds=0.3)
    queue.enqueue_many([b"parent"])
    (mine,) = queue.take()
    name = queue.enqueue(b"child")
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_in_a_child, args=(queue, answers))
    child.start()
    assert answers.get(timeout=20) is False
    child.join()
    answers.close()
    answers.join_thread()
    assert queue.wait(name) == b"child"
    queue.complete(mine)


def test_waiters_are_told_when_the_request_ends(server, make_sync):
    queue = make_sync()
    name = queue.enqueue(b"x")
    results = []
    with RequestQueue("tests/other", redis=server.url):
        waiters = [threading.Thread(target=lambda: results.append(queue.wait(name, 30))) for _ in range(3)]
        for waiter in waiters:
            waiter.start()
        channel = f"{queue.protocol.keys.waiters}:{name}"
        client = queue._link.client
        until(lambda: client.pubsub_numsub(channel)[0][1] == 3 and client.sismember(queue.protocol.keys.waiters, name))
        queue.complete(queue.take()[0], b"y")
        for waiter in waiters:
            waiter.join()
    assert results == [b"y"] * 3
