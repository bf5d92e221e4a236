from itertools import pairwise

import pytest
from decide_world import NOTHING, change, hold, instance, policy, published, queue, snapshot

from controller.decide.decide import decide
from controller.model.memory import Memory
from controller.model.sample import Absent, Signal, Stale
from controller.model.snapshot import Known, Published, Unknown

LIMITED = policy(concurrency={"perInstance": 5, "min": 2, "max": 30})
FOUR = [instance(n) for n in "abcd"]
SLOW = [instance(n, latency=0.9) for n in "abcd"]


def tick(instances, memory=NOTHING, at=1000.0, policy=LIMITED, **fields):
    return decide(policy, snapshot(instances, at=at, **fields), memory)


def standing(limit, ready=4, **fields):
    return Memory(limit=limit, ready_instances=ready, **fields)


@pytest.mark.parametrize(
    ("instances", "memory", "fields", "expected"),
    [
        pytest.param(FOUR, NOTHING, {}, 20, id="five per ready instance"),
        pytest.param(FOUR * 3, NOTHING, {}, 30, id="never above max"),
        pytest.param([instance("a", ready=False)], NOTHING, {}, 2, id="never below min"),
        pytest.param([*FOUR, instance("e", ready=False)], NOTHING, {}, 20, id="not ready does not count"),
        pytest.param([instance(n, ready=None) for n in "ab"], NOTHING, {}, 10, id="without Kubernetes data count"),
        pytest.param(
            [instance("a", ready=None), instance("b", ready=None, rate=Stale(1, 90), cpu=None, latency=None)],
            NOTHING,
            {},
            10,
            id="a stale one still counts",
        ),
        pytest.param(FOUR, standing(8, ready=None), {}, 9, id="recovers by one at least"),
        pytest.param(FOUR * 2, standing(22, ready=8), {}, 24, id="recovers by a tenth"),
        pytest.param(FOUR, standing(20, ready=2), {}, 20, id="never above base"),
        pytest.param(FOUR, standing(5, ready=2), {}, 10, id="more ready: up in proportion"),
        pytest.param(FOUR[:2], standing(20), {}, 10, id="fewer ready: down at once"),
        pytest.param(FOUR[:2], standing(10), {}, 5, id="fewer ready: down in proportion"),
        pytest.param(FOUR, standing(2, ready=0), {}, 20, id="back from none ready"),
        pytest.param(FOUR[:2], standing(20, ready=None), {}, 16, id="too high after a restart: in steps"),
        pytest.param(FOUR, standing(20), {"published": published(12)}, 13, id="Redis goes before memory"),
        pytest.param(FOUR, NOTHING, {"published": published(12)}, 13, id="a restart resumes from Redis"),
        pytest.param(FOUR, standing(12), {"published": Unknown("down")}, 13, id="memory when Redis does not answer"),
        pytest.param(FOUR, standing(12), {"published": published(None)}, 13, id="memory when Redis is empty"),
        pytest.param(FOUR, standing(40), {}, 30, id="above max: the policy's word"),
        pytest.param(SLOW, standing(20, breach_since=985.0), {}, 16, id="SLO broken: x0.8"),
        pytest.param(SLOW, standing(20), {}, 20, id="SLO broken for one tick only"),
        pytest.param(SLOW, standing(2, breach_since=985.0), {}, 2, id="never below min however bad"),
        pytest.param([instance("a", errors=0.05)], standing(5, ready=1, breach_since=985.0), {}, 4, id="errors too"),
        pytest.param(
            [instance("a", extra={Signal.LATENCY_QUANTILE: 0.9})],
            standing(5, ready=1, breach_since=985.0),
            {},
            4,
            id="the quantile goes before the mean",
        ),
        pytest.param(
            [instance("a", latency=9.0, rate=0.1), instance("b", rate=20)],
            standing(10, ready=2, breach_since=985.0),
            {},
            10,
            id="weighted by rate",
        ),
        pytest.param(
            [instance(n, rate=0.0, latency=Absent("idle")) for n in "ab"],
            standing(8, ready=2),
            {},
            9,
            id="idle is calm",
        ),
    ],
)
def test_limit(instances, memory, fields, expected):
    plan, after = tick(instances, memory, **fields)
    assert plan.publish.limit == expected
    assert after.limit == expected
    before = memory.limit if memory.limit is not None and not fields else None
    if before is not None:
        assert (change(plan, "limit") is not None) == (before != expected)


