from controller.model.plan import EndpointState, Hold, Plan, Publish, RankedEndpoint
from controller.model.sample import Fresh, Signal
from controller.model.snapshot import HpaSpec, HpaView, Instance, Known, ServiceSnapshot
from controller.report.metrics import Metrics


def plan_of(*instances, limit=10, holds=()):
    rows = tuple(
        RankedEndpoint(f"http://{name}", name, rank, 1.0 / len(instances), EndpointState.SERVING)
        for rank, name in enumerate(instances, 1)
    )
    return Plan("models/a", 1.0, Publish(rows, limit, panic=False, valid_for_seconds=60.0), holds=holds)


def service_of(*instances):
    hpa = HpaView(HpaSpec("Deployment", "a", 2, 10, ()), current_replicas=4)
    seen = tuple(Instance(name, None, {Signal.RATE: Fresh(1.0, 1.0)}) for name in instances)
    return {"models/a": ServiceSnapshot("models/a", 1.0, seen, hpa=Known(hpa))}


def test_instances_that_are_gone_leave_no_series_behind():
    metrics = Metrics()
    metrics.decided(service_of("a", "b"), [plan_of("a", "b")])
    metrics.decided(service_of("b"), [plan_of("b")])
    text = metrics.render().decode()
    assert 'trimtab_endpoint_weight_ratio{instance="b",policy="models/a"} 1.0' in text
    assert 'instance="a"' not in text


def test_bounds_limit_samples_and_holds_are_exported():
    metrics = Metrics()
    metrics.decided(service_of("a"), [plan_of("a", holds=(Hold("limit", "metrics are stale"),))])
    text = metrics.render().decode()
    for line in (
        'trimtab_hpa_replicas{of="max",policy="models/a"} 10.0',
        'trimtab_hpa_replicas{of="current",policy="models/a"} 4.0',
        'trimtab_limit_requests{policy="models/a"} 10.0',
        'trimtab_samples{freshness="fresh",policy="models/a"} 1.0',
        'trimtab_samples{freshness="absent",policy="models/a"} 0.0',
        'trimtab_held{actuator="limit",policy="models/a"} 1.0',
    ):
        assert line in text
    metrics.decided(service_of("a"), [plan_of("a")])
    assert "trimtab_held{" not in metrics.render().decode()
