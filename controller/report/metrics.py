"""Every metric that Trimtab exports, in one table. Base units; label sets that vanish are removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from controller.model.outcome import Outcome, Result
from controller.model.plan import Plan
from controller.model.snapshot import HpaView, Known, ServiceSnapshot
from trimtab import __version__

TICK_RESULTS = ("ok", "held", "failed")
ACTUATORS = ("publish", "output", "hpa", "limit")
FRESHNESS = ("fresh", "stale", "absent", "invalid")
SYSTEMS = ("Prometheus", "Redis", "Kubernetes")


class Metrics:
    """The registry of one process, and what may be recorded in it."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        Gauge("trimtab_build_info", "Always 1; the version is a label.", ["version"], registry=registry).labels(
            __version__
        ).set(1)
        self.leader = Gauge("trimtab_leader", "1 while this replica may act.", registry=registry)
        self.ticks = Counter("trimtab_ticks", "Ticks by how they ended.", ["result"], registry=registry)
        self.missed = Counter("trimtab_ticks_missed", "Ticks that did not start in time.", registry=registry)
        self.turns_missed = Counter(
            "trimtab_limiter_turns_missed",
            "Turns of the limit's inner loop that did not start in time.",
            registry=registry,
        )
        self.duration = Histogram(
            "trimtab_tick_duration_seconds",
            "Time for one tick.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.last_tick = Gauge("trimtab_last_tick_timestamp_seconds", "When the last tick ended.", registry=registry)
        self.policies = Gauge("trimtab_policies", "Policies in force.", registry=registry)
        self.policy_load_success = Gauge(
            "trimtab_policy_load_success",
            "1 while the files in the folder are the policies in force.",
            registry=registry,
        )
        self.up = Gauge("trimtab_dependency_up", "1 while the last call succeeded.", ["system"], registry=registry)
        self.actions = Counter(
            "trimtab_actions", "Effects by actuator and how they ended.", ["actuator", "result"], registry=registry
        )
        self.changes = Counter("trimtab_changes", "Numbers changed.", ["policy", "kind"], registry=registry)
        self.samples = Gauge("trimtab_samples", "Samples of the last tick.", ["policy", "freshness"], registry=registry)
        self.weight = Gauge("trimtab_endpoint_weight_ratio", "Weight.", ["policy", "instance"], registry=registry)
        self.stability = Gauge(
            "trimtab_routing_stability",
            "The routing loop: delay_seconds, elasticity, gain, margin (below 1 is stable), swing, herding.",
            ["policy", "of"],
            registry=registry,
        )
        self.limit = Gauge("trimtab_limit_requests", "Concurrency limit.", ["policy"], registry=registry)
        self.overloaded = Gauge(
            "trimtab_overloaded",
            "1 while demand lasts and every actuator is at its end.",
            ["policy"],
            registry=registry,
        )
        self.hpa = Gauge("trimtab_hpa_replicas", "The HPA's bounds and replicas.", ["policy", "of"], registry=registry)
        self.held = Gauge("trimtab_held", "1 while an actuator is held.", ["policy", "actuator"], registry=registry)
        self._labels: dict[Gauge, set[tuple[str, ...]]] = {}
        for result in TICK_RESULTS:
            self.ticks.labels(result)
        for actuator in ACTUATORS:
            for outcome in Result:
                self.actions.labels(actuator, outcome.value)
        for system in SYSTEMS:
            self.up.labels(system).set(0)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    def dependencies(self, asked: Iterable[str], down: Iterable[str]) -> None:
        """Which of the systems that were asked answered."""
        failed = set(down)
        for system in asked:
            self.up.labels(system).set(0 if system in failed else 1)

    def decided(self, services: Mapping[str, ServiceSnapshot], plans: Sequence[Plan]) -> None:
        """Record what a tick saw and planned; label sets of vanished policies and instances go."""
        self._replace(self.samples, _samples(services, plans))
        self._replace(self.weight, _weights(plans))
        self._replace(self.stability, _stability(plans))
        self._replace(
            self.limit, {(p.policy,): p.publish.limit for p in plans if p.publish and p.publish.limit is not None}
        )
        self._replace(self.overloaded, {(p.policy,): 0 if p.overload is None else 1 for p in plans})
        self._replace(self.hpa, _replicas(services, plans))
        self._replace(self.held, {(plan.policy, _kind(hold.field)): 1 for plan in plans for hold in plan.holds})
        for plan in plans:
            for change in plan.changes:
                self.changes.labels(plan.policy, _kind(change.field)).inc()

    def acted(self, outcomes: Iterable[Outcome]) -> None:
        """Record what came of the effects."""
        for outcome in outcomes:
            self.actions.labels(outcome.actuator, outcome.result.value).inc()

    def _replace(self, gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
        for labels in self._labels.get(gauge, set()) - set(values):
            gauge.remove(*labels)
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
        self._labels[gauge] = set(values)


Values = dict[tuple[str, ...], float]


def _samples(services: Mapping[str, ServiceSnapshot], plans: Sequence[Plan]) -> Values:
    counts: Values = {(plan.policy, kind): 0 for plan in plans for kind in FRESHNESS}
    for plan in plans:
        for instance in services[plan.policy].instances:
            for sample in instance.signals.values():
                counts[plan.policy, type(sample).__name__.lower()] += 1
    return counts


def _weights(plans: Sequence[Plan]) -> Values:
    return {
        (plan.policy, row.instance): row.weight
        for plan in plans
        if plan.publish is not None
        for row in plan.publish.endpoints or ()
    }


def _stability(plans: Sequence[Plan]) -> Values:
    return {
        (plan.policy, name): value
        for plan in plans
        if (found := plan.stability) is not None
        for name, value in (
            ("delay_seconds", found.delay_seconds),
            ("elasticity", found.elasticity),
            ("gain", found.gain),
            ("margin", found.margin),
            ("swing", found.swing),
            ("herding", found.herding),
        )
        if value is not None
    }


def _replicas(services: Mapping[str, ServiceSnapshot], plans: Sequence[Plan]) -> Values:
    replicas: Values = {}
    for plan in plans:
        match services[plan.policy].hpa:
            case Known(value=HpaView(spec=spec, current_replicas=current)):
                replicas[plan.policy, "min"] = spec.min_replicas
                replicas[plan.policy, "max"] = spec.max_replicas
                if current is not None:
                    replicas[plan.policy, "current"] = current
    return replicas


def _kind(field: str) -> str:
    """The first word of a change's field: without it, instance names would become label values."""
    return field.partition(" ")[0]