@pytest.mark.parametrize(
    ("instances", "fields", "says"),
    [
        pytest.param(SLOW, {"metrics_problem": "refused"}, "metrics: refused", id="metrics down"),
        pytest.param(SLOW, {"instances_complete": False}, "not every instance", id="instances unknown"),
        pytest.param(
            [*SLOW[:3], instance("d", latency=Stale(0.9, 90.0))], {}, "no fresh response time from d", id="stale"
        ),
        pytest.param([*SLOW[:3], instance("d", latency=Absent("x"))], {}, "no fresh response time from d", id="absent"),
        pytest.param(SLOW, {"queue": Unknown("refused")}, "queue: refused", id="queue unknown"),
    ],
)
def test_doubt_freezes_every_decrease_and_says_so(instances, fields, says):
    memory = standing(20, breach_since=100.0)
    for at in (1000.0, 1015.0, 1030.0):
        plan, memory = tick(instances, memory, at=at, **fields)
        assert plan.publish.limit == 20
        assert memory.breach_since is None
    plan, _ = tick(instances, standing(24), **fields)
    assert plan.publish.limit == 24
    assert says in (hold(plan, "limit").reason if hold(plan, "limit") else "")


def test_an_outage_still_follows_pods_that_are_known_to_be_gone():
    dark = [instance(n, rate=None, cpu=None, latency=None) for n in "ab"]
    assert tick(dark, standing(20), metrics_problem="refused")[0].publish.limit == 10


def test_nothing_known_at_all_publishes_what_stands():
    assert tick([], NOTHING, instances_complete=False)[0].publish.limit is None
    assert tick([], NOTHING, instances_complete=False, published=published(7))[0].publish.limit == 7
    assert tick([], standing(7), instances_complete=False, metrics_problem="x")[0].publish.limit == 7


def test_the_reason_carries_the_numbers():
    plan, _ = tick(SLOW, standing(20, breach_since=985.0), queue=queue(3, 20))
    assert plan.sentence() == "limit 20 -> 16 (p95 0.9 s is over the SLO 0.5 s)"


def test_memory_of_a_limit_that_was_never_published_does_not_follow_twice():
    _, after = tick(FOUR[:2], standing(20), published=published(20))
    plan, _ = tick(FOUR[:2], after, at=1015.0, published=published(20))
    assert plan.publish.limit == 16


ADAPTIVE = policy(concurrency={"perInstance": 5, "min": 2, "max": 300, "adaptive": True}, slo={"latency": "1s"})


def adapted(limit, knee, memory, at, *, names="abcd", base=0.5, **fields):
    """One tick of a fleet with a sharp knee, whose limit stands in Redis."""
    throughput = min(limit, knee) / base
    seen = [instance(n, rate=throughput / len(names), latency=limit / throughput) for n in names]
    fields = {"queue": queue(50, limit), "published": published(limit), **fields}
    return tick(seen, memory, at=at, policy=ADAPTIVE, **fields)


def test_the_adaptive_limit_finds_the_knee_in_the_loop():
    memory, limit, limits = NOTHING, 20, []
    for i in range(500):
        plan, memory = adapted(limit, 100, memory, 1000.0 + 15 * i)
        limit = plan.publish.limit
        limits.append(limit)
    assert 80 <= limit <= 140
    moves = [i for i, (a, b) in enumerate(pairwise(limits)) if a != b]
    assert min(b - a for a, b in pairwise(moves)) >= 5


