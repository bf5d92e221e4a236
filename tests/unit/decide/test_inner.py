"""The inner loop's decision: periods cut from exact counts, and what it does when the outer loop is silent or in doubt."""

from dataclasses import replace

import pytest
from decide_world import instance, queue, snapshot
from inner_world import POLICY, Queue

from controller.decide.inner import decide_limit, outlook
from controller.decide.limiter.period import ENOUGH, between, quantile
from controller.model.inner import InnerMemory, LimitView, Outlook, QueueCount
from controller.model.sample import Absent, Signal

PATIENCE = 2 * (60 + 5)


def test_it_finds_the_knee_within_seconds_and_stays():
    limits = Queue().turns(60)
    assert all(0.8 * 60 <= limit <= 1.3 * 60 for limit in limits[25:])


@pytest.mark.parametrize(
    ("view", "said"),
    [
        pytest.param(LimitView(None, Queue().count()), Outlook(1.0, 4), id="no limit was published"),
        pytest.param(LimitView(20, None), Outlook(1.0, 4), id="nobody has used the queue"),
        pytest.param(LimitView(20, Queue().count()), None, id="the outer loop has not spoken yet"),
        pytest.param(
            LimitView(20, Queue().count()), Outlook(1.0, None), id="nobody knows how many instances there are"
        ),
    ],
)
def test_there_is_nothing_to_say_until_all_three_are_there(view, said):
    plan, memory = decide_limit(POLICY, view, said, InnerMemory(), 2.0)
    assert plan is None
    assert memory == InnerMemory()


@pytest.mark.parametrize("standing", [2, 37, 400])
def test_a_restart_goes_on_from_what_stands(standing):
    world = Queue(limit=standing)
    plan = world.decide()
    assert (plan.before, plan.after) == (standing, standing)


def test_few_completions_make_a_longer_period():
    world = Queue(limit=4, knee=4.0, base=1.0)  # 4/s: a period of 100 would take 25 s, so it ends after ten
    world.turn()
    began = world.memory.start
    for _ in range(9):
        world.turn()
        assert world.memory.start == began
    world.turn()
    world.turn()
    assert world.memory.start != began


def test_a_slow_service_gets_time_to_follow_a_move():
    world = Queue(limit=40, knee=400.0, base=2.0)
    while world.limit == 40:
        world.turn()
    assert world.memory.start is None
    world.turn()
    assert world.memory.start is None
    world.turn()
    world.turn()
    assert world.memory.start is not None


def test_a_limit_that_stays_is_refreshed_but_not_each_second():
    world = Queue()
    world.turns(60)
    world.demand = 5
    plans = [world.turn() for _ in range(40)]
    told = [p for p in plans if p is not None]
    assert 15 <= len(told) <= 25
    assert all(p.before == p.after for p in told)


def test_the_default_goes_with_each_limit():
    plan = Queue(ready=7).turn()
    assert (plan.default, plan.queue, plan.valid_for_seconds) == (35, "model_requests", 60.0)


@pytest.mark.parametrize(("ready", "expected"), [(2, 30), (3, 45), (6, 90), (0, 1)])
def test_it_follows_the_instances_at_once(ready, expected):
    world = Queue(limit=60)
    world.turn()
    stood, world.ready = world.limit, ready
    world.decide()
    assert world.limit == pytest.approx(stood * expected / 60, abs=1)
    assert "ready instances" in world.why


def test_scarce_memory_cuts_once_per_word_of_the_outer_loop():
    world = Queue(limit=60)
    world.turns(3)
    world.now += 0.1
    stood, world.mem, world.silent_since = world.limit, 0.97, world.now
    world.decide()
    assert world.limit == int(0.8 * stood)
    assert "memory" in world.why
    after = world.limit
    for _ in range(4):
        world.turn()
        assert world.limit <= after


