from __future__ import annotations

import json

import pytest
import redis

from controller.errors import ConfigError
from controller.model.snapshot import Known, NotAsked, Published, QueueView, Unknown
from controller.observe.redis import read_redis
from trimtab.contract import Keys

pytestmark = pytest.mark.integration


def publish(client, policy, seq=7):
    keys = Keys(policy.key)
    rows = [
        {"instance": "a", "endpoint": "http://a", "weight": 0.25},
        {"instance": "b", "endpoint": "http://b", "weight": 0.75},
    ]
    client.set(keys.ranking, json.dumps({"v": 1, "seq": seq, "published_at": 12.5, "endpoints": rows}))
    client.set(keys.limit, "40")
    client.hset(keys.fence, mapping={"epoch": 3, "seq": seq})


def test_what_is_published_is_read_back(redis_client, policy):
    one, two = policy("one", concurrency={"queue": "q"}), policy("two")
    publish(redis_client, one)
    queue = Keys(one.key).queue("q")
    redis_client.zadd(queue.waiting, {"r1": 1, "r2": 2})
    redis_client.zadd(queue.leases, {"r3": 9})
    views, problems = read_redis(redis_client, [one, two])
    published = views[one.key].published.value
    assert (published.seq, published.epoch, published.limit, published.published_at) == (7, 3, 40, 12.5)
    assert dict(published.weights) == {"a": 0.25, "b": 0.75}
    assert views[one.key].queue == Known(QueueView(depth=2, in_flight=1))
    assert (views[two.key].published, views[two.key].queue) == (Known(None), NotAsked())
    assert problems == []


def test_all_policies_cost_one_round_trip(redis_client, policy):
    policies = [policy(f"p{i}", concurrency={}) for i in range(10)]
    read_redis(redis_client, policies)
    before = redis_client.info("stats")["total_reads_processed"]
    read_redis(redis_client, policies)
    assert redis_client.info("stats")["total_reads_processed"] - before <= 2  # ours, and this question


def test_an_expired_ranking_leaves_the_fence(redis_client, policy):
    made = policy()
    publish(redis_client, made)
    redis_client.delete(Keys(made.key).ranking)
    published = read_redis(redis_client, [made])[0][made.key].published.value
    assert (published.seq, dict(published.weights)) == (7, {})


def test_wrong_types_are_unknown_and_others_are_read(redis_client, policy):
    bad, good = policy("bad", concurrency={}), policy("good")
    redis_client.set(Keys(bad.key).queue("model_requests").waiting, "text")
    redis_client.lpush(Keys(bad.key).limit, "x")
    publish(redis_client, good)
    views, problems = read_redis(redis_client, [bad, good])
    assert isinstance(views[bad.key].published, Unknown)
    assert isinstance(views[bad.key].queue, Unknown)
    assert isinstance(views[good.key].published.value, Published)
    assert len(problems) == 2
    assert all("policy models/bad" in problem for problem in problems)


@pytest.mark.parametrize("text", ["{", "[]", '{"endpoints": 3}', '{"endpoints": [{}]}', "null"])
def test_rubbish_in_place_of_a_ranking_is_said_and_may_be_replaced(redis_client, policy, text):
    made = policy()
    publish(redis_client, made)
    redis_client.set(Keys(made.key).ranking, text)
    views, problems = read_redis(redis_client, [made])
    assert dict(views[made.key].published.value.weights) == {}
    assert "no ranking document" in problems[0]


def test_a_limit_that_is_no_number_is_said(redis_client, policy):
    made = policy()
    redis_client.set(Keys(made.key).limit, "many")
    views, problems = read_redis(redis_client, [made])
    assert views[made.key].published.value.limit is None
    assert "no integer" in problems[0]


def test_an_outage_is_one_line(policy):
    with redis.Redis(port=1, decode_responses=True, retry=None, socket_timeout=1) as client:
        views, problems = read_redis(client, [policy("a"), policy("b", concurrency={})])
    assert len(problems) == 1
    assert problems[0].startswith("Redis: ")
    assert isinstance(views["models/b"].queue, Unknown)


def test_a_password_file_that_is_gone_is_one_line(redis_server, policy):
    class Gone(redis.credentials.CredentialProvider):
        def get_credentials(self):
            raise ConfigError("--redis-password-file /gone: No such file or directory")

    with redis.Redis(port=redis_server(), credential_provider=Gone(), retry=None) as client:
        _, problems = read_redis(client, [policy()])
    assert problems == ["Redis: --redis-password-file /gone: No such file or directory"]


def test_denied_access_is_one_line_for_all(redis_client, policy):
    redis_client.execute_command("ACL", "SETUSER", "default", "resetkeys")
    views, problems = read_redis(redis_client, [policy("a", concurrency={}), policy("b")])
    assert len(problems) == 1
    assert "policy" not in problems[0]
    assert isinstance(views["models/a"].queue, Unknown)


def test_policies_in_different_slots_of_a_cluster(redis_server, policy, wait_until):
    port = redis_server("--cluster-enabled", "yes")
    with redis.Redis(port=port, decode_responses=True) as node:
        node.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        wait_until(lambda: node.cluster("info")["cluster_state"] == "ok")
    policies = [policy(f"p{i}", concurrency={}) for i in range(5)]
    with redis.RedisCluster(host="127.0.0.1", port=port, decode_responses=True) as client:
        publish(client, policies[0])
        views, problems = read_redis(client, policies)
    assert views["models/p0"].published.value.seq == 7
    assert views["models/p4"].queue == Known(QueueView(0, 0))
    assert problems == []
