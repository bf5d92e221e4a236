"""The inner loop on a real Redis, with the real queue: each loop goes on without the other, and neither undoes a newer word."""

import time
import uuid
from dataclasses import replace
from functools import partial

import pytest

from controller.act.limit import LimitWriter
from controller.act.publish import Publisher
from controller.clients.redis import connect
from controller.deadline import Deadline
from controller.errors import LostLease
from controller.inner import InnerLoop
from controller.model.fence import ANY_EPOCH, Fence
from controller.model.inner import LimitPlan, Outlook
from controller.model.outcome import Result
from controller.model.plan import Publish
from controller.model.snapshot import Known, Unknown
from controller.observe.counters import read_counters
from controller.observe.redis import read_redis
from controller.policy.schema import LoadPolicy
from trimtab import RequestQueue
from trimtab.contract import Keys

pytestmark = pytest.mark.integration


@pytest.fixture
def policy():
    metadata = {"name": f"m-{uuid.uuid4().hex[:8]}", "namespace": "models"}
    spec = {
        "instances": {"selector": {"app": "m"}},
        "signals": {"preset": "fastapi"},
        "concurrency": {"adaptive": True, "queue": "q"},
    }
    return LoadPolicy.model_validate(
        {"apiVersion": "trimtab/v1", "kind": "LoadPolicy", "metadata": metadata, "spec": spec}
    )


@pytest.fixture
def binary(redis_settings):
    client = connect(redis_settings, text=False)
    yield client
    client.close()


@pytest.fixture
def keys(policy):
    return Keys(policy.key)


@pytest.fixture
def queue(policy, redis_port):
    made = RequestQueue(policy.key, name="q", redis=f"redis://127.0.0.1:{redis_port}/0", default_limit=3)
    yield made
    made.close()


def leads(epoch=ANY_EPOCH):
    return Fence(epoch, lambda: True)


def plan(policy, before, after, **more):
    return LimitPlan(
        policy.key, "q", before, after, **{"default": 20, "valid_for_seconds": 60.0, "why": "knee 30", **more}
    )


def outer(limit, default=20, *, carried=False, valid_for=60.0):
    return Publish(None, limit, False, valid_for, limit_carried=carried, default_limit=default, queue="q")


def publish(redis, policy, what, epoch=ANY_EPOCH):
    return Publisher(redis).publish(policy.key, what, at=1000.0, fence=leads(epoch))


def works(queue, jobs):
    """So many requests pass through the queue, one after another."""
    for _ in range(jobs):
        queue.enqueue(b"x")
        queue.complete(queue.take()[0], b"y")


class Inner:
    """The loop with its real parts, turned by hand on a clock of its own."""

    def __init__(self, client, policy):
        self.now, self.policy, self.reports = 100.0, policy, []
        self.loop = InnerLoop(
            partial(read_counters, client), LimitWriter(client), leads, self.reports.append, lambda: self.now
        )
        self.outer_says()

    def outer_says(self, ready=4, **more):
        self.loop.outlooks[self.policy.key] = Outlook(self.now, ready, **more)

    def turn(self, seconds=1.0):
        self.now += seconds
        return self.loop.turn([self.policy], Deadline.after(5.0))


def test_the_limit_alone_is_written_and_expires(redis, binary, policy, keys):
    publish(redis, policy, outer(20))
    before = redis.hget(keys.fence, "seq")
    assert LimitWriter(binary).write(plan(policy, 20, 25), leads()).result is Result.DONE
    assert (redis.get(keys.limit), redis.get(keys.limiter)) == ("25", "knee 30")
    assert 55_000 < redis.pttl(keys.limit) <= 60_000
    assert 0 < redis.pttl(keys.limiter) <= 5_000
    assert redis.hget(keys.fence, "seq") == before
    assert redis.hget(keys.queue("q").counters, "default_limit") == "20"


def test_a_newer_word_is_never_overwritten(redis, binary, policy, keys):
    publish(redis, policy, outer(20))
    writer = LimitWriter(binary)
    assert writer.write(plan(policy, 20, 25), leads()).result is Result.DONE
    late = writer.write(plan(policy, 20, 16), leads())
    assert (late.result, redis.get(keys.limit)) == (Result.REFUSED, "25")
    publish(redis, policy, outer(18))  # the outer loop did not know yet that the inner one speaks
    assert redis.get(keys.limit) == "25"
    publish(redis, policy, outer(25, carried=True))
    assert redis.get(keys.limit) == "25"
    redis.delete(keys.limiter)
    publish(redis, policy, outer(18))
    assert redis.get(keys.limit) == "18"


def test_an_older_leader_is_refused(redis, binary, policy, keys):
    publish(redis, policy, outer(20), epoch=7)
    with pytest.raises(LostLease, match="epoch 7"):
        LimitWriter(binary).write(plan(policy, 20, 25), leads(6))
    assert redis.get(keys.limit) == "20"
    assert LimitWriter(binary).write(plan(policy, 20, 25), leads(8)).result is Result.DONE
    assert redis.hget(keys.fence, "epoch") == "8"


