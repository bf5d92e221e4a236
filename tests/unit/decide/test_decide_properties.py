"""What must hold for every policy and every snapshot, however odd."""

import itertools
from dataclasses import replace
from math import fsum, isfinite

import pytest
from decide_world import hpa, instance, policy, published, scale, snapshot, weights
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.model.memory import InstanceMemory, Memory
from controller.model.sample import Absent, Fresh, Invalid, Signal, Stale
from controller.model.snapshot import (
    HpaSpec,
    HpaView,
    Instance,
    Known,
    NotAsked,
    Published,
    QueueView,
    ResourceTarget,
    ScaleView,
    ServiceSnapshot,
    Unknown,
)

NAMES = "abcdefg"
NOW = 1000.0
finite = st.floats(0.0, 1e9) | st.sampled_from([0.0, 1e-300, 1e300, 0.5, 2.0])
usual = st.floats(0.01, 2.0)
ages = st.floats(0.0, 600.0)
samples = (
    st.builds(Fresh, finite | usual, ages)
    | st.builds(Stale, finite, ages)
    | st.builds(Absent, st.just("none"))
    | st.builds(Invalid, st.just("NaN"))
)
counts = st.integers(0, 30)
optional_time = st.none() | st.floats(0.0, NOW)


@st.composite
def policies(draw):
    low, high = sorted((draw(st.integers(1, 20)), draw(st.integers(1, 300))))
    floors, ceilings = sorted(draw(st.tuples(counts, counts))), sorted(draw(st.tuples(counts, counts)))
    bounds = [{"floor": f + 1, "ceiling": f + c + 1} for f, c in zip(floors, ceilings, strict=True)]
    sections = {
        "routing": {
            "floor": draw(st.floats(0.0, 1.0)),
            "maxChange": draw(st.floats(0.0, 1.0)),
            "recover": draw(st.floats(0.0, 1.0)),
            "after": draw(st.sampled_from(["1s", "30s", "5m"])),
        },
        "concurrency": {"perInstance": draw(st.integers(1, 20)), "min": low, "max": high},
        "scaling": {
            "hpa": "h",
            "target": {"name": "m"},
            "min": bounds[0],
            "max": bounds[1],
            "steps": {"replicas": draw(st.integers(1, 5))},
        },
    }
    return policy(**sections)


@st.composite
def instances(draw, least=0):
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=least))
    return tuple(
        Instance(
            name,
            draw(st.just(f"http://{name}") | st.none()),
            draw(st.dictionaries(st.sampled_from(list(Signal)), samples)),
            ready=draw(st.sampled_from([True, True, True, False, None])),
            uid=draw(st.sampled_from(["1", "2", None])),
            terminating=draw(st.sampled_from([False, False, False, True])),
        )
        for name in names
    )


def readings(values):
    return st.builds(Known, values) | st.builds(Unknown, st.just("down")) | st.just(NotAsked())


@st.composite
def views(draw):
    low, high = sorted((draw(st.integers(1, 40)), draw(st.integers(1, 40))))
    targets = tuple(
        ResourceTarget(n, draw(st.integers(1, 99))) for n in draw(st.sampled_from([["cpu"], ["cpu", "memory"]]))
    )
    return HpaView(
        HpaSpec("Deployment", "m", low, high, targets),
        current_replicas=draw(st.none() | counts),
        desired_replicas=draw(st.none() | counts),
        adopted=draw(st.booleans()),
        paused=draw(st.sampled_from([None, None, "in", "out", "true"])),
        limited_by_max=draw(st.booleans()),
    )


@st.composite
def snapshots(draw):
    shares = st.dictionaries(st.sampled_from(NAMES), st.floats(0.0, 1.0))
    return ServiceSnapshot(
        "models/m",
        NOW,
        draw(instances()),
        metrics_problem=draw(st.sampled_from([None, None, None, "down"])),
        instances_complete=draw(st.sampled_from([True, True, True, False])),
        hpa=draw(readings(st.none() | views())),
        scale=draw(readings(st.none() | st.builds(ScaleView, counts, counts))),
        published=draw(
            readings(st.none() | st.builds(Published, counts, counts, st.none() | st.integers(0, 400), shares))
        ),
        queue=draw(readings(st.builds(QueueView, counts, counts))),
    )


@st.composite
def memories(draw):
    remembered = st.builds(
        InstanceMemory,
        uid=st.sampled_from(["1", "2", None]),
        capacity=st.none() | finite,
        capacity_at=optional_time,
        over_since=optional_time,
        shedding=st.booleans(),
        calm_since=optional_time,
        endpoint=st.none() | st.just("http://x"),
        routable=st.none() | st.booleans(),
        failing_since=optional_time,
    )
    return Memory(
        instances=draw(st.dictionaries(st.sampled_from(NAMES), remembered)),
        weights=draw(st.dictionaries(st.sampled_from(NAMES), st.floats(0.0, 1.0))),
        limit=draw(st.none() | st.integers(1, 400)),
        breach_since=draw(optional_time),
        min_changed_at=draw(optional_time),
        max_changed_at=draw(optional_time),
        ready_instances=draw(st.none() | counts),
        at=draw(optional_time),
        hpa_min=draw(st.none() | counts),
        hpa_max=draw(st.none() | counts),
        hpa_seen_at=draw(optional_time),
        pressure_since=draw(optional_time),
        calm_since=draw(optional_time),
    )


