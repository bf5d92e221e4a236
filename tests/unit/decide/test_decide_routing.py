from dataclasses import replace
from itertools import pairwise

import pytest
from decide_world import NOTHING, change, hold, instance, policy, published, row, snapshot, weights

from controller.decide.decide import decide
from controller.model.memory import Memory
from controller.model.plan import EndpointState
from controller.model.sample import Absent, Signal, Stale

ROUTED = policy(routing={})
SLOW = {"latency": 0.9}


def run(frames, policy=ROUTED, memory=NOTHING, every=15.0, **fields):
    """Plans of successive ticks over lists of instances."""
    plans = []
    for tick, instances in enumerate(frames):
        plan, memory = decide(policy, snapshot(instances, at=1000.0 + every * tick, **fields), memory)
        plans.append(plan)
    return plans


def test_weights_follow_capacity_and_rank_by_weight_then_name():
    plan = run([[instance("c", rate=30), instance("b"), instance("a")]])[0]
    assert [(e.instance, e.rank) for e in plan.publish.endpoints] == [("c", 1), ("a", 2), ("b", 3)]
    assert weights(plan) == pytest.approx({"a": 0.2, "b": 0.2, "c": 0.6}, rel=0.001)


def test_nobody_is_below_the_floor():
    plan = run([[instance("a", rate=1000), instance("b", rate=0.1)]])[0]
    assert weights(plan) == pytest.approx({"a": 0.95, "b": 0.05})


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        pytest.param({"ready": False, "rate": None}, EndpointState.WARMING, id="not ready"),
        pytest.param({"terminating": True}, EndpointState.EJECTED, id="terminating"),
    ],
)
def test_who_may_not_serve_is_listed_with_weight_zero(fields, state):
    plan = run([[instance("a"), instance("b", **fields)]])[0]
    assert (row(plan, "b").weight, row(plan, "b").state) == (0.0, state)
    assert row(plan, "a").weight == pytest.approx(1.0)


def test_a_pod_that_loses_readiness_loses_its_weight_at_once():
    plans = run([[instance("a"), instance("b")], [instance("a"), instance("b", ready=False)]])
    assert (row(plans[1], "b").weight, row(plans[1], "b").state) == (0.0, EndpointState.EJECTED)
    assert change(plans[1], "weight b").reason == "its pod is not ready"


def test_change_per_publish_is_bounded():
    memory = Memory(weights={"a": 0.5, "b": 0.5})
    plan = run([[instance("a", rate=90), instance("b", rate=10)]], memory=memory)[0]
    assert weights(plan) == pytest.approx({"a": 0.75, "b": 0.25})
    assert row(plan, "a").why == "capacity 180/s, in steps"


def test_a_new_instance_enters_at_most_at_the_mean():
    fleet = [instance("a"), instance("b"), instance("c", rate=900)]
    plan = run([fleet], policy=policy(routing={"slowStart": "0s"}), memory=Memory(weights={"a": 0.5, "b": 0.5}))[0]
    assert row(plan, "c").weight == pytest.approx(1 / 3)


def test_a_new_instance_starts_slowly():
    usual = [instance("a"), instance("b")]
    plans = run([usual, *[[*usual, instance("c", rate=None)]] * 6])
    shares = [row(p, "c").weight for p in plans[1:]]
    assert shares[0] == pytest.approx(0.1 / 2.1, rel=0.01)
    assert row(plans[1], "c").why.endswith("slow start 10%")
    assert shares[1] == pytest.approx(0.5 / 2.5, rel=0.01)
    assert shares[3] == pytest.approx(1 / 3, rel=0.02)


@pytest.mark.parametrize("back", ["another uid", "ready again"])
def test_slow_start_begins_when_a_pod_begins_to_serve(back):
    first, second = [instance("a"), instance("b")], [instance("a"), instance("b", uid="uid-b2")]
    gone = [instance("a"), instance("b", ready=False)]
    plans = run([first, first if back == "another uid" else gone, second if back == "another uid" else first])
    assert "slow start" in row(plans[-1], "b").why
    assert row(plans[-1], "b").weight < 0.2