def test_a_replica_that_does_not_lead_writes_nothing(redis, binary, policy, keys):
    publish(redis, policy, outer(20))
    with pytest.raises(LostLease):
        LimitWriter(binary).write(plan(policy, 20, 25), Fence(0, lambda: False))
    assert redis.get(keys.limit) == "20"


def test_a_limit_that_is_gone_is_not_brought_back(redis, binary, policy, keys):
    assert LimitWriter(binary).write(plan(policy, 20, 25), leads()).result is Result.REFUSED
    assert redis.get(keys.limit) is None


def test_the_queues_counts_are_read_exactly(redis, binary, policy, queue):
    assert read_counters(binary, [policy])[policy.key].value.count is None
    works(queue, 5)
    queue.enqueue(b"x")
    queue.enqueue(b"x")
    queue.take()
    publish(redis, policy, outer(20))
    view = read_counters(binary, [policy])[policy.key].value
    assert (view.limit, view.count.completions, view.count.in_flight, view.count.waiting) == (20, 5, 1, 1)
    assert sum(view.count.service.values()) == 5


def test_what_cannot_be_read_is_not_known(redis, binary, policy, keys):
    redis.set(keys.limit, "much")
    assert isinstance(read_counters(binary, [policy])[policy.key], Unknown)
    redis.set(keys.limit, "5")
    redis.hset(keys.queue("q").counters, "totals", "short")
    assert isinstance(read_counters(binary, [policy])[policy.key], Unknown)
    redis.set(keys.queue("q").counters, "no hash")
    assert isinstance(read_counters(binary, [policy])[policy.key], Unknown)


def test_when_the_limit_expires_the_published_default_holds_not_the_workers_own(redis, policy, keys, queue):
    publish(redis, policy, outer(1, default=8, valid_for=60.0))
    assert queue.inspect().limit == 1
    redis.delete(keys.limit)  # as its expiry does
    assert queue.inspect().limit == 8
    for _ in range(10):
        queue.enqueue(b"x")
    assert len(queue.take(10)) == 8


@pytest.mark.parametrize("stored", ["-1", "many", ""])
def test_a_default_that_makes_no_sense_is_not_unlimited(redis, keys, queue, stored):
    redis.hset(keys.queue("q").counters, "default_limit", stored)
    for _ in range(5):
        queue.enqueue(b"x")
    assert len(queue.take(5)) == 3


def test_a_restart_goes_on_without_a_jump(redis, binary, policy, keys, queue):
    publish(redis, policy, outer(20))
    works(queue, 3)
    inner = Inner(binary, policy)
    inner.turn()
    redis.set(keys.limit, "57", px=60_000)
    again = Inner(binary, policy)
    again.turn()
    assert redis.get(keys.limit) == "57"
    for _ in range(3):
        works(queue, 120)
        again.turn()
    assert redis.get(keys.limit) == "57"  # one request at a time: the limit does not bind


def test_the_outer_loop_carries_the_inner_loops_limit_and_says_why(redis, binary, policy, keys, queue):
    publish(redis, policy, outer(20))
    works(queue, 3)
    Inner(binary, policy).turn()
    seen = read_redis(redis, [policy])[0][policy.key].published
    assert isinstance(seen, Known)
    assert (seen.value.limit, seen.value.limit_reason) == (20, "")
    redis.delete(keys.limiter)
    assert read_redis(redis, [policy])[0][policy.key].published.value.limit_reason is None


def test_without_redis_a_turn_ends_in_time_and_says_why(redis_settings, policy):
    client = connect(replace(redis_settings, redis_url="redis://127.0.0.1:1/0", redis_timeout_seconds=0.25), text=False)
    inner = Inner(client, policy)
    started = time.monotonic()
    report = inner.turn()
    assert report.decided == ()
    assert "Redis" in report.problems[0]
    assert time.monotonic() - started < 30
    client.close()


def test_a_raised_limit_wakes_a_sleeping_worker(redis, binary, policy, keys, queue):
    publish(redis, policy, outer(1))
    for _ in range(3):
        queue.enqueue(b"x")
    queue.take()
    redis.delete(keys.queue("q").wake)
    LimitWriter(binary).write(plan(policy, 1, 3), leads())
    assert redis.llen(keys.queue("q").wake) == 1


def test_a_policy_that_is_not_adaptive_or_only_observed_is_left_alone(redis, binary, policy, keys, queue):
    publish(redis, policy, outer(20))
    works(queue, 2)
    inner = Inner(binary, policy)
    for change in ({"mode": "observe"}, {"concurrency": {"queue": "q"}}):
        spec = policy.spec.model_dump(by_alias=True, exclude_unset=True, mode="json") | change
        other = LoadPolicy.model_validate(
            {"apiVersion": "trimtab/v1", "kind": "LoadPolicy", "metadata": policy.metadata.model_dump(), "spec": spec}
        )
        inner.policy = other
        assert inner.turn().decided == ()
    assert redis.get(keys.limiter) is None
