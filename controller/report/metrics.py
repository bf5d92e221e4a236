"""Every metric that Trimtab exports, in one table. Base units; label sets that vanish are removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from controller.model.outcome import Outcome, Result
from controller.model.plan import EndpointState, Plan
from controller.model.snapshot import SYSTEMS, HpaView, Known, Published, ServiceSnapshot
from trimtab import __version__

TICK_RESULTS = ("ok", "held", "failed")
ACTUATORS = ("publish", "output", "hpa", "limit")
FRESHNESS = ("fresh", "stale", "absent", "invalid")
HELD = ("limit", "weights", "shedding", "stability", "minReplicas", "maxReplicas", "hpa")
CHANGED = ("weight", "limit", "minReplicas", "maxReplicas")
"""Made at 0 for each policy, so that an alert sees the first hold or change as a rise. Others come as they occur."""
KUBERNETES = "Kubernetes"
MOST_ENDPOINTS = 200
"""Of each policy, the heaviest: a larger fleet's weights are in Redis, and in the journal."""


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
        self.forecast = Gauge(
            "trimtab_forecast",
            "The forecast of the request rate: rate (requests/s, absent while it abstains), skill, coverage.",
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
        self.answered = Gauge(
            "trimtab_dependency_last_success_timestamp_seconds",
            "When a system last answered.",
            ["system"],
            registry=registry,
        )
        self.expires = Gauge(
            "trimtab_ranking_expires_timestamp_seconds",
            "When the ranking that Redis holds stops counting, if nobody publishes anew.",
            ["policy"],
            registry=registry,
        )
        self.panic = Gauge(
            "trimtab_panic",
            "1 while more than half of the instances fail and all weights are equal.",
            ["policy"],
            registry=registry,
        )
        self.endpoints = Gauge(
            "trimtab_endpoints", "Endpoints of the ranking by state.", ["policy", "state"], registry=registry
        )
        self.journal = Counter("trimtab_journal_records", "Decision records.", ["result"], registry=registry)
        for result in ("kept", "lost"):
            self.journal.labels(result)
        self._labels: dict[Gauge, set[tuple[str, ...]]] = {}
        self._counted: set[tuple[str, str]] = set()
        for result in TICK_RESULTS:
            self.ticks.labels(result)
        for actuator in ACTUATORS:
            for outcome in Result:
                self.actions.labels(actuator, outcome.value)
        for system in SYSTEMS:
            if system != KUBERNETES:  # not every policy needs it: its series comes with the first call
                self.up.labels(system).set(0)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    def dependencies(self, asked: Iterable[str], down: Iterable[str], at: float) -> None:
        """Which of the systems that were asked answered, at `at`."""
        failed = set(down)
        for system in asked:
            self.up.labels(system).set(0 if system in failed else 1)
            if system not in failed:
                self.answered.labels(system).set(at)

    def keep(self, policies: Iterable[str]) -> None:
        """Drop the series of policies that are gone, and of a system that perhaps nobody asks any more."""
        kept = set(policies)
        with contextlib.suppress(KeyError):
            self.up.remove(KUBERNETES)
        for gauge, known in self._labels.items():
            for labels in [labels for labels in known if labels[0] not in kept]:
                gauge.remove(*labels)
                known.remove(labels)
        for counted in [counted for counted in self._counted if counted[0] not in kept]:
            self.changes.remove(*counted)
            self._counted.remove(counted)

    def decided(self, services: Mapping[str, ServiceSnapshot], plans: Sequence[Plan]) -> None:
        """Record what a tick saw and planned for the policies that were due; label sets of vanished instances go."""
        due = {plan.policy for plan in plans}
        limits: Values = {(p.policy,): p.publish.limit for p in plans if p.publish and p.publish.limit is not None}
        overloads: Values = {(p.policy,): int(p.overload is not None) for p in plans}
        panics: Values = {(p.policy,): int(p.publish.panic) for p in plans if p.publish and p.publish.endpoints}
        for gauge, values in (
            (self.samples, _samples(services, plans)),
            (self.weight, _weights(plans)),
            (self.endpoints, _states(plans)),
            (self.panic, panics),
            (self.stability, _stability(plans)),
            (self.forecast, _forecast(plans)),
            (self.limit, limits),
            (self.overloaded, overloads),
            (self.hpa, _replicas(services, plans)),
            (self.held, _held(plans)),
            (self.expires, _expiries(services, plans)),
        ):
            self._replace(gauge, values, due)
        for plan in plans:
            for kind in CHANGED:
                self._changed(plan.policy, kind, 0)
            for change in plan.changes:
                self._changed(plan.policy, _kind(change.field), 1)

    def _changed(self, policy: str, kind: str, count: int) -> None:
        self._counted.add((policy, kind))
        self.changes.labels(policy, kind).inc(count)

    def acted(self, outcomes: Iterable[Outcome]) -> None:
        """Record what came of the effects."""
        for outcome in outcomes:
            self.actions.labels(outcome.actuator, outcome.result.value).inc()

    def _replace(self, gauge: Gauge, values: Mapping[tuple[str, ...], float], policies: set[str]) -> None:
        """Set these values and drop the others of these policies; what other policies' last ticks said stays."""
        known = self._labels.setdefault(gauge, set())
        for labels in [labels for labels in known if labels[0] in policies and labels not in values]:
            gauge.remove(*labels)
            known.remove(labels)
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
        known.update(values)


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
        for row in (plan.publish.endpoints or ())[:MOST_ENDPOINTS]
    }


def _states(plans: Sequence[Plan]) -> Values:
    ranked = [(plan.policy, plan.publish.endpoints) for plan in plans if plan.publish and plan.publish.endpoints]
    counts: Values = {(policy, state.value): 0 for policy, _ in ranked for state in EndpointState}
    for policy, rows in ranked:
        for row in rows:
            counts[policy, row.state.value] += 1
    return counts


def _held(plans: Sequence[Plan]) -> Values:
    holds: Values = {(plan.policy, kind): 0 for plan in plans for kind in HELD}
    return holds | {(plan.policy, _kind(hold.field)): 1 for plan in plans for hold in plan.holds}


def _expiries(services: Mapping[str, ServiceSnapshot], plans: Sequence[Plan]) -> Values:
    """From what Redis holds, whoever wrote it: so a standby watches the leader too."""
    expiries: Values = {}
    for plan in plans:
        match services[plan.policy].published:
            case Known(value=Published(published_at=at)) if at > 0.0 and plan.publish is not None:
                expiries[plan.policy,] = at + plan.publish.valid_for_seconds
    return expiries


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


def _forecast(plans: Sequence[Plan]) -> Values:
    return {
        (plan.policy, name): value
        for plan in plans
        if (found := plan.forecast) is not None
        for name, value in (("rate", found.rate), ("skill", found.skill), ("coverage", found.coverage))
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
