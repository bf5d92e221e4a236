"""What a request may rely on, in both forms, against a real Redis."""

import time

import pytest
from support.redis_lab import until

from trimtab.errors import (
    LeaseLost,
    QueueFull,
    RequestDead,
    RequestExpired,
    UnknownRequest,
    WaitTimedOut,
)
from trimtab.queue import asynchronous, synchronous
from trimtab.queue.counters import pack_totals
from trimtab.queue.protocol import Request

pytestmark = pytest.mark.integration


def payloads(jobs):
    return [job.payload for job in jobs]


@pytest.mark.parametrize(
    "payload", [b"", b"\x00\n\r\n:", bytes(range(256)) * 500], ids=["empty", "separators", "binary"]
)
def test_bytes_come_back_as_they_went(make, payload):
    queue = make()
    name = queue.enqueue(payload)
    (job,) = queue.take()
    assert (job.id, job.payload, job.attempt) == (name, payload, 1)
    queue.complete(job, payload)
    assert queue.wait(name) == payload


@pytest.mark.parametrize("stage", ["waiting", "in flight", "done"])
def test_the_same_id_is_the_same_request(make, stage):
    queue = make()
    queue.enqueue(b"first", id="one")
    if stage != "waiting":
        (job,) = queue.take()
        if stage == "done":
            queue.complete(job, b"result")
    assert queue.enqueue(b"second", id="one") == "one"
    seen = queue.inspect()
    assert seen.counters.arrivals == 1
    assert seen.waiting == (stage == "waiting")


def test_first_come_first_served_within_one_priority(make):
    queue = make(default_limit=100)
    queue.enqueue_many([b"%d" % number for number in range(20)])
    queue.enqueue(b"last")
    assert payloads(queue.take(100)) == [b"%d" % number for number in range(20)] + [b"last"]


def test_a_higher_priority_starts_first_and_a_long_wait_beats_it(make):
    patient = make(priority_seconds=30)
    patient.enqueue(b"low")
    patient.enqueue(b"high", priority=1)
    assert payloads(patient.take(2)) == [b"high", b"low"]
    aging = make(priority_seconds=0.05, name="aging")
    aging.enqueue(b"low")
    time.sleep(0.06)  # the wait itself is what is tested
    aging.enqueue(b"high", priority=1)
    assert payloads(aging.take(2)) == [b"low", b"high"]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, 2), (b"3", 3), (b"0", 0), (b"nonsense", 2), (b"-1", 2), (b"", 2)],
    ids=["absent", "set", "paused", "nonsense", "negative", "empty"],
)
def test_the_limit_in_force(make, redis, limit, expected):
    queue = make(default_limit=2)
    if limit is not None:
        redis.set(queue.protocol.limit, limit)
    queue.enqueue_many([b""] * 5)
    assert len(queue.take(5)) == expected
    assert queue.inspect().limit == expected


def test_a_limit_that_expires_falls_back_to_the_default(make, redis):
    queue = make(default_limit=1)
    redis.set(queue.protocol.limit, 10, px=30)
    until(lambda: not redis.exists(queue.protocol.limit))
    queue.enqueue_many([b""] * 5)
    assert len(queue.take(5)) == 1


def test_a_lowered_limit_starts_nothing_until_there_is_room(make):
    queue = make()
    queue.enqueue_many([b""] * 10)
    queue.set_limit(4)
    jobs = queue.take(10)
    assert len(jobs) == 4
    queue.set_limit(2)
    assert queue.complete(jobs[0], take=5) == []
    assert queue.complete(jobs[1], take=5) == []
    assert len(queue.complete(jobs[2], take=5)) == 1
    assert queue.inspect().in_flight == 2


def test_costs_are_slots(make):
    queue = make(default_limit=5)
    queue.enqueue_many([Request(b"dear", cost=3), Request(b"dear too", cost=3), Request(b"cheap")])
    (first,) = queue.take(3)
    assert first.payload == b"dear"
    assert queue.inspect().slots_in_use == 3
    assert queue.take(3) == [], "the cheap one must not pass the dear one, or that starves"
    assert payloads(queue.complete(first, take=3)) == [b"dear too", b"cheap"]
    assert queue.inspect().slots_in_use == 4


def test_a_cost_above_the_limit_takes_the_whole_limit(make):
    queue = make(default_limit=3)
    queue.enqueue_many([Request(b"cheap"), Request(b"huge", cost=50)])
    (cheap,) = queue.take(2)
    (huge,) = queue.complete(cheap, take=2)
    assert (huge.cost, huge.charged) == (50, 3)
    assert queue.inspect().slots_in_use == 3
    queue.complete(huge)
    assert queue.inspect().slots_in_use == 0