worlds = st.tuples(policies(), snapshots(), memories())
many = settings()  # as many examples as the profile says


def running(service):
    view, seen = service.hpa.value, service.scale.value
    counts = [seen.spec_replicas, seen.status_replicas]
    return max([*counts, view.current_replicas or 0, view.desired_replicas or 0] if view else counts)


@many
@given(worlds)
def test_weights_are_shares_and_the_same_input_gives_the_same_plan(world):
    plan, memory = decide(*world)
    assert (plan, memory) == decide(*world)
    assert plan.sentence()
    rows = plan.publish.endpoints
    if rows is None:
        return
    assert fsum(e.weight for e in rows) == pytest.approx(1.0, abs=1e-9)
    assert all(isfinite(e.weight) and e.weight >= 0.0 and e.why for e in rows)
    assert [e.rank for e in rows] == list(range(1, len(rows) + 1))
    ranked = [e.weight for e in rows]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(ranked))


@many
@given(worlds)
def test_the_floor_is_kept_unless_the_metrics_are_dark(world):
    rules, service, _ = world
    plan, _ = decide(*world)
    if plan.publish.endpoints is None or service.metrics_problem:
        return
    routable = [e for e in plan.publish.endpoints if e.weight > 0.0]
    least = max(rules.spec.routing.floor, 0.01) / len(routable)
    dark = {e.instance for e in routable if e.state == "stale"}
    assert all(e.weight >= least * (1 - 1e-9) for e in routable if e.instance not in dark)


@many
@given(worlds)
def test_the_limit_stays_in_range(world):
    rules = world[0].spec.concurrency
    limit = decide(*world)[0].publish.limit
    assert limit is None or rules.min <= limit <= rules.max


@many
@given(worlds)
def test_hpa_writes_are_ordered_in_range_and_in_steps(world):
    rules, service = world[0].spec.scaling, world[1]
    write = decide(*world)[0].hpa
    if write is None:
        return
    after, before, step = write.after, write.before, rules.steps.replicas
    assert 1 <= after.min_replicas <= after.max_replicas
    assert after.targets
    if before is None:
        assert after.max_replicas >= running(service)
        assert after.min_replicas <= running(service) + step
        return
    for old, new, bound in (
        (before.min_replicas, after.min_replicas, rules.min),
        (before.max_replicas, after.max_replicas, rules.max),
    ):
        assert abs(new - old) <= step
        assert min(old, bound.floor) <= new <= max(old, bound.ceiling)
    assert after.max_replicas >= min(before.max_replicas, running(service))
    assert after.min_replicas <= max(before.min_replicas, running(service) + step)
    assert before != after or not service.hpa.value.adopted
    paused = service.hpa.value.paused
    assert paused != "true"
    assert paused != "in" or (after.min_replicas >= before.min_replicas and after.max_replicas >= before.max_replicas)
    assert paused != "out" or (after.min_replicas <= before.min_replicas and after.max_replicas <= before.max_replicas)


@many
@given(worlds, st.sampled_from(["metrics", "instances", "queue", "stale"]))
def test_nothing_is_lowered_on_doubtful_data(world, fault):
    rules, service, memory = world
    match fault:
        case "metrics":
            service = replace(service, metrics_problem="down")
        case "instances":
            service = replace(service, instances_complete=False)
        case "queue":
            service = replace(service, queue=Unknown("down"))
        case "stale":
            dark = Instance("dark", "http://dark", {Signal.LATENCY: Stale(0.1, 99.0)}, ready=True, uid="1")
            service = replace(service, instances=(*service.instances, dark))
    # Pods that Kubernetes knows to be gone are lost capacity, not missing data.
    memory = replace(memory, ready_instances=None)
    plan, _ = decide(rules, service, memory)
    before = memory.limit
    if isinstance(service.published, Known) and service.published.value and service.published.value.limit is not None:
        before = service.published.value.limit
    if before is not None and plan.publish.limit is not None:
        assert plan.publish.limit >= min(before, rules.spec.concurrency.max)
    if plan.hpa is not None and plan.hpa.before is not None:
        assert plan.hpa.after.min_replicas >= plan.hpa.before.min_replicas
        assert plan.hpa.after.max_replicas >= plan.hpa.before.max_replicas


@many
@given(policies(), snapshots())
def test_a_fresh_memory_never_lowers_a_bound(rules, service):
    write = decide(rules, service, Memory())[0].hpa
    if write is not None and write.before is not None:
        assert write.after.min_replicas >= write.before.min_replicas
        assert write.after.max_replicas >= write.before.max_replicas