def test_nobody_is_new_after_a_restart():
    plan = run([[instance("a"), instance("b")]])[0]
    assert "slow start" not in row(plan, "a").why
    assert weights(plan) == pytest.approx({"a": 0.5, "b": 0.5})


def test_full_memory_costs_weight():
    plan = run([[instance("a", extra={Signal.MEMORY: 0.95}), instance("b", extra={Signal.MEMORY: 0.85})]])[0]
    assert weights(plan) == pytest.approx({"a": 0.75 / 1.75, "b": 1 / 1.75})
    assert row(plan, "a").why == "capacity 20/s, memory 95% full"


def test_a_backlog_turns_requests_away():
    inside = {"a": 60.0, "b": 3.0, "c": 3.0}
    plan = run([[instance(n, extra={Signal.IN_FLIGHT: f}) for n, f in inside.items()]])[0]
    assert row(plan, "a").weight < 0.32
    assert "backlog 60 -" in row(plan, "a").why
    assert row(plan, "b").weight == row(plan, "c").weight > 0.33


def test_what_redis_holds_goes_before_memory():
    service = snapshot([instance("a"), instance("b")], published=published(weights={"a": 0.8, "b": 0.2}))
    plan, _ = decide(ROUTED, service, Memory(weights={"a": 0.5, "b": 0.5}))
    assert weights(plan) == pytest.approx({"a": 0.7, "b": 0.3})


def test_a_slow_instance_is_shed_after_a_while_and_recovers_after_a_calm_while():
    usual, slow = [instance(n) for n in "abc"], [instance("a", **SLOW), instance("b"), instance("c")]
    between = [instance("a", latency=0.45), instance("b"), instance("c")]
    plans = run([usual, slow, slow, slow, between, between, between, usual, usual, usual, usual])
    shares = [row(p, "a").weight for p in plans]
    assert shares[:3] == pytest.approx([1 / 3] * 3)
    assert shares[3:9] == pytest.approx([0.1 / 3] * 6)
    assert row(plans[3], "a").why == "shed: 0.9 s > 0.5 s for 30 s"
    assert row(plans[4], "a").why == "shed: 0.45 s, not yet below 0.4 s"
    assert row(plans[8], "a").why == "shed: 0.1 s, calm for 15 s of 30 s"
    assert shares[8] < shares[9] <= shares[8] * 1.5 + 1e-9
    assert shares[9] < shares[10]


def test_a_break_in_the_streak_starts_it_again():
    usual, slow = [instance(n) for n in "abc"], [instance("a", **SLOW), instance("b"), instance("c")]
    plans = run([slow, slow, usual, slow, slow])
    assert row(plans[-1], "a").weight == pytest.approx(1 / 3)


def test_one_missing_sample_does_not_break_the_streak_but_a_long_gap_does():
    slow = [instance("a", **SLOW), instance("b"), instance("c")]
    dark = [instance("a", latency=Absent("gap")), instance("b"), instance("c")]
    assert row(run([slow, dark, slow])[-1], "a").why.startswith("shed")
    assert not row(run([slow, *[dark] * 5, slow])[-1], "a").why.startswith("shed")


def test_a_shed_instance_that_sees_no_request_is_tried_again():
    slow = [instance("a", **SLOW), instance("b"), instance("c")]
    silent = [instance("a", rate=0.0, latency=Absent("idle")), instance("b"), instance("c")]
    shares = [row(p, "a").weight for p in run([*[slow] * 3, *[silent] * 20])]
    assert shares[2] == pytest.approx(0.1 / 3)
    assert shares[-1] == pytest.approx(1 / 3, rel=0.01)
    assert all(b <= a * 1.5 + 1e-9 for a, b in pairwise(shares[2:]))


def test_a_shed_instance_without_any_sample_comes_back_halfway():
    slow = [instance("a", **SLOW), instance("b"), instance("c")]
    dark = [instance("a", rate=Absent("x"), latency=Absent("x"), cpu=None), instance("b"), instance("c")]
    assert row(run([*[slow] * 3, *[dark] * 20])[-1], "a").weight >= 0.5 / 3


