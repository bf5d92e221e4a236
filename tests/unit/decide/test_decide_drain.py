"""Who is drained before minReplicas goes down, when it may go, and when the pods are given back."""

from dataclasses import replace

import pytest
from decide_world import change, hold, hpa, instance, published, row, scale, snapshot, weights, whole_policy
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.model.drain import Mark, parse, text_of
from controller.model.memory import InstanceMemory, Memory, frozen
from controller.model.plan import EndpointState
from controller.model.sample import Signal
from controller.model.snapshot import Condition

NOW = 1000.0
NAMES = ("a", "b", "c", "d", "e", "f")


def rules(drain=None, *, kind="Deployment", steps=2):
    section = {
        "hpa": "h",
        "target": {"name": "m", "kind": kind},
        "min": {"floor": 2, "ceiling": 8},
        "max": {"floor": 10, "ceiling": 20},
        "steps": {"replicas": steps},
        "warmUp": "100s",
    }
    return whole_policy(scaling=section if drain is None else {**section, "drain": drain})


def pod(name, *, mark=None, inside=0.0, ready_at=0.0, created_at=0.0, **fields):
    found = instance(
        name, rate=1.0, cpu=0.1, extra={Signal.IN_FLIGHT: inside}, ready_at=ready_at, created_at=created_at, **fields
    )
    return replace(found, pod=f"pod-{name}", drain=None if mark is None else Mark(mark))


def fleet(**changes):
    return [changes.get(name, pod(name)) for name in NAMES]


def planned(instances, *, policy=None, minimum=6, runs=6, memory=None, weight=None, kind="Deployment", **view):
    ready = Memory(calm_since=-1e6, hpa_seen_at=-1e6, hpa_min=minimum, hpa_max=10, at=NOW - 15)
    shown = {i.name: (0.0 if i.drain else 1.0) for i in instances} if weight is None else weight
    whole = sum(shown.values()) or 1.0
    world = snapshot(
        instances,
        at=NOW,
        hpa=hpa(minimum, kind=kind, current_replicas=runs, desired_replicas=runs, **view),
        scale=scale(runs),
        published=published(weights={name: value / whole for name, value in shown.items()}),
    )
    return decide(policy or rules({}), world, replace(ready, **(memory or {})))[0]


def marked(plan):
    return [pod.name.removeprefix("pod-") for pod in plan.drain.mark] if plan.drain else []


def given_back(plan):
    return [pod.name.removeprefix("pod-") for pod in plan.drain.release] if plan.drain else []


def low(plan):
    return plan.hpa.after.min_replicas if plan.hpa else None


def test_without_a_drain_section_nothing_is_drained():
    plan = planned(fleet(), policy=rules())
    assert (plan.drain, low(plan)) == (None, 4)


def test_drained_first_then_lowered_then_gone():
    first = planned(fleet())
    assert (len(marked(first)), low(first)) == (2, None)
    assert "draining" in hold(first, "minReplicas").reason
    going = marked(first)
    waits = planned(fleet(**{n: pod(n, mark=NOW - 5, inside=2.0) for n in going}))
    assert (waits.drain, low(waits)) == (None, None)
    idle = planned(fleet(**{n: pod(n, mark=NOW - 5) for n in going}))
    assert (idle.drain, low(idle)) == (None, 4)


@pytest.mark.parametrize(
    ("since", "inside", "lowered"),
    [
        pytest.param(NOW - 29, 3.0, False, id="busy"),
        pytest.param(NOW - 31, 3.0, True, id="busy, and the grace is over"),
        pytest.param(NOW - 1, 0.0, True, id="idle"),
        pytest.param(NOW - 1, None, False, id="nobody knows what is inside"),
        pytest.param(NOW - 31, None, True, id="nobody knows, and the grace is over"),
    ],
)
def test_when_they_may_go(since, inside, lowered):
    plan = planned(fleet(a=pod("a", mark=since, inside=inside), b=pod("b", mark=NOW - 60)))
    assert (low(plan) == 4) is lowered


def test_who_still_has_a_weight_is_not_idle_yet():
    shown = dict.fromkeys(NAMES, 1.0)
    plan = planned(fleet(a=pod("a", mark=NOW - 1), b=pod("b", mark=NOW - 1)), weight=shown)
    assert low(plan) is None


def memories(**capacity):
    known = {
        name: InstanceMemory(uid=f"uid-{name}", capacity=value, capacity_at=NOW) for name, value in capacity.items()
    }
    return {"instances": frozen(known)}


@pytest.mark.parametrize(
    ("changes", "memory", "expected"),
    [
        pytest.param({}, memories(a=10, b=10, c=5, d=10, e=4, f=10), {"c", "e"}, id="the weakest"),
        pytest.param({n: pod(n, inside=3.0) for n in "abcd"}, {}, {"e", "f"}, id="the idlest"),
        pytest.param({n: pod(n, created_at=500.0, ready_at=600.0) for n in "bd"}, {}, {"b", "d"}, id="the newest"),
        pytest.param(
            {n: pod(n, created_at=900.0, ready_at=950.0) for n in "bd"}, {}, {"a", "c"}, id="never who just warmed up"
        ),
        pytest.param(
            {"a": pod("a", ready_at=None)},
            {"instances": frozen({"a": InstanceMemory(uid="uid-a", serving_since=NOW - 50, routable=True)})},
            {"b", "c"},
            id="nor who came back from a crash",
        ),
        pytest.param({}, {"moves": frozen({"a": 0.3})}, {"b", "c"}, id="never who was just preferred"),
        pytest.param(
            {"a": pod("a", ready=False), "b": pod("b", terminating=True)}, {}, {"c"}, id="unready go by themselves"
        ),
    ],
)
def test_who_is_least_useful(changes, memory, expected):
    assert set(marked(planned(fleet(**changes), memory=memory))) == expected