@pytest.mark.parametrize("way", ["doubt", "silence"])
def test_without_the_outer_loop_it_goes_on_below_what_stood_then_to_the_default(way):
    world = Queue(limit=30, knee=60.0)
    world.turns(3)
    if way == "doubt":
        world.doubt = "metrics: refused"
    else:
        world.silent_since = world.now
    stood, began = world.limit, world.now
    late = 2.5 * 5 if way == "silence" else 0
    while world.now < began + late:
        world.turn()
    stood = world.limit if way == "silence" else stood
    while world.now < began + late + PATIENCE - 1:
        world.turn()
        assert world.limit <= stood
    world.knee = 20.0  # capacity is lost meanwhile: the queue's own counts show it
    world.turns(60)
    assert world.limit == 20
    assert "default" in world.why


def test_in_doubt_it_still_falls_on_the_queues_own_evidence():
    world = Queue(limit=60, knee=60.0)
    world.turns(40)
    world.doubt, world.knee = "metrics: refused", 25.0
    world.turns(15)
    assert world.limit <= 1.3 * 25


def test_the_word_of_the_outer_loop_again_ends_the_doubt():
    world = Queue(limit=30)
    world.doubt = "metrics: refused"
    world.turns(20)
    assert world.limit <= 30
    world.doubt = ""
    world.turns(30)
    assert world.limit >= 48


def back(count):
    return replace(count, completions=0, slots_seconds=0.0, service={})


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(back, id="counters began anew"),
        pytest.param(lambda c: replace(c, since=c.since + 1), id="another queue of the same name"),
        pytest.param(lambda c: replace(c, at=c.at - 500), id="the clock went back"),
        pytest.param(lambda c: replace(c, completions=c.completions - 5000), id="completions went back"),
    ],
)
def test_a_counter_reset_is_held(broken):
    world = Queue(limit=30, knee=30.0)
    world.turns(40)
    stood = world.limit
    world.now += 1
    world.decide(broken(world.count()))
    assert world.limit == stood


def test_counters_that_make_no_sense_for_long_lead_to_the_default():
    world = Queue(limit=60, knee=60.0)
    world.turns(30)
    highest = world.limit
    for n in range(60):
        world.now += 1
        world.decide(replace(world.count(), completions=10**6 - 1000 * n))
        assert world.limit <= highest
    assert world.limit == 20


def test_nothing_finishes_any_more_and_it_falls():
    world = Queue(limit=60, knee=60.0)
    world.turns(30)
    stood, frozen = world.limit, world.count()
    for _ in range(45):
        world.now += 1
        world.decide(replace(frozen, in_flight=stood))
    assert world.limit < 0.5 * stood
    assert "SLO" in world.why


def test_an_idle_queue_holds():
    world = Queue(limit=30)
    world.turns(5)
    stood, frozen = world.limit, replace(world.count(), in_flight=0, waiting=0)
    for _ in range(100):
        world.now += 1
        world.decide(replace(frozen, in_flight=0))
        assert world.limit == stood


def test_somebody_elses_limit_is_taken_as_it_stands():
    world = Queue(limit=60, knee=60.0)
    world.turns(30)
    world.limit = 25
    plan = world.turn()
    assert plan is None or plan.after <= 32


def test_what_the_outer_loop_says():
    dark = {Signal.MEMORY: 0.8}
    service = snapshot([instance("a", extra=dark), instance("b", latency=Absent("gone"))], queue=queue(3, 2))
    said = outlook(POLICY, service, 5.0)
    assert (said.at, said.ready, said.memory) == (5.0, 2, 0.8)
    assert said.doubt == "no fresh response time from b"


def test_the_quantile_lies_in_its_bucket():
    nothing = QueueCount(0.0, 0, 0.0, {}, 0, 0)
    counted = replace(nothing, service={8: 90, 12: 10})
    assert quantile(nothing, counted, 0.5) == pytest.approx(0.004 * 2 ** (-0.25 * 40 / 90))
    assert quantile(nothing, counted, 0.95) == pytest.approx(0.008 * 2 ** (-0.25 * 0.5))
    assert quantile(counted, counted, 0.95) is None


def test_means_between_two_counts_are_exact():
    one = QueueCount(10.0, 50, 100.0, {}, 4, 0)
    two = QueueCount(14.0, 50 + ENOUGH, 140.0, {}, 4, 0)
    period = between(one, two)
    assert (period.finished, period.in_flight, period.throughput, period.response) == (100, 10.0, 25.0, 0.4)