def test_an_outage_pardons_nobody():
    slow = [instance("a", **SLOW), instance("b"), instance("c")]
    plans = run([slow] * 3)
    _, memory = decide(ROUTED, snapshot(slow, at=1000.0), NOTHING)
    for tick in range(1, 3):
        _, memory = decide(ROUTED, snapshot(slow, at=1000.0 + 15 * tick), memory)
    for tick in range(3, 13):
        plan, memory = decide(ROUTED, snapshot(slow, at=1000.0 + 15 * tick, metrics_problem="down"), memory)
    assert weights(plan) == pytest.approx(weights(plans[2]))
    assert memory.instances["a"].shedding


@pytest.mark.parametrize("bad", [2, 3], ids=["two of three", "all"])
def test_more_than_half_slow_is_an_overload_and_nobody_is_shed(bad):
    fleet = [instance(n, **(SLOW if i < bad else {})) for i, n in enumerate("abc")]
    plan = run([fleet] * 4)[-1]
    assert hold(plan, "shedding").reason.startswith(f"overload: {bad} of 3 instances are over the threshold")
    assert not plan.publish.panic
    assert weights(plan) == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})


def test_an_overload_takes_back_those_who_were_shed_at_once():
    one = [instance("a", **SLOW), *(instance(n) for n in "bcd")]
    three = [*(instance(n, **SLOW) for n in "abc"), instance("d")]
    plans = run([one] * 3 + [three] * 3)
    assert row(plans[2], "a").weight == pytest.approx(0.025)
    assert weights(plans[-1]) == pytest.approx(dict.fromkeys("abcd", 0.25))


def test_a_slow_instance_is_kept_when_the_others_have_no_room():
    fleet = [instance("a", **SLOW, cpu=0.9), *(instance(n, cpu=0.9) for n in "bc")]
    plan = run([fleet] * 4)[-1]
    assert weights(plan) == pytest.approx(dict.fromkeys("abc", 1 / 3))
    assert "no room" in hold(plan, "shedding").reason


def test_two_instances_are_enough_to_tell_the_slow_one():
    plan = run([[instance("a", **SLOW, cpu=0.2), instance("b", cpu=0.2)]] * 4)[-1]
    assert row(plan, "a").why.startswith("shed")
    assert weights(plan) == pytest.approx({"a": 0.05, "b": 0.95})


def test_at_most_half_are_shed_the_failing_first():
    trouble = {"a": {"errors": 0.5}, "b": SLOW, "c": {"latency": 0.8}}
    fleet = [instance(n, cpu=0.4, **trouble.get(n, {})) for n in "abcde"]
    plan = run([fleet] * 4)[-1]
    assert [e.instance for e in plan.publish.endpoints if e.why.startswith("shed")] == ["a", "b"]


@pytest.mark.parametrize("bad", [2, 3], ids=["two of three", "all"])
def test_more_than_half_failing_is_a_panic_and_all_are_equal(bad):
    fleet = [instance(n, rate=10 * (i + 1), errors=0.5 if i < bad else 0.0) for i, n in enumerate("abc")]
    plan = run([fleet] * 3)[-1]
    assert plan.publish.panic
    assert weights(plan) == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_each_shedding_in_a_row_lasts_twice_as_long():
    usual, slow = [instance(n) for n in "abc"], [instance("a", **SLOW), instance("b"), instance("c")]
    plans = run([slow] * 3 + [usual] * 4 + [slow] * 3 + [usual] * 8)
    shed = [row(p, "a").why.startswith("shed") for p in plans]
    assert shed.index(False, 2) - 2 == 3
    again = shed.index(True, 6)
    assert shed.index(False, again) - again == 4


def test_failing_fast_does_not_look_fast():
    sink = [instance("a", rate=1000, cpu=0.05, latency=0.005, errors=1.0), instance("b"), instance("c")]
    plans = run([sink] * 2)
    assert row(plans[0], "a").weight == pytest.approx(0.1 / 3)
    assert row(plans[1], "a").why == "shed: errors 100% > 10%"