def test_a_lost_worker_gives_back_its_slot_and_is_told_when_it_returns(make):
    queue = make(default_limit=1, lease_seconds=0.2)
    queue.enqueue(b"work")
    (stale,) = queue.take()
    _forget(queue)
    (again,) = queue.take(wait_seconds=10)  # the limit is full of the dead: reclaim must come first
    assert (again.id, again.attempt) == (stale.id, 2)
    with pytest.raises(LeaseLost) as lost:
        queue.complete(stale, b"stale")
    assert lost.value.ids == (stale.id,)
    queue.complete(again, b"fresh")
    assert queue.wait(stale.id) == b"fresh"
    assert queue.inspect().counters.lost == 1


def _forget(queue):
    """Stop renewing, as a worker that was killed would."""
    getattr(queue, "queue", queue).__dict__["_keeper"]._held.clear()


def test_a_poisonous_request_dies_with_its_reason_and_lives_again_when_told(make):
    queue = make(lease_seconds=0.1, max_attempts=2)
    name = queue.enqueue(b"poison")
    for _ in range(2):
        (job,) = queue.take(wait_seconds=10)
        _forget(queue)
    until(lambda: queue.take() == [] and queue.inspect().dead == 1)
    with pytest.raises(RequestDead, match="lease ran out on attempt 2"):
        queue.wait(name)
    (letter,) = queue.dead_letters()
    assert (letter.id, letter.attempts, letter.payload) == (name, 2, b"poison")
    assert queue.requeue([name, "no such"]) == 1
    (job,) = queue.take()
    assert job.attempt == 1
    queue.complete(job, b"cured")
    assert queue.wait(name) == b"cured"


def test_failures_are_tried_again_after_the_back_off_and_then_given_up(make):
    queue = make(max_attempts=2, backoff_seconds=0.05)
    name = queue.enqueue(b"x")
    (job,) = queue.take()
    queue.fail(job, "first")
    assert queue.inspect().delayed == 1
    (job,) = queue.take(wait_seconds=10)
    assert job.attempt == 2
    queue.fail(job, "second:\nwith a second line")
    with pytest.raises(RequestDead, match="second:\nwith a second line"):
        queue.wait(name)
    assert queue.purge([name]) == 1
    assert queue.inspect().dead == 0


def test_a_rejected_request_dies_at_once(make):
    queue = make(max_attempts=5)
    name = queue.enqueue(b"x")
    queue.fail(queue.take()[0], "malformed", retry=False)
    (letter,) = queue.dead_letters()
    assert (letter.id, letter.attempts, letter.reason) == (name, 1, "malformed")


@pytest.mark.parametrize("limit", [5, 0], ids=["running", "paused"])
def test_an_expired_request_never_starts_and_its_waiter_is_told(make, limit):
    queue = make(default_limit=limit)
    late = queue.enqueue(b"late", deadline=0.02)
    good = queue.enqueue(b"good", deadline=60)
    time.sleep(0.03)  # the passing of the deadline is what is tested
    assert payloads(queue.take(5)) == ([b"good"] if limit else [])
    with pytest.raises(RequestExpired):
        queue.wait(late)
    with pytest.raises(WaitTimedOut):
        queue.wait(good, timeout_seconds=0.05)
    assert queue.inspect().counters.expired == 1


def test_a_waiter_is_told_of_the_deadline_though_there_is_no_worker(make, monkeypatch):
    for form in (synchronous, asynchronous):
        monkeypatch.setattr(form, "LOOK_AGAIN_SECONDS", 0.1)
    queue = make()
    name = queue.enqueue(b"x", deadline=0.3)
    with pytest.raises(RequestExpired):
        queue.wait(name, timeout_seconds=30)
    assert queue.inspect().counters.expired == 1


def test_thousands_that_expired_unseen_are_all_told_and_hide_nothing(make):
    """As after a long pause: more than one call of Lua's unpack can carry."""
    queue = make(default_limit=0, max_length=None)
    for _ in range(10):
        queue.enqueue_many([Request(b"late", deadline=0.001)] * 500)
    queue.enqueue(b"good")
    queue.set_limit(5)
    jobs = until(lambda: queue.take(1))
    assert payloads(jobs) == [b"good"]
    seen = queue.inspect()
    assert (seen.counters.expired, seen.waiting, seen.in_flight) == (5000, 0, 1)


