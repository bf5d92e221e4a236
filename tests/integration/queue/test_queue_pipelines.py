"""The counters through a pipeline of the caller's own: any client, any protocol, a cluster, and a Redis that began anew."""

import pytest
from redis import Redis
from support.redis_lab import until

from trimtab.queue import Discontinuity, Window, between, inspect_command, parse_inspection

pytestmark = pytest.mark.integration


@pytest.fixture(params=[(False, 2), (True, 2), (True, 3)], ids=["bytes", "text", "text, RESP3"])
def read(request, server, policy):
    decode, protocol = request.param
    with Redis(port=server.port, decode_responses=decode, protocol=protocol) as client:

        def reading():
            pipeline = client.pipeline(transaction=False)
            pipeline.get("another key")
            pipeline.execute_command(*inspect_command(policy))
            return parse_inspection(pipeline.execute()[1])

        yield reading


def test_two_readings_say_what_happened_between_them(read, make_sync):
    queue = make_sync()
    queue.set_limit(3)
    queue.enqueue_many([b"before"] * 2)
    queue.take(1)
    before = read()
    assert (before.limit, before.waiting, before.in_flight) == (3, 1, 1)
    queue.enqueue_many([b"within"] * 3)
    jobs = queue.take(5)
    queue.complete(jobs[0])
    queue.fail(jobs[1], "no use", retry=False)
    until(lambda: read().at > before.at + 0.01)
    window = between(before, read())
    assert isinstance(window, Window)
    assert (window.arrivals, window.starts, window.completions, window.failures, window.dead) == (3, 2, 1, 1, 1)
    assert 1.0 - 1e-3 <= window.mean_in_flight <= 3.0 + 1e-3
    assert sum(window.service.values()) == 1
    # One job ran all the time; the two others from their start to their end, which the service time of one tells.
    assert window.mean_in_flight * window.seconds >= window.seconds + window.mean_service_seconds - 0.002


def test_it_agrees_with_the_queues_own_reading(read, make_sync):
    queue = make_sync()
    queue.enqueue_many([b"x"] * 4)
    queue.complete(queue.take(3)[0])
    mine, own = read(), queue.inspect()
    window = between(mine, own)
    assert isinstance(window, Window | Discontinuity)  # within one millisecond there is no window
    assert mine.counters.since == own.counters.since > 0
    assert (mine.counters.completions, mine.in_flight, mine.slots_in_use) == (1, 2, own.slots_in_use)


def test_counters_that_began_anew_are_seen_though_they_have_passed_the_old_ones(read, make_sync, redis):
    queue = make_sync()
    queue.enqueue(b"x")
    before = read()
    for key in redis.scan_iter(f"{queue.protocol.keys.prefix}:*"):
        redis.delete(key)
    queue.enqueue_many([b"x"] * 10)
    assert between(before, read()) == Discontinuity("the counters began anew")


def test_an_unused_queue_reads_as_zeros_and_its_first_request_is_counted(read, make_sync):
    before = read()
    assert (before.limit, before.waiting, before.counters.since) == (5, 0, 0.0)
    make_sync().enqueue(b"x")
    until(lambda: read().at > before.at)
    window = between(before, read())
    assert isinstance(window, Window)
    assert window.arrivals == 1


def test_a_wrong_type_fails_by_name(read, policy, redis):
    redis.set(f"trimtab:{{{policy}}}:queue:model_requests:counters", "text")
    with pytest.raises(Exception, match="WRONGTYPE"):
        read()
