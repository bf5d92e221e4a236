"""What must hold of the HPA's bounds and targets with everything switched on, in any state, over restarts and faults."""

from dataclasses import replace

import pytest
from decide_world import hold, hpa, instance, policy, scale, snapshot
from hypothesis import assume, given
from hypothesis import strategies as st
from test_decide_properties import memories, snapshots
from test_floors_properties import START, broken, schedules

from controller.decide.budget import Grant
from controller.decide.decide import decide
from controller.model.hpa import LEARNED
from controller.model.memory import Claim, Futility, Memory, Trial, Tuning, Turns, Warmed, WarmUps
from controller.model.snapshot import Known, ResourceTarget
from controller.model.traffic import Arrivals
from controller.replay.behavior import History
from controller.replay.hpa import Hpa, Seen, sync
from controller.replay.replicas import Pod, PodMetric, Replicas, Utilization

NOW = 1000.0
times = st.floats(0.0, NOW)
maybe = st.none() | times


@st.composite
def policies(draw):
    """Schedules, demand, a tuned target, a learned warm-up, a budget of turns; `max` at times narrower than `min`'s reach."""
    low, high = sorted((draw(st.integers(1, 12)), draw(st.integers(1, 15))))
    roof = high + draw(st.integers(0, 15))
    return policy(
        concurrency={},
        routing={},
        scaling={
            "hpa": "h",
            "target": {"name": "m"},
            "min": {"floor": low, "ceiling": high},
            "max": {"floor": max(low, roof - draw(st.integers(0, 9))), "ceiling": roof},
            "cpu": {"target": 70, "between": [draw(st.integers(40, 70)), draw(st.integers(70, 90))]},
            "memory": None,
            "steps": {"replicas": draw(st.integers(1, 4)), "turnsPerHour": draw(st.integers(1, 6))},
            "schedules": draw(st.lists(schedules(high), max_size=2, unique_by=lambda s: s["name"])),
            "demand": draw(st.none() | st.just({})),
            **({} if draw(st.booleans()) else {"warmUp": "2m"}),
        },
    )


grants = st.none() | st.builds(Grant, st.none() | st.integers(0, 40), st.integers(1, 9), st.just("budget b: granted"))


@st.composite
def whole_memories(draw):
    turns = st.builds(Turns, st.sampled_from([-1, 0, 1]), st.lists(times, max_size=6).map(tuple))
    trial = st.builds(Trial, st.integers(0, 9), maybe, st.floats(0.0, 99.0), grown_at=maybe, ticks=st.integers(0, 9))
    futile = st.builds(Futility, st.none() | trial, st.none() | st.floats(0.0, 2 * NOW), maybe, st.integers(0, 9),
                       replicas=st.none() | st.integers(0, 9), idle_latency=maybe, idle_at=maybe)  # fmt: skip
    tuned = st.builds(Tuning, st.none() | st.floats(-1e6, NOW), st.none() | st.integers(1, 99), maybe, maybe,
                      st.none() | st.integers(1, 99), st.floats(0.0, 1e5), st.floats(0.0, 1e4), st.floats(0.0, 1e4))  # fmt: skip
    pods = st.lists(st.builds(Warmed, st.sampled_from("1234"), times, st.floats(0.0, 9e3), st.booleans()), max_size=4)
    return replace(
        draw(memories()),
        arrivals=draw(st.none() | st.builds(Arrivals, st.floats(0.0, 999.0), st.floats(-1.0, 1.0), st.floats(0.0, 9.0), times)),
        min_turns=draw(turns),
        max_turns=draw(turns),
        futility=draw(futile),
        tuning=draw(tuned),
        warmups=WarmUps(tuple(draw(pods)), frozenset(), draw(maybe)),
        claim=draw(st.none() | st.builds(Claim, st.integers(0, 9), st.integers(1, 40), st.integers(1, 40), st.floats(0.0, 4.0), times, st.just(15.0))),
    )  # fmt: skip


worlds = st.tuples(policies(), snapshots(), whole_memories(), grants)


def cpu_of(spec):
    return next((t.percent for t in spec.targets if t.name == "cpu"), None)


@given(worlds)
def test_a_write_is_ordered_bounded_and_steps_towards_the_range(world):
    rules, service, _, _ = world
    plan, _ = decide(*world)
    if plan.hpa is None:
        return
    scaling, after, before = rules.spec.scaling, plan.hpa.after, plan.hpa.before
    assert 1 <= after.min_replicas <= after.max_replicas
    between = scaling.cpu.between
    if before is None:
        assert after.min_replicas >= 1
        assert after.max_replicas <= max(
            scaling.max.ceiling, service.scale.value.spec_replicas, service.scale.value.status_replicas
        )
        return
    step = scaling.steps.replicas
    assert before.min_replicas - step <= after.min_replicas <= before.min_replicas + step
    assert before.max_replicas - step <= after.max_replicas <= before.max_replicas + step
    assert after.min_replicas <= max(scaling.min.ceiling, before.min_replicas)
    assert after.max_replicas <= max(scaling.max.ceiling, before.max_replicas, after.min_replicas)
    assert after.min_replicas >= min(scaling.min.floor, before.min_replicas)
    stood = cpu_of(before)
    if stood is not None and between[0] <= stood <= between[1]:
        assert between[0] <= cpu_of(after) <= stood + 1