def test_never_the_one_with_the_largest_weight():
    shown = {**dict.fromkeys(NAMES, 1.0), "a": 1.2}
    assert "a" not in marked(planned(fleet(), weight=shown))


def test_a_statefulset_takes_its_last_ones_whoever_they_are():
    names = [f"m-{n}" for n in range(12)]
    pods = [replace(pod(n, ready_at=NOW), pod=n) for n in names]
    plan = planned(pods, policy=rules({}, kind="StatefulSet"), minimum=8, runs=8, kind="StatefulSet")
    assert [p.name for p in plan.drain.mark] == ["m-11", "m-10"]


def test_more_than_min_run_so_the_hpa_wants_them_and_nobody_is_drained():
    plan = planned(fleet(), minimum=5)
    assert (plan.drain, low(plan)) == (None, 3)


@pytest.mark.parametrize(
    ("plan", "left"),
    [
        pytest.param(lambda f: planned(f, memory={"calm_since": None}), True, id="it is calm no more"),
        pytest.param(lambda f: planned(f, paused="in"), True, id="paused"),
        pytest.param(lambda f: planned(f, paused="true"), True, id="paused whole"),
        pytest.param(lambda f: planned(f, foreign_owner="KEDA"), True, id="somebody else's now"),
        pytest.param(
            lambda f: planned(f, conditions=(Condition("ScalingActive", False, "FailedGetResourceMetric"),)),
            True,
            id="the HPA is blind",
        ),
        pytest.param(lambda f: planned(f, policy=rules()), False, id="the policy drains no more"),
    ],
)
def test_called_off_they_are_given_back(plan, left):
    found = plan(fleet(a=pod("a", mark=NOW - 5), b=pod("b", mark=NOW - 5)))
    assert given_back(found) == ["a", "b"]
    assert change(found, "drain a").after is None
    assert (row(found, "a").weight == 0.0) is left


@pytest.mark.parametrize(
    ("since", "back"), [(NOW - 60, []), (NOW - 91, ["a"])], ids=["the HPA may still take it", "it did not"]
)
def test_after_the_lowering_they_are_left_to_the_hpa_for_a_while(since, back):
    plan = planned(fleet(a=pod("a", mark=since)), minimum=5, memory={"min_changed_at": NOW - 30})
    assert given_back(plan) == back


def test_who_is_drained_gets_no_requests_and_says_why():
    plan = planned(fleet(a=pod("a", mark=NOW - 5), b=pod("b", mark=NOW - 5, inside=2.0)))
    assert weights(plan)["a"] == weights(plan)["b"] == 0.0
    assert abs(sum(weights(plan).values()) - 1.0) < 1e-9
    assert (row(plan, "a").state, "draining" in row(plan, "a").why) == (EndpointState.EJECTED, True)


def test_a_mark_that_nobody_takes_away_is_not_honoured_for_ever():
    plan = planned(fleet(a=pod("a", mark=NOW - 600)), minimum=2, runs=6)
    assert weights(plan)["a"] > 0.0


def test_what_the_mark_keeps():
    found = replace(pod("a", mark=NOW - 5), deletion_cost="-1000", drain=Mark(NOW - 5, "7"))
    plan = planned([found, *fleet()[1:]], paused="in")
    assert [(p.cost, p.cost_before) for p in plan.drain.release] == [("-1000", "7")]


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.booleans(), st.none() | st.floats(0, 900), st.sampled_from([0.0, 2.0]), st.floats(0, NOW)
        ),
        min_size=2,
        max_size=9,
    ),
    st.integers(2, 9),
    st.integers(1, 4),
)
def test_never_all_never_more_than_the_step_never_the_new(pods, minimum, steps):
    instances = [
        pod(f"i{n}", ready=ready, terminating=going and not ready, mark=mark, inside=inside, ready_at=ready_at)
        for n, (ready, going, mark, inside, ready_at) in enumerate(pods)
    ]
    plan = planned(instances, policy=rules({}, steps=steps), minimum=minimum, runs=len(instances))
    chosen = {p.name for p in plan.drain.mark} if plan.drain else set()
    by_pod = {i.pod: i for i in instances}
    assert len(chosen) <= steps
    assert all(by_pod[name].ready and NOW - by_pod[name].ready_at >= 100.0 for name in chosen)
    serving = [i for i in instances if i.ready and not i.terminating and i.drain is None]
    assert not chosen or len(serving) > len(chosen)
    if plan.hpa and plan.hpa.before:
        assert minimum - plan.hpa.after.min_replicas <= steps


@given(st.floats(0, 4e9), st.none() | st.text(max_size=9))
def test_the_mark_reads_back(since, cost):
    assert parse(text_of(Mark(since, cost))) == Mark(round(since, 3), cost)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "3", '{"since": "soon"}', '{"since": NaN}', "nonsense"])
def test_what_is_no_mark(text):
    assert parse(text) is None