def test_one_failed_request_proves_nothing():
    unlucky = [instance("a", rate=1 / 60, errors=1.0), instance("b"), instance("c")]
    assert not any(e.why.startswith("shed") for p in run([unlucky] * 4) for e in p.publish.endpoints)


def test_a_stale_instance_keeps_its_weight_and_says_so():
    usual = [instance("a", rate=30), instance("b")]
    dark = [instance("a", rate=Stale(30.0, 90.0), cpu=Stale(0.5, 90.0)), instance("b", rate=5)]
    plans = run([usual, dark, dark])
    assert row(plans[2], "a").weight == pytest.approx(row(plans[0], "a").weight)
    assert row(plans[2], "a").state is EndpointState.STALE


def test_a_metrics_outage_keeps_weights_and_drops_dead_pods():
    memory = Memory(weights={"a": 0.6, "b": 0.3, "c": 0.1})
    left = [instance(n, rate=None, cpu=None, latency=None) for n in "ab"]
    plan, after = decide(ROUTED, snapshot(left, metrics_problem="refused"), memory)
    assert weights(plan) == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert {e.state for e in plan.publish.endpoints} == {EndpointState.STALE}
    assert hold(plan, "weights").reason == "metrics: refused; the last weights stand"
    assert change(plan, "weight c").after is None
    again, _ = decide(ROUTED, snapshot(left, at=1015.0, metrics_problem="refused"), after)
    assert weights(again) == pytest.approx(weights(plan))
    assert not again.changes


def test_both_down_keeps_everybody_as_they_are():
    fleet = [instance("a", rate=30), instance("b"), instance("c", ready=False)]
    plan, memory = decide(ROUTED, snapshot(fleet), NOTHING)
    after, _ = decide(ROUTED, snapshot([], at=1015.0, metrics_problem="refused", instances_complete=False), memory)
    assert weights(after) == pytest.approx(weights(plan))
    assert [e.endpoint for e in after.publish.endpoints] == [e.endpoint for e in plan.publish.endpoints]


def test_kubernetes_down_uses_remembered_addresses_and_readiness():
    fleet = [instance("a"), instance("b"), instance("c", ready=False)]
    plan, memory = decide(ROUTED, snapshot(fleet), NOTHING)
    seen = [replace(i, endpoint=None, ready=None, uid=None) for i in fleet]
    after, _ = decide(ROUTED, snapshot(seen, at=1015.0, instances_complete=False), memory)
    assert weights(after) == pytest.approx(weights(plan))


def test_an_address_that_nobody_remembers_holds_the_whole_ranking():
    seen = [instance("a", endpoint=None, ready=None)]
    service = snapshot(seen, instances_complete=False, published=published(weights={"a": 0.5, "b": 0.5}))
    plan, after = decide(ROUTED, service, NOTHING)
    assert plan.publish.endpoints is None
    assert "address" in hold(plan, "weights").reason
    assert after.weights == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    ("instances", "reason"),
    [([], "no instance is known"), ([instance("a", ready=False)], "no instance is ready")],
    ids=["none", "none ready"],
)
def test_nobody_to_rank_leaves_the_last_ranking(instances, reason):
    plan, after = decide(ROUTED, snapshot(instances), Memory(weights={"a": 1.0}))
    assert plan.publish.endpoints is None
    assert hold(plan, "weights").reason == reason
    assert after.weights == {"a": 1.0}


def test_an_omitted_section_does_nothing():
    plan, _ = decide(policy(), snapshot([instance("a")]), NOTHING)
    assert (plan.publish, plan.hpa, plan.changes, plan.holds) == (None, None, (), ())
    plan, _ = decide(policy(concurrency={}), snapshot([instance("a")]), NOTHING)
    assert plan.publish.endpoints is None
    assert plan.publish.limit == 5
    plan, _ = decide(ROUTED, snapshot([instance("a")]), NOTHING)
    assert plan.publish.limit is None
