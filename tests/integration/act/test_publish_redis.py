import random
import threading
from dataclasses import replace

import pytest

from controller.act.publish import Publisher
from controller.clients.redis import connect
from controller.errors import LostLease, Rejected, Unreachable
from controller.model.fence import ANY_EPOCH, Fence
from controller.model.plan import EndpointState, Overload, Publish, RankedEndpoint
from trimtab.contract import Keys, parse_ranking

pytestmark = pytest.mark.integration

POLICY = "models/model-service"
KEYS = Keys(POLICY)


def make_publish(*weights, limit=40, valid_for=60.0):
    rows = tuple(
        RankedEndpoint(f"http://10.0.0.{i}:8000", f"pod-{i}", i + 1, weight, EndpointState.SERVING)
        for i, weight in enumerate(weights)
    )
    return Publish(rows, limit, panic=False, valid_for_seconds=valid_for)


def leads(epoch=1):
    return Fence(epoch, lambda: True)


def stored(redis):
    return redis.hgetall(KEYS.fence)


def publish(redis, what, *, epoch=1, at=1000.0):
    return Publisher(redis).publish(POLICY, what, at=at, fence=leads(epoch))


def test_one_publish_writes_every_key(redis):
    assert publish(redis, make_publish(0.7, 0.3)) == 1
    ranking = parse_ranking(redis.get(KEYS.ranking))
    assert (ranking.seq, ranking.limit, ranking.published_at, ranking.valid_for) == (1, 40, 1000.0, 60.0)
    assert redis.zrevrange(KEYS.weights, 0, 0) == ["http://10.0.0.0:8000"]
    assert [float(redis.zscore(KEYS.weights, row.endpoint)) for row in ranking.endpoints] == [0.7, 0.3]
    assert redis.get(KEYS.limit) == "40"
    assert stored(redis) == {"epoch": "1", "seq": "1"}
    for key in (KEYS.ranking, KEYS.weights, KEYS.limit):
        assert 55_000 < redis.pttl(key) <= 60_000
    assert redis.pttl(KEYS.fence) == -1


def test_weights_are_replaced_whole(redis):
    publish(redis, make_publish(0.5, 0.5))
    publish(redis, make_publish(1.0))
    assert redis.zcard(KEYS.weights) == 1


def test_an_empty_ranking_leaves_no_endpoint(redis):
    publish(redis, make_publish(0.5, 0.5))
    publish(redis, make_publish())
    assert redis.zcard(KEYS.weights) == 0
    assert parse_ranking(redis.get(KEYS.ranking)).endpoints == ()


def test_more_endpoints_than_lua_can_unpack_at_once(redis):
    publish(redis, make_publish(*[1 / 5000] * 5000))
    assert redis.zcard(KEYS.weights) == 5000


def test_without_endpoints_the_ranking_stands_and_lives_on(redis):
    publish(redis, make_publish(0.7, 0.3, valid_for=5.0))
    before = redis.get(KEYS.ranking)
    publish(redis, Publish(None, 12, panic=False, valid_for_seconds=60.0))
    assert redis.get(KEYS.ranking) == before
    assert redis.zcard(KEYS.weights) == 2
    assert min(redis.pttl(KEYS.ranking), redis.pttl(KEYS.weights)) > 55_000
    assert redis.get(KEYS.limit) == "12"


def test_without_a_limit_the_limit_is_not_touched(redis):
    publish(redis, make_publish(1.0, limit=7, valid_for=5.0))
    publish(redis, make_publish(1.0, limit=None))
    assert redis.get(KEYS.limit) == "7"
    assert redis.pttl(KEYS.limit) <= 5_000


def test_another_replica_goes_on_from_the_stored_seq(redis):
    first, second = Publisher(redis), Publisher(redis)
    for _ in range(3):
        first.publish(POLICY, make_publish(1.0), at=1.0, fence=leads(1))
    assert second.publish(POLICY, make_publish(1.0), at=1.0, fence=leads(2)) == 4
    before = redis.get(KEYS.ranking)
    with pytest.raises(LostLease, match="epoch 2"):
        first.publish(POLICY, make_publish(0.5, 0.5), at=2.0, fence=leads(1))
    assert redis.get(KEYS.ranking) == before
    assert stored(redis) == {"epoch": "2", "seq": "4"}


def test_a_replica_without_election_follows_and_precedes_those_with_one(redis):
    assert publish(redis, make_publish(1.0), epoch=ANY_EPOCH) == 1
    assert publish(redis, make_publish(1.0), epoch=7) == 2
    assert publish(redis, make_publish(1.0), epoch=ANY_EPOCH) == 3
    assert stored(redis) == {"epoch": "7", "seq": "3"}