FAULTS = ["metrics", "queue", "stale"]


@given(worlds, st.sampled_from(FAULTS))
def test_no_input_that_is_not_fresh_lets_anything_down(world, fault):
    rules, service, memory, grant = world
    assume(fault != "stale" or any(i.ready is not False and not i.terminating for i in service.instances))
    plan, _ = decide(rules, broken(service, fault), memory, grant)
    if plan.hpa is None or plan.hpa.before is None:
        return
    assert plan.hpa.after.min_replicas >= plan.hpa.before.min_replicas
    assert plan.hpa.after.max_replicas >= plan.hpa.before.max_replicas
    stood = cpu_of(plan.hpa.before)
    assert stood is None or cpu_of(plan.hpa.after) <= stood


@given(worlds)
def test_a_restart_at_any_tick_lowers_nothing(world):
    """An empty memory makes the very next decision as safe as the one with everything in it, or safer."""
    rules, service, memory, grant = world
    plan, _ = decide(rules, service, Memory(), grant)
    if plan.hpa is None or plan.hpa.before is None:
        return
    written, _ = decide(rules, service, memory, grant)
    if written.hpa is not None:  # what the last one wrote before it died lets nothing down either
        view = replace(service.hpa.value, annotations={LEARNED: written.hpa.learned})
        after, _ = decide(rules, replace(service, hpa=Known(view)), Memory(), grant)
        if after.hpa is not None:
            assert after.hpa.after.min_replicas >= after.hpa.before.min_replicas
            assert after.hpa.after.max_replicas >= after.hpa.before.max_replicas
    assert plan.hpa.after.min_replicas >= plan.hpa.before.min_replicas
    assert plan.hpa.after.max_replicas >= plan.hpa.before.max_replicas
    stood = cpu_of(plan.hpa.before)
    if stood is not None and stood >= rules.spec.scaling.cpu.between[0]:
        assert cpu_of(plan.hpa.after) <= stood, "nothing is tuned upwards on no evidence"


ticks = st.lists(
    st.tuples(st.floats(0.0, 60.0), st.sampled_from([None, None, None, *FAULTS]), st.sampled_from([False] * 5 + [True]), grants),
    min_size=10, max_size=40,
)  # fmt: skip


@given(policies(), st.integers(0, 96).map(lambda q: START + 900.0 * q), ticks, st.integers(1, 20))
def test_a_run_with_faults_budgets_and_restarts_against_the_model_of_the_hpa(rules, at, steps, running):
    scaling, memory, history = rules.spec.scaling, Memory(), History()
    low, high, cpu, step = scaling.min.floor, scaling.max.floor, 70, scaling.steps.replicas
    restarted_at, carried = -1e9, {}
    for load, fault, restart, grant in steps:
        if restart:
            memory, restarted_at = Memory(), at
        full = load / 5.0 / running
        seen = [
            instance(f"i{n}", rate=load / running, cpu=min(full, 1.0), latency=0.1 if full < 0.85 else 2.0, created_at=at - 999.0, ready_at=at - 900.0)
            for n in range(running)
        ]  # fmt: skip
        view = hpa(
            low,
            high,
            targets=(ResourceTarget("cpu", cpu),),
            cpu_percent=round(100 * min(full, 1.0)),
            annotations=carried,
        )
        plan, memory = decide(
            rules, broken(snapshot(seen, at=at, hpa=view, scale=scale(running)), fault), memory, grant
        )
        assert hold(plan, "hpa memory") is None, "what it has written it can read"
        if plan.hpa is not None:
            carried = {LEARNED: plan.hpa.learned}
            after = plan.hpa.after
            assert after.min_replicas <= after.max_replicas
            assert scaling.min.floor <= after.min_replicas <= scaling.min.ceiling
            assert after.max_replicas <= scaling.max.ceiling
            assert abs(after.min_replicas - low) <= step
            assert abs(after.max_replicas - high) <= step
            assert after.max_replicas >= min(high, running), "a write never stops what runs"
            assert after.min_replicas <= max(running + step, low), "nor starts more than a step"
            if after.min_replicas < low or after.max_replicas < high or cpu_of(after) > cpu:
                assert fault is None
                assert at - restarted_at >= scaling.steps.lowerEvery, "a restart waits before it lowers"
            low, high, cpu = after.min_replicas, after.max_replicas, cpu_of(after)
        pods = tuple(Pod(f"p{n}") for n in range(running))
        used = {p.name: PodMetric(round(1000 * min(full, 1.0))) for p in pods}
        found = Seen(Replicas(running, running), pods, (used,))
        steered, history = sync(Hpa((Utilization(cpu),), low, high), found, history, at=at)
        assert not steered.bypassed or steered.desired > running or running > scaling.max.floor or grant is not None
        assert steered.desired <= max(running, low) + max(step, 4, running), "the HPA's own rate, or a step of ours"
        running, at = steered.desired, at + 15.0


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_faults(fault):
    """The generator of faults makes worlds that decide() takes for doubtful; else the properties above hold of nothing."""
    service = broken(snapshot([instance("a")], hpa=Known(None), scale=scale(1)), fault)
    assert service != snapshot([instance("a")], hpa=Known(None), scale=scale(1))