def test_adaptive_starts_at_the_default_and_resumes_from_redis():
    assert tick(FOUR, NOTHING, policy=ADAPTIVE)[0].publish.limit == 20
    assert tick(FOUR, NOTHING, policy=ADAPTIVE, published=published(87), queue=queue(9, 87))[0].publish.limit == 87


def test_adaptive_follows_lost_pods_at_once_even_in_the_dark():
    _, memory = adapted(80, 100, NOTHING, 1000.0)
    dark = [instance(n, rate=None, cpu=None, latency=None) for n in "ab"]
    plan, _ = tick(dark, memory, at=1015.0, policy=ADAPTIVE, metrics_problem="refused", published=published(80))
    assert plan.publish.limit == 40


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"metrics_problem": "refused"}, id="Prometheus down"),
        pytest.param({"instances_complete": False}, id="pods unknown"),
        pytest.param({"queue": Unknown("down")}, id="queue unknown"),
    ],
)
@pytest.mark.parametrize(("start", "end"), [(80, 80), (8, 20)], ids=["stays above the default", "rises to the default"])
def test_adaptive_in_doubt_is_held_and_never_ends_below_the_default(fields, start, end):
    memory, limit, limits = standing(start), start, []
    for i in range(80):
        plan, memory = adapted(limit, 300, memory, 1000.0 + 15 * i, **fields)
        limit = plan.publish.limit
        limits.append(limit)
    assert limits[:5] == [start] * 5
    assert limits[-1] == end
    assert max(limits) == max(start, end)


def test_adaptive_cuts_at_once_when_memory_is_scarce():
    _, memory = adapted(80, 100, NOTHING, 1000.0)
    full = [instance(n, rate=40.0, extra={Signal.MEMORY: 0.97}) for n in "abcd"]
    plan, _ = tick(full, memory, at=1015.0, policy=ADAPTIVE, published=published(80), queue=queue(9, 80))
    assert plan.publish.limit == 64
    assert "memory 97%" in change(plan, "limit").reason


def test_without_a_limit_and_without_instances_adaptive_sets_none():
    assert tick([], NOTHING, policy=ADAPTIVE, instances_complete=False)[0].publish.limit is None


FOUND = policy(concurrency={"perInstance": 5, "min": 2, "max": 30, "adaptive": True})


def held_by_the_inner_loop(limit):
    return Known(Published(1, 1, limit, limit_reason="knee 15"))


def test_the_inner_loops_limit_is_told_on_and_not_set():
    plan, memory = tick(SLOW, standing(20), policy=FOUND, published=held_by_the_inner_loop(17))
    assert (plan.publish.limit, plan.publish.limit_carried) == (17, True)
    assert (change(plan, "limit").before, change(plan, "limit").after) == (20, 17)
    assert change(plan, "limit").reason == "inner loop: knee 15"
    assert memory.limit == 17
    plan, _ = tick(FOUR, memory, at=1015.0, policy=FOUND, published=held_by_the_inner_loop(17))
    assert change(plan, "limit") is None


def test_when_the_inner_loop_falls_silent_the_outer_one_goes_on_from_what_stands():
    _, memory = tick(FOUR, standing(20), policy=FOUND, published=held_by_the_inner_loop(17))
    plan, _ = tick(FOUR, memory, at=1015.0, policy=FOUND, published=published(17))
    assert (plan.publish.limit, plan.publish.limit_carried) == (17, False)


def test_a_policy_that_is_adaptive_no_more_sets_its_own_limit():
    plan, _ = tick(FOUR, standing(17), published=held_by_the_inner_loop(17))
    assert (plan.publish.limit, plan.publish.limit_carried) == (18, False)


@pytest.mark.parametrize(("instances", "expected"), [(FOUR, 20), (FOUR * 3, 30), ([], None)])
def test_the_default_is_published_beside_the_limit(instances, expected):
    plan, _ = tick(instances)
    assert (plan.publish.default_limit, plan.publish.queue) == (expected, "model_requests")


def test_the_default_is_that_of_the_instances_last_known():
    plan, _ = tick([], standing(17, ready=3), instances_complete=False)
    assert plan.publish.default_limit == 15
