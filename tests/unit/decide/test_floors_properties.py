"""What must hold for every policy with floors, over whole runs against the model of the HPA."""

from dataclasses import replace

from decide_world import hpa, instance, policy, scale, snapshot
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.decide.floors.schedule import floor
from controller.decide.warmup import WarmUp
from controller.model.memory import Memory
from controller.model.sample import Signal, Stale
from controller.model.snapshot import Unknown
from controller.replay.behavior import History
from controller.replay.hpa import Hpa, Seen, sync
from controller.replay.replicas import Pod, PodMetric, Replicas, Utilization

START = 1_774_000_000.0  # 2026-03-20, nine days before Berlin's clocks go forward
times = st.integers(0, 24 * 4 - 1).map(lambda quarter: f"{quarter // 4:02}:{quarter % 4 * 15:02}")


@st.composite
def schedules(draw, ceiling):
    start, end = draw(st.tuples(times, times).filter(lambda pair: pair[0] != pair[1]))
    zone = draw(st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Shanghai", "UTC"]))
    return {"name": f"s{draw(st.integers(0, 10**9))}", "from": start, "to": end, "timezone": zone,
            "min": draw(st.integers(1, ceiling))}  # fmt: skip


@st.composite
def policies(draw):
    low, high = sorted((draw(st.integers(1, 10)), draw(st.integers(1, 15))))
    roof = high + draw(st.integers(0, 10))
    listed = draw(st.lists(schedules(high), max_size=3, unique_by=lambda s: s["name"]))
    return policy(
        scaling={
            "hpa": "h",
            "target": {"name": "m"},
            "min": {"floor": low, "ceiling": high},
            "max": {"floor": max(low, roof - draw(st.integers(0, 5))), "ceiling": roof},
            "memory": None,
            "steps": {"replicas": draw(st.integers(1, 4))},
            "schedules": listed,
            "warmUp": draw(st.sampled_from(["0s", "3m", "1h"])),
            "demand": draw(st.none() | st.fixed_dictionaries({"utilisation": st.floats(0.1, 1.0)})),
        }
    )


faults = st.sampled_from([None, None, None, "metrics", "queue", "stale"])
ticks = st.lists(st.tuples(st.floats(0.0, 60.0), faults), min_size=10, max_size=40)


def broken(service, fault):
    if fault == "metrics":
        return replace(service, metrics_problem="down")
    if fault == "queue":
        return replace(service, queue=Unknown("down"))
    if fault == "stale":
        dark = {s: Stale(0.1, 99.0) for s in Signal}
        return replace(service, instances=tuple(replace(i, signals=dark) for i in service.instances))
    return service


@given(policies(), st.integers(0, 96).map(lambda q: START + 900.0 * q), ticks, st.integers(1, 20))
def test_a_run_under_schedules_demand_and_faults(rules, at, loads, running):
    scaling, memory, history = rules.spec.scaling, Memory(), History()
    low, high = scaling.min.floor, scaling.max.floor
    for load, fault in loads:
        full = load / 5.0 / running
        seen = [instance(f"i{n}", rate=load / running, cpu=min(full, 1.0), latency=0.1 if full < 0.85 else 2.0) for n in range(running)]  # fmt: skip
        service = broken(snapshot(seen, at=at, hpa=hpa(low, high), scale=scale(running)), fault)
        plan, memory = decide(rules, service, memory)
        if plan.hpa is not None:
            after = plan.hpa.after
            assert after.min_replicas <= after.max_replicas
            assert scaling.min.floor <= after.min_replicas <= scaling.min.ceiling
            assert after.max_replicas <= scaling.max.ceiling
            assert abs(after.min_replicas - low) <= scaling.steps.replicas
            assert abs(after.max_replicas - high) <= scaling.steps.replicas
            assert after.max_replicas >= min(high, running), "a write never stops what runs"
            assert fault is None or (after.min_replicas >= low and after.max_replicas >= high)
            low, high = after.min_replicas, after.max_replicas
        pods = tuple(Pod(f"p{n}") for n in range(running))
        used = {p.name: PodMetric(round(1000 * min(full, 1.0))) for p in pods}
        spec = Hpa((Utilization(70),), low, high)
        done, history = sync(spec, Seen(Replicas(running, running), pods, (used,)), history, at=at)
        assert not done.bypassed or done.desired > running or running > scaling.max.floor
        running, at = done.desired, at + 15.0


@given(policies(), st.integers(0, 10 * 96).map(lambda q: START + 900.0 * q))
def test_the_floor_of_schedules_never_goes_down_on_the_way_to_a_window(rules, at):
    scaling = rules.spec.scaling
    only = [scaling.model_copy(update={"schedules": [s]}) for s in scaling.schedules]
    for one in only:
        found = [floor(one, at + 15.0 * n, 15.0, WarmUp(one.warmUp, fixed=True)) for n in range(60)]
        sizes = [0 if f is None else f.replicas for f in found]
        peak = sizes.index(max(sizes))
        rising = sizes[:peak]
        assert max(sizes) <= one.schedules[0].min
        if 0 not in sizes and sizes[0] < one.schedules[0].min:
            assert rising == sorted(rising)
