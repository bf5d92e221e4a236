import pytest

from controller.replay.replicas import (
    AverageValue,
    Failed,
    Pod,
    PodMetric,
    PodsAverage,
    Replicas,
    Tolerance,
    Utilization,
    Value,
    combine,
    propose,
)

NOW = 10_000.0
CPU70 = Utilization(70)
PENDING = {"phase": "Pending", "ready": None, "started_at": None}
WARM = {"started_at": NOW - 60, "ready": False, "ready_changed_at": NOW - 60}
NONE = None


def fleet(*rows):
    """Pods and their numbers from (milli, fields) rows; milli None is a pod without numbers."""
    pods = [Pod(f"p{i}", **(row[1] if len(row) > 1 else {})) for i, row in enumerate(rows)]
    read = {f"p{i}": PodMetric(row[0]) for i, row in enumerate(rows) if row[0] is not None}
    return pods, read


def ask(metric, rows, current=None, **fields):
    pods, read = fleet(*rows)
    count = len(pods) if current is None else current
    return propose(metric, read, pods, Replicas(count, count), at=NOW, **fields)


@pytest.mark.parametrize(
    ("metric", "rows", "current", "expected"),
    [
        pytest.param(CPU70, [(700,)] * 4, 4, 4, id="at target"),
        pytest.param(CPU70, [(770,)] * 4, 4, 4, id="10 % above is within tolerance"),
        pytest.param(CPU70, [(780,)] * 4, 4, 5, id="11 % above is not"),
        pytest.param(CPU70, [(630,)] * 10, 10, 10, id="10 % below is within tolerance"),
        pytest.param(CPU70, [(620,)] * 10, 10, 9, id="11 % below is not"),
        pytest.param(CPU70, [(779,)] * 4, 4, 4, id="77.9 % is cut to 77 %"),
        pytest.param(CPU70, [(2000,), (0,)], 2, 3, id="an average, not the worst"),
        pytest.param(
            CPU70, [(900, {"request_milli": 1000}), (900, {"request_milli": 3000})], 2, 2, id="requests are added up"
        ),
        pytest.param(CPU70, [(0,)] * 3, 3, 0, id="idle asks for none"),
        pytest.param(CPU70, [(1400,)] * 3, 5, 6, id="counts pods that are there, not those asked for"),
        pytest.param(CPU70, [(1400,)] * 2 + [(NONE,)] * 2, 4, 4, id="missing use nothing on the way up: back to target"),
        pytest.param(CPU70, [(2100,)] * 2 + [(NONE,)] * 2, 4, 6, id="missing use nothing on the way up"),
        pytest.param(CPU70, [(70,)] * 3 + [(NONE,)], 4, 2, id="missing use their request on the way down"),
        pytest.param(Utilization(150), [(150,)] * 3 + [(NONE,)], 4, 2, id="missing use the target above 100 %"),
        pytest.param(CPU70, [(600,)] + [(NONE,)] * 3, 4, 4, id="missing turn the direction: hold"),
        pytest.param(CPU70, [(700,), (NONE,)], 2, 2, id="missing at exactly the target: nothing is assumed"),
        pytest.param(CPU70, [(1400,)] * 2 + [(0, PENDING)] * 2, 4, 4, id="pending use nothing on the way up"),
        pytest.param(CPU70, [(70,)] * 2 + [(0, PENDING)] * 2, 4, 1, id="pending do not count on the way down"),
        pytest.param(CPU70, [(1400,)] * 2 + [(1400, WARM)] * 2, 4, 4, id="warming are not believed"),
        pytest.param(CPU70, [(2800,)] * 2 + [(1400, WARM)] * 2, 4, 8, id="warming use nothing on the way up"),
        pytest.param(CPU70, [(1400,)] * 2 + [(1400, PENDING)], 2, 4, id="more pods than asked for"),
        pytest.param(CPU70, [(800,)] * 2 + [(NONE,)], 9, 9, id="fewer pods than asked for never lower on the way up"),
        pytest.param(CPU70, [(800,), (800, {"terminating": True})], 1, 2, id="terminating pods are nowhere"),
        pytest.param(CPU70, [(800,), (800, {"phase": "Failed"})], 1, 2, id="failed pods are nowhere"),
        pytest.param(PodsAverage(10_000), [(12_000,)] * 4, 4, 5, id="pods: above"),
        pytest.param(PodsAverage(10_000), [(10_999,)] * 4, 4, 4, id="pods: within tolerance"),
        pytest.param(PodsAverage(10), [(11,), (12,)], 2, 2, id="pods: the average is cut too"),
        pytest.param(PodsAverage(10_000), [(1_000,)] * 3 + [(NONE,)], 4, 2, id="pods: missing at target on the way down"),
        pytest.param(PodsAverage(10_000), [(20_000,), (20_000, WARM)], 2, 4, id="pods: warming ones count"),
        pytest.param(PodsAverage(10_000, "cpu"), [(20_000,), (20_000, WARM)], 2, 2, id="averageValue of cpu: they do not"),
    ],
)  # fmt: skip
def test_replicas_from_a_metric_of_each_pod(metric, rows, current, expected):
    assert ask(metric, rows, current) == expected


