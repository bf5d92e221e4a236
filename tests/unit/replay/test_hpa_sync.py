import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.model.behavior import Direction, RatePolicy, Select
from controller.replay.behavior import Behavior, History
from controller.replay.hpa import Controller, Hpa, Seen, at_once, sync
from controller.replay.replicas import AverageValue, Failed, Pod, PodMetric, Replicas, Timing, Utilization

SLOW = Direction((RatePolicy("Pods", 1, 60.0),), window_seconds=0.0)


def look(replicas, percent, failed=()):
    pods = tuple(Pod(f"p{i}") for i in range(replicas))
    reads = [{p.name: PodMetric(percent * 10) for p in pods} if percent is not None else Failed("down")]
    return Seen(Replicas(replicas, replicas), pods, (*reads, *failed))


def run(hpa, replicas, percents, *, every=15.0, controller=None):
    """The replicas after each sync, one percentage of CPU a sync."""
    history, counts = History(), []
    for tick, percent in enumerate(percents):
        done, history = sync(hpa, look(replicas, percent), history, at=1000.0 + every * tick, controller=controller)
        replicas = done.desired
        counts.append(replicas)
    return counts


def simple(least=2, most=10, behavior=None):
    return Hpa((Utilization(70),), least, most, behavior)


@pytest.mark.parametrize(
    ("behavior", "start", "percents", "expected"),
    [
        pytest.param(None, 2, [150] * 4, [4, 8, 10, 10], id="twice at most, then max"),
        pytest.param(None, 1, [700] * 3, [2, 4, 8], id="from below min, then four at least"),
        pytest.param(None, 10, [10] * 20, [10] * 20, id="down waits 300 s"),
        pytest.param(None, 10, [10] * 21 + [10], [10] * 21 + [2], id="then goes all the way"),
        pytest.param(None, 4, [35] * 10 + [70] + [35] * 21, [4] * 31 + [2], id="one quiet sync restarts the wait"),
        pytest.param(None, 6, [None] * 3, [6] * 3, id="no metric: hold"),
        pytest.param(None, 30, [None], [10], id="above max needs no metric"),
        pytest.param(None, 1, [None], [2], id="below min needs no metric"),
        pytest.param(None, 12, [70], [10], id="above max takes no window"),
        pytest.param(Behavior(), 2, [150] * 3, [5, 10, 10], id="the server's defaults: as asked up to double or +4"),
        pytest.param(Behavior(up=SLOW), 2, [150] * 6, [3, 3, 3, 3, 4, 4], id="one a minute"),
        pytest.param(
            Behavior(up=Direction((RatePolicy("Percent", 10, 60.0),), 0.0)), 3, [150] * 5, [4, 4, 4, 4, 5], id="10 % up"
        ),
        pytest.param(
            Behavior(down=Direction((RatePolicy("Percent", 10, 15.0),), 0.0)), 10, [0] * 4, [9, 8, 7, 6], id="10 % down"
        ),
        pytest.param(
            Behavior(down=Direction((RatePolicy("Pods", 1, 15.0), RatePolicy("Percent", 50, 15.0)), 0.0, Select.MIN)),
            8,
            [0] * 3,
            [7, 6, 5],
            id="the stricter of two",
        ),
        pytest.param(
            Behavior(down=Direction((RatePolicy("Pods", 1, 15.0),), 0.0, Select.DISABLED)),
            8,
            [0] * 3,
            [8] * 3,
            id="never down",
        ),
        pytest.param(
            Behavior(up=Direction((RatePolicy("Pods", 9, 15.0),), 30.0)), 2, [150] * 3, [2, 2, 5], id="up waits 30 s"
        ),
        pytest.param(Behavior(), 10, [10] * 21, [10] * 20 + [2], id="down waits with the controller's window"),
    ],
)
def test_a_run(behavior, start, percents, expected):
    # 1 replica is below min and is put right without a metric.
    assert run(simple(behavior=behavior), start, percents) == expected


@pytest.mark.parametrize(
    ("least", "most", "current", "percent", "expected"),
    [
        pytest.param(6, 10, 2, 10, 6, id="min raised above what runs: all at once"),
        pytest.param(2, 5, 20, 75, 5, id="max lowered below what runs: 15 pods die within one sync"),
        pytest.param(6, 10, 6, 10, 6, id="min at what runs: nothing"),
        pytest.param(2, 5, 5, 75, 5, id="max at what runs: nothing"),
    ],
)
def test_bounds_beyond_what_runs_act_at_once(least, most, current, percent, expected):
    hpa = simple(least, most, Behavior(up=SLOW, down=SLOW))
    done, _ = sync(hpa, look(current, percent), History(), at=0.0)
    assert done.desired == at_once(hpa, current) == expected
    assert done.bypassed == (expected != current)