def test_a_fence_that_no_longer_holds_writes_nothing(redis):
    with pytest.raises(LostLease):
        Publisher(redis).publish(POLICY, make_publish(1.0), at=1.0, fence=Fence(1, lambda: False))
    assert redis.keys("*") == []


@pytest.mark.parametrize("accident", ["flushall", "script_flush"])
def test_a_redis_that_forgot_everything_is_filled_again(redis, accident):
    publisher = Publisher(redis)
    publisher.publish(POLICY, make_publish(1.0), at=1.0, fence=leads())
    getattr(redis, accident)()
    assert publisher.publish(POLICY, make_publish(1.0), at=2.0, fence=leads()) == 2
    assert parse_ranking(redis.get(KEYS.ranking)).seq == 2


def test_somebody_elses_key_in_our_place_is_a_clear_error(redis):
    redis.set(KEYS.fence, "x")
    with pytest.raises(Rejected, match=r"trimtab:\{models/model-service\}:fence is no hash"):
        publish(redis, make_publish(1.0))
    assert redis.get(KEYS.ranking) is None


def test_a_full_redis_changes_nothing_at_all(redis):
    publish(redis, make_publish(0.7, 0.3))
    before = (redis.get(KEYS.ranking), stored(redis), redis.get(KEYS.limit))
    redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unreachable, match=r"(?i)memory"):
            publish(redis, make_publish(0.1, 0.9, limit=3))
        assert (redis.get(KEYS.ranking), stored(redis), redis.get(KEYS.limit)) == before
    finally:
        redis.config_set("maxmemory", "0")


def test_a_reader_never_sees_two_publishes_mixed(redis, redis_settings):
    """Publish n has n % 7 + 1 endpoints and limit n, so any mixture shows."""
    done, faults, seen = threading.Event(), [], 0
    reader = connect(redis_settings)

    def read():
        nonlocal seen
        look = reader.register_script(
            "return {redis.call('GET', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('GET', KEYS[3])}"
        )
        while not done.is_set():
            document, members, limit = look(keys=[KEYS.ranking, KEYS.weights, KEYS.limit])
            if document is None:
                continue
            ranking = parse_ranking(document)
            seen += 1
            if not (ranking.limit == int(limit) == ranking.seq and len(ranking.endpoints) == members):
                faults.append((ranking, members, limit))

    thread = threading.Thread(target=read)
    thread.start()
    publisher = Publisher(redis)
    for n in range(1, 301):
        size = n % 7 + 1
        publisher.publish(POLICY, make_publish(*[1 / size] * size, limit=n), at=float(n), fence=leads())
    done.set()
    thread.join()
    reader.close()
    assert faults == []
    assert seen > 0


def test_of_many_writers_the_newest_epoch_wins_and_seq_only_grows(redis, redis_settings):
    listener = connect(redis_settings)
    channel = listener.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(KEYS.changed)
    channel.get_message(timeout=1)
    rng = random.Random(7)
    accepted, newest = [], 12
    epochs = [rng.randint(1, newest) for _ in range(7)] + [newest]

    def write(epoch):
        client = connect(redis_settings)
        publisher = Publisher(client)
        for _ in range(25):
            try:
                seq = publisher.publish(POLICY, make_publish(1.0, limit=epoch), at=1.0, fence=leads(epoch))
            except (LostLease, Rejected):
                continue
            accepted.append((seq, epoch))
        client.close()

    writers = [threading.Thread(target=write, args=(epoch,)) for epoch in epochs]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    heard = []
    while len(heard) < len(accepted):
        message = channel.get_message(timeout=1)
        assert message is not None, f"heard {len(heard)} of {len(accepted)}"
        heard.append(int(message["data"]))
    assert heard == sorted(seq for seq, _ in accepted)
    assert len(set(heard)) == len(heard)
    by_seq = [epoch for _, epoch in sorted(accepted)]
    assert by_seq == sorted(by_seq), "an older epoch was accepted after a newer one"
    assert stored(redis) == {"epoch": str(newest), "seq": str(heard[-1])}
    channel.close()
    listener.close()


@pytest.mark.parametrize(
    ("seconds", "stored"),
    [(12.34, "12.3"), (None, "unknown"), (0.0, "0.0")],
    ids=["known", "not known", "nothing waits"],
)
def test_overload_is_told_to_producers_and_taken_back(redis, seconds, stored):
    told = replace(make_publish(1.0), overload=Overload("everything runs", seconds))
    publish(redis, told)
    assert redis.get(KEYS.overloaded) == stored
    assert 55_000 < redis.pttl(KEYS.overloaded) <= 60_000
    assert parse_ranking(redis.get(KEYS.ranking)).retry_after == seconds
    publish(redis, make_publish(1.0))
    assert redis.get(KEYS.overloaded) is None
    assert parse_ranking(redis.get(KEYS.ranking)).retry_after is None
