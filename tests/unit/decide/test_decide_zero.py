"""`min.floor: 0`: only where something can wake the workload again."""

import pytest
from decide_world import hold, hpa, instance, queue, scale, snapshot, whole_policy

from controller.decide.decide import decide
from controller.model.memory import Memory
from controller.model.snapshot import Known

QUEUE = {
    "type": "External",
    "external": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "5"}},
}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}


def rules(floor=0):
    bound = {"floor": floor, "ceiling": 6}
    section = {"hpa": "h", "target": {"name": "m"}, "min": bound, "max": {"floor": 10, "ceiling": 20}}
    return whole_policy(scaling=section)


def planned(minimum, *metrics, runs=2, **fields):
    memory = Memory(calm_since=-1e6, hpa_seen_at=-1e6, hpa_min=minimum, hpa_max=10, at=0.0)
    instances = tuple(instance(f"i{n}", rate=0.01, cpu=0.0) for n in range(runs))
    view = hpa(minimum, metrics=metrics, current_replicas=runs, desired_replicas=runs)
    return decide(rules(), snapshot(instances, hpa=view, scale=scale(runs), **fields), memory)[0]


@pytest.mark.parametrize(
    ("metrics", "after"),
    [
        pytest.param((CPU, QUEUE), 0, id="an External metric wakes it"),
        pytest.param((CPU, {"type": "Object"}), 0, id="an Object metric does too"),
        pytest.param((CPU,), 1, id="CPU alone cannot"),
    ],
)
def test_how_far_it_goes_down(metrics, after):
    plan = planned(2, *metrics)
    assert plan.hpa.after.min_replicas == after
    assert (hold(plan, "minReplicas") is None) is (after == 0)


def test_a_created_one_begins_at_one():
    plan, _ = decide(rules(), snapshot((instance("a"),), hpa=Known(None), scale=scale(1)), Memory())
    assert plan.hpa.after.min_replicas == 1


@pytest.mark.parametrize(
    ("minimum", "said"),
    [(0, "the HPA's own metric wakes it"), (1, "switched off by its owner (0 replicas)")],
    ids=["its minimum allows it", "somebody switched it off"],
)
def test_at_zero_nothing_is_raised_or_the_hpa_would_be_off_for_good(minimum, said):
    plan = planned(minimum, CPU, QUEUE, runs=0, queue=queue(depth=50))
    assert plan.hpa is None
    assert said in hold(plan, "hpa").reason