def test_what_the_bounds_did_counts_towards_the_rate():
    slow = Behavior(up=Direction((RatePolicy("Pods", 4, 60.0),), 0.0))
    history = History()
    done, history = sync(simple(6, 20, slow), look(2, 150), history, at=0.0)
    assert done.desired == 6
    done, history = sync(simple(6, 20, slow), look(6, 150), history, at=15.0)
    assert (done.desired, done.limited) == (6, "ScaleUpLimit")
    done, _ = sync(simple(6, 20, slow), look(6, 150), history, at=75.0)
    assert done.desired == 10


@pytest.mark.parametrize(
    ("current", "percent", "expected"),
    [
        pytest.param(4, 70, ("ValidMetricFound", "ReadyForNewScale", "DesiredWithinRange", False), id="content"),
        pytest.param(10, 90, ("ValidMetricFound", "ReadyForNewScale", "TooManyReplicas", True), id="max is in the way"),
        pytest.param(2, 10, ("ValidMetricFound", "ScaleDownStabilized", "DesiredWithinRange", False), id="waits"),
        pytest.param(2, 700, ("ValidMetricFound", "SucceededRescale", "ScaleUpLimit", True), id="too fast"),
        pytest.param(0, 90, ("ScalingDisabled", "", "", False), id="switched off"),
        pytest.param(4, None, ("Failed", "", "", False), id="no metric"),
    ],
)
def test_conditions(current, percent, expected):
    done, _ = sync(simple(), look(current, percent), History(), at=0.0)
    assert (done.active, done.able, done.limited, done.is_limited) == expected


def test_a_failed_metric_allows_up_and_forbids_down():
    hpa = Hpa((Utilization(70), AverageValue(1000)), 2, 10)
    up, _ = sync(hpa, look(4, 140, [Failed("adapter")]), History(), at=0.0)
    down, _ = sync(hpa, look(4, 10, [Failed("adapter")]), History(), at=0.0)
    assert (up.desired, down.desired, down.error) == (8, 4, "1 of 2 metrics: adapter")


def test_a_fleet_put_to_sleep_by_the_hpa_wakes_and_one_switched_off_does_not():
    gate = Controller(scale_to_zero=True, timing=Timing(downscale_stabilization=0.0))
    hpa = Hpa((AverageValue(1000),), 0, 10)

    def seen(count, value):
        return Seen(Replicas(count, count), tuple(Pod(f"p{i}") for i in range(count)), (value,))

    _, history = sync(hpa, seen(1, 1000), History(), at=-15.0, controller=gate)
    done, history = sync(hpa, seen(1, 0), history, at=0.0, controller=gate)
    assert done.desired == 0
    done, _ = sync(hpa, seen(0, 3000), history, at=15.0, controller=gate)
    assert done.desired == 3
    done, _ = sync(hpa, seen(0, 3000), History(), at=15.0, controller=gate)
    assert done.active == "ScalingDisabled"
    done, _ = sync(hpa, seen(0, 3000), history, at=15.0)
    assert done.active == "ScalingDisabled"


sides = st.builds(
    Direction,
    st.lists(
        st.builds(RatePolicy, st.sampled_from(["Pods", "Percent"]), st.integers(1, 200), st.integers(1, 1800)),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.integers(0, 600),
    st.sampled_from(Select),
)


@given(
    st.tuples(st.integers(1, 20), st.integers(0, 30)),
    st.none() | st.builds(Behavior, sides, sides),
    st.integers(1, 40),
    st.lists(st.none() | st.integers(0, 500), min_size=1, max_size=30),
)
def test_after_one_sync_the_bounds_hold_whatever_comes(bounds, behavior, start, percents):
    hpa = simple(bounds[0], sum(bounds), behavior)
    for count in run(hpa, start, percents):
        assert hpa.min_replicas <= count <= hpa.max_replicas


@given(st.integers(1, 40), st.lists(st.integers(0, 500), min_size=1, max_size=30))
def test_less_load_never_asks_for_more(start, percents):
    hpa = simple(1, 40)
    lower = run(hpa, start, [p // 2 for p in percents[:1]])
    assert lower <= run(hpa, start, percents[:1])