@many
@given(worlds, st.randoms(use_true_random=False))
def test_order_and_names_of_instances_do_not_matter(world, random):
    rules, service, memory = world
    shuffled = list(service.instances)
    random.shuffle(shuffled)
    assert decide(rules, replace(service, instances=tuple(shuffled)), memory)[0].publish == decide(*world)[0].publish


fleets = st.lists(st.tuples(usual, st.floats(0.05, 1.0), st.floats(0.0, 1.0)), min_size=2, max_size=7)
ROUTED = policy(routing={})


def fleet(rows, **fields):
    return [instance(n, rate=10 * r, cpu=c, errors=e, **fields) for n, (r, c, e) in zip(NAMES, rows, strict=False)]


@many
@given(fleets)
def test_renaming_permutes_the_weights(rows):
    forth = weights(decide(ROUTED, snapshot(fleet(rows)), Memory())[0])
    back = weights(decide(ROUTED, snapshot(fleet(rows[::-1])), Memory())[0])
    assert [forth[n] for n in NAMES[: len(rows)]] == pytest.approx([back[n] for n in NAMES[: len(rows)]][::-1])


@many
@given(fleets, st.floats(1e4, 1e7))
def test_the_scale_of_the_rates_does_not_matter_where_samples_are_plenty(rows, scale):
    many, more = ([(r * s, c, e) for r, c, e in rows] for s in (1e4, scale))
    one = weights(decide(ROUTED, snapshot(fleet(many)), Memory())[0])
    assert weights(decide(ROUTED, snapshot(fleet(more)), Memory())[0]) == pytest.approx(one, abs=0.005)


@many
@given(fleets, st.floats(1e-3, 1e3))
def test_the_scale_of_response_times_does_not_matter_below_the_threshold(rows, scale):
    one, other = (
        weights(decide(policy(routing={}, slo={"latency": "1000s"}), snapshot(fleet(rows, latency=t)), Memory())[0])
        for t in (0.1, 0.1 * scale)
    )
    assert one == other


@many
@given(fleets, st.floats(0.0, 1.0), st.booleans())
def test_more_errors_never_raise_a_weight(rows, worse, lasting):
    assume(worse >= rows[0][2])
    names = NAMES[: len(rows)]
    remembered = {n: InstanceMemory(uid=f"uid-{n}", failing_since=985.0 if lasting else None) for n in names}
    memory = Memory(instances=remembered, weights=dict.fromkeys(names, 1 / len(rows)))
    before = decide(ROUTED, snapshot(fleet(rows)), memory)[0]
    bad = [(rows[0][0], rows[0][1], worse), *rows[1:]]
    after = decide(ROUTED, snapshot(fleet(bad)), memory)[0]
    # In a panic all are equal, whatever they do.
    assume(not before.publish.panic and not after.publish.panic)
    assert weights(after)["a"] <= weights(before)["a"] + 1e-9


@many
@given(fleets)
def test_no_data_is_neither_best_nor_nothing(rows):
    new = instance("new", rate=Absent("x"), cpu=None, latency=None, errors=None)
    plan, _ = decide(policy(routing={"floor": 0}), snapshot([*fleet(rows), new]), Memory())
    shares = weights(plan)
    mine = shares.pop("new")
    assert 0.0 < mine <= max(shares.values()) + 1e-9


@many
@given(fleets, st.lists(st.floats(0.05, 1.0), min_size=7, max_size=7))
def test_a_weight_moves_by_a_bounded_share(rows, standing):
    names = NAMES[: len(rows)]
    whole = fsum(standing[: len(rows)])
    priors = {n: w / whole for n, w in zip(names, standing, strict=False)}
    plan, _ = decide(ROUTED, snapshot(fleet(rows), published=published(weights=priors)), Memory())
    floor = 0.1 / len(rows)
    for name, weight in weights(plan).items():
        assert priors[name] * 0.5 - 1e-9 <= weight <= max(priors[name] * 1.5, floor) + 1e-9


def test_a_steady_world_changes_nothing_for_a_hundred_ticks():
    rules = policy(routing={}, concurrency={}, scaling={"hpa": "h", "target": {"name": "m"}})
    memory, plans = Memory(), []
    for tick in range(120):
        seen = [instance(n, rate=10 + i, age=tick % 7) for i, n in enumerate("abcd")]
        last = plans[-1].publish if plans else None
        said = published(last.limit, {e.instance: e.weight for e in last.endpoints}) if last else Known(None)
        service = snapshot(seen, at=1000.0 + 15 * tick, hpa=hpa(2, 10), scale=scale(4), published=said)
        plan, memory = decide(rules, service, memory)
        plans.append(plan)
    assert [p.sentence() for p in plans[20:]] == ["no change"] * 100
    assert all(p.hpa is None for p in plans)