@pytest.mark.parametrize(
    ("fields", "metric_at", "counts"),
    [
        pytest.param(
            {"started_at": NOW - 299, "ready_changed_at": NOW - 100}, NOW, True, id="ready and measured since"
        ),
        pytest.param(
            {"started_at": NOW - 299, "ready_changed_at": NOW - 20}, NOW, False, id="the window reaches back to before"
        ),
        pytest.param({"started_at": NOW - 301, "ready_changed_at": NOW - 20}, NOW, True, id="old enough"),
        pytest.param(
            {"started_at": NOW - 301, "ready": False, "ready_changed_at": NOW - 20}, NOW, True, id="fell out of ready"
        ),
        pytest.param(
            {"started_at": NOW - 301, "ready": False, "ready_changed_at": NOW - 300}, NOW, False, id="was never ready"
        ),
        pytest.param({"started_at": None}, NOW, False, id="not started"),
        pytest.param({"ready": None}, NOW, False, id="no condition yet"),
    ],
)
def test_which_cpu_numbers_count(fields, metric_at, counts):
    pods = [Pod("a"), Pod("b", **fields)]
    read = {"a": PodMetric(2100), "b": PodMetric(2100, metric_at, 30.0)}
    assert propose(CPU70, read, pods, Replicas(2, 2), at=NOW) == (6 if counts else 3)


@pytest.mark.parametrize(
    ("metric", "value", "replicas", "expected"),
    [
        pytest.param(Value(100_000), 150_000, (4, 4), 6, id="value: per ready pod"),
        pytest.param(Value(100_000), 109_000, (4, 4), 4, id="value: within tolerance"),
        pytest.param(Value(100_000), 250_000, (0, 0), 3, id="value: from zero, no pods counted"),
        pytest.param(AverageValue(10_000), 81_000, (4, 4), 9, id="average: whole over target"),
        pytest.param(AverageValue(10_000), 43_000, (4, 4), 4, id="average: within tolerance"),
        pytest.param(AverageValue(10_000), 43_000, (4, 9), 5, id="average: of what exists"),
        pytest.param(AverageValue(10_000), 0, (4, 4), 0, id="average: none"),
        pytest.param(AverageValue(10_000), 15_000, (0, 0), 2, id="average: shared by nobody"),
    ],
)
def test_replicas_from_one_value(metric, value, replicas, expected):
    pods = [Pod(f"p{i}") for i in range(replicas[0])]
    assert propose(metric, value, pods, Replicas(*replicas), at=NOW) == expected


def test_only_ready_pods_carry_a_value():
    pods = [Pod("a"), Pod("b", ready=False), Pod("c", phase="Pending", ready=None)]
    assert propose(Value(100), 300, pods, Replicas(3, 3), at=NOW) == 3


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param([], "no pods", id="no pods"),
        pytest.param([(NONE,)], "no metrics for targeted pods", id="no numbers"),
        pytest.param([(900, PENDING)], "no metrics for targeted pods", id="none ready"),
    ],
)
def test_what_cannot_be_said_fails(rows, says):
    found = ask(CPU70, rows, 2)
    assert isinstance(found, Failed)
    assert says in found.reason


@pytest.mark.parametrize(
    ("tolerance", "expected"),
    [
        pytest.param(Tolerance(0.1, 0.3), 4, id="wide upwards"),
        pytest.param(Tolerance(0.3, 0.1), 5, id="wide downwards"),
        pytest.param(Tolerance(0.0, 0.0), 5, id="none"),
    ],
)
def test_tolerance_per_direction(tolerance, expected):
    assert ask(CPU70, [(840,)] * 4, tolerance=tolerance) == expected


@pytest.mark.parametrize(
    ("proposals", "expected"),
    [
        pytest.param([3, 5], 5, id="the largest"),
        pytest.param([Failed("x"), 5], 5, id="a failure forbids nothing upwards"),
        pytest.param([Failed("x"), 4], 4, id="nor staying"),
        pytest.param([Failed("x"), 3], "1 of 2 metrics: x", id="but it forbids fewer"),
        pytest.param([Failed("x"), Failed("y")], "2 of 2 metrics: x", id="all failed"),
        pytest.param([0, 0], 0, id="none"),
    ],
)
def test_several_metrics(proposals, expected):
    found = combine(proposals, 4)
    assert (found.reason if isinstance(found, Failed) else found) == expected
