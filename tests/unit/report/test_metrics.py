from dataclasses import replace

from controller.model.plan import Change, EndpointState, ForecastView, Hold, Plan, Publish, RankedEndpoint
from controller.model.sample import Fresh, Signal
from controller.model.snapshot import HpaSpec, HpaView, Instance, Known, Published, ServiceSnapshot
from controller.report.metrics import MOST_ENDPOINTS, Metrics


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
    assert 'trimtab_held{actuator="limit",policy="models/a"} 0.0' in metrics.render().decode()


def test_a_forecast_is_exported_with_how_good_it_has_been_and_goes_when_it_abstains():
    metrics = Metrics()
    told = ForecastView(312.0, "hour", 0.12, 0.91, "words")
    metrics.decided(service_of("a"), [replace(plan_of("a"), forecast=told)])
    text = metrics.render().decode()
    for of, value in (("rate", 312.0), ("skill", 0.12), ("coverage", 0.91)):
        assert f'trimtab_forecast{{of="{of}",policy="models/a"}} {value}' in text
    abstains = ForecastView(None, "hour", -0.2, 0.5, "abstains")
    metrics.decided(service_of("a"), [replace(plan_of("a"), forecast=abstains)])
    text = metrics.render().decode()
    assert 'trimtab_forecast{of="rate"' not in text
    assert 'trimtab_forecast{of="skill",policy="models/a"} -0.2' in text


def test_a_policy_that_is_not_due_keeps_its_series_and_one_that_is_gone_loses_them():
    metrics = Metrics()
    metrics.decided(service_of("a"), [plan_of("a")])
    other = Plan("models/b", 2.0, plan_of("x").publish, changes=(Change("limit", 1, 2, "why"),))
    metrics.decided({"models/b": ServiceSnapshot("models/b", 2.0, ())}, [other])
    text = metrics.render().decode()
    assert 'trimtab_endpoint_weight_ratio{instance="a",policy="models/a"} 1.0' in text
    assert 'trimtab_changes_total{kind="limit",policy="models/b"} 1.0' in text
    metrics.keep(["models/b"])
    text = metrics.render().decode()
    assert "models/a" not in text
    assert 'trimtab_endpoint_weight_ratio{instance="x",policy="models/b"} 1.0' in text


def test_a_large_fleet_has_the_series_of_its_heaviest_endpoints_and_counts_all():
    names = [f"i{number:04}" for number in range(MOST_ENDPOINTS + 50)]
    metrics = Metrics()
    metrics.decided(service_of(), [plan_of(*names)])
    text = metrics.render().decode()
    assert text.count("trimtab_endpoint_weight_ratio{") == MOST_ENDPOINTS
    assert f'trimtab_endpoints{{policy="models/a",state="serving"}} {len(names)}.0' in text


def test_the_ranking_in_redis_says_when_it_expires_whoever_wrote_it():
    metrics = Metrics()
    said = Known(Published(1, 1, 10, {"a": 1.0}, published_at=1000.0))
    metrics.decided({"models/a": ServiceSnapshot("models/a", 1.0, (), published=said)}, [plan_of("a")])
    assert 'trimtab_ranking_expires_timestamp_seconds{policy="models/a"} 1060.0' in metrics.render().decode()


def test_a_system_that_nobody_asks_is_neither_up_nor_down():
    metrics = Metrics()
    assert 'trimtab_dependency_up{system="Redis"} 0.0' in metrics.render().decode()
    metrics.dependencies(["Prometheus", "Redis"], ["Redis"], 5.0)
    text = metrics.render().decode()
    assert 'system="Kubernetes"' not in text
    assert 'trimtab_dependency_up{system="Prometheus"} 1.0' in text
    assert 'trimtab_dependency_last_success_timestamp_seconds{system="Prometheus"} 5.0' in text
    assert 'trimtab_dependency_last_success_timestamp_seconds{system="Redis"}' not in text
    metrics.dependencies(["Kubernetes"], [], 6.0)
    assert 'trimtab_dependency_up{system="Kubernetes"} 1.0' in metrics.render().decode()
    metrics.keep(["models/a"])
    assert 'trimtab_dependency_up{system="Kubernetes"}' not in metrics.render().decode()