def test_a_full_queue_refuses_all_or_nothing_and_says_when_to_return(make):
    queue = make(max_length=3, default_limit=100)
    queue.enqueue_many([Request(b"", id="a"), Request(b"", id="b")])
    with pytest.raises(QueueFull) as full:
        queue.enqueue_many([b"c", b"d"])
    assert full.value.retry_after_seconds == 60, "nothing has started: there is nothing to promise"
    queue.enqueue_many([Request(b"", id="a"), Request(b"", id="b"), Request(b"", id="c")])
    assert queue.inspect().waiting == 3
    assert queue.enqueue(b"", id="a") == "a", "a known id takes no place"
    queue.complete_many([(job, b"") for job in queue.take(1)])
    queue.enqueue(b"")
    with pytest.raises(QueueFull) as full:
        queue.enqueue(b"")
    assert 0 < full.value.retry_after_seconds < 60
    assert queue.inspect().counters.refused == 3


def test_retry_after_is_the_time_that_the_recent_starts_promise(make, redis):
    queue = make(max_length=10)
    queue.enqueue_many([b""] * 10)
    seconds, microseconds = redis.time()
    ten_seconds_ago = seconds * 1000 + microseconds // 1000 - 10_000
    totals = pack_totals({"prev_at": ten_seconds_ago, "prev_starts": 900, "starts": 1000})
    redis.hset(queue.protocol.keys.counters, "totals", totals)
    with pytest.raises(QueueFull) as full:
        queue.enqueue_many([b""] * 5)
    assert full.value.retry_after_seconds == pytest.approx(0.5, abs=0.1), "five places at ten starts a second"
    assert full.value.depth == 10


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.0014])
def test_the_shortest_wait_ends(make, seconds):
    make().idle(seconds)


def test_released_work_keeps_its_place_and_its_attempts(make):
    queue = make()
    queue.enqueue_many([Request(b"1", deadline=60), Request(b"2")])
    jobs = queue.take(2)
    queue.release(jobs)
    again = queue.take(2)
    assert [(job.payload, job.attempt) for job in again] == [(b"1", 1), (b"2", 1)]
    with pytest.raises(LeaseLost):
        queue.complete(jobs[0])


def test_one_call_tells_each_lost_lease_and_settles_the_rest(make):
    queue = make()
    queue.enqueue_many([b"1", b"2"])
    one, two = queue.take(2)
    queue.complete(one)
    queue.release([two])
    (two_again,) = queue.take()
    with pytest.raises(LeaseLost) as lost:
        queue.complete_many([(two, b"stale"), (two_again, b"fresh")])
    assert lost.value.ids == (two.id,)
    assert queue.wait(two.id) == b"fresh"


def test_results_and_ids_are_forgotten_after_their_time(make):
    queue = make(result_ttl_seconds=1)
    queue.enqueue(b"", id="x")
    queue.complete(queue.take()[0], b"kept")
    assert queue.wait("x") == b"kept"

    def forgotten():
        # Each end of a request lets the older results go.
        other = queue.enqueue(b"")
        (job,) = queue.take()
        queue.complete(job)
        assert queue.wait(other) == b""
        try:
            queue.wait("x")
        except UnknownRequest:
            return True
        return False

    until(forgotten, every_seconds=0.1)
    queue.enqueue(b"again", id="x")
    assert payloads(queue.take()) == [b"again"]


def test_unknown_requests_are_said_to_be(make):
    with pytest.raises(UnknownRequest, match="never enqueued"):
        make().wait("nobody")


def test_scripts_survive_a_flush(make, redis):
    queue = make()
    name = queue.enqueue(b"x")
    redis.script_flush()
    (job,) = queue.take()
    redis.script_flush()
    queue.complete(job, b"y")
    redis.script_flush()
    assert queue.wait(name) == b"y"


def test_counters_add_up(make):
    queue = make(default_limit=10, max_attempts=2, lease_seconds=5)
    queue.enqueue_many([Request(b"", cost=1 + number % 3) for number in range(8)])
    jobs = queue.take(4)
    time.sleep(0.02)  # so that the integrals have something to integrate
    queue.complete(jobs[0])
    queue.fail(jobs[1], after_seconds=60)
    queue.fail(jobs[2], retry=False)
    queue.release(jobs[3:])
    seen = queue.inspect()
    count = seen.counters
    assert count.arrivals + count.requeued == (
        count.completions + count.expired + count.dead + seen.waiting + seen.delayed + seen.in_flight
    )
    assert count.starts == count.completions + count.failures + count.lost + count.released + seen.in_flight
    assert (count.arrivals, count.starts, count.completions, count.released) == (8, 4, 1, 1)
    assert sum(count.service.values()) == 1
    assert count.slots_seconds > count.inflight_seconds >= 4 * 0.02
    assert count.service_quantile_seconds(0.5) >= 0.02
    assert count.service_seconds >= 0.02
