"""Answers handed back to the policies that share them, and each number judged. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from controller.model.sample import Absent, Invalid, Sample, Signal, Stale, sample_of
from controller.observe.prometheus import Answer, Series
from controller.observe.promql import LOOKBACK_SECONDS, UP_AGE, Age, Join, Question, Want, What, pod_selector
from controller.policy.schema import LoadPolicy

_IDLE_WITHOUT_REQUESTS = (Signal.LATENCY, Signal.LATENCY_QUANTILE, Signal.ERRORS)


@dataclass(slots=True)
class PolicyMetrics:
    """What Prometheus said of one policy, before it is judged.

    Args:
        values: by what was asked and instance name, every value that answered.
        pods: values of series that know pods only; they name no instances.
        labels: by instance name, labels for the endpoint's template.
        failed: why a query of this policy has no answer, by what was asked.
        missing: required metrics of the preset that have no series.
        age_unknown: no `up` series either: nothing tells how old the samples are.
        problem: why the answer is missing or partial; None when it is whole.
    """

    values: dict[What, dict[str, list[float]]] = field(default_factory=dict)
    pods: set[What] = field(default_factory=set)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    failed: dict[What, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    age_unknown: bool = False
    problem: str | None = None

    def names(self) -> set[str]:
        """The instances that Prometheus knows."""
        return {name for what, named in self.values.items() if what not in self.pods for name in named}

    def newest(self, name: str) -> float | None:
        """When the newest raw sample of an instance was taken, seconds since the epoch."""
        stamps = [stamp for stamp in self.values.get(Age.NEWEST, {}).get(name, ()) if math.isfinite(stamp)]
        return max(stamps, default=None)


def attribute(question: Question, answer: Answer, into: Mapping[str, PolicyMetrics]) -> None:
    """Hand each series to the policies whose labels it carries, by exact match."""
    for want in question.wants:
        metrics = into[want.policy.key]
        if question.join is Join.PODS:
            metrics.pods.add(want.what)
        named = metrics.values.setdefault(want.what, {})
        for series in _series_of(want, question, answer.series):
            name = series.labels[question.key]
            stamps = named.setdefault(name, [])
            # Of two generations of one instance, the younger one's labels lead to it.
            if want.what is not Age.NEWEST or series.value >= max(stamps, default=-math.inf):
                metrics.labels[name] = {**metrics.labels.get(name, {}), **series.labels}
            stamps.append(series.value)
        if answer.warnings and metrics.problem is None:
            metrics.problem = f"partial answer: {'; '.join(answer.warnings)}"


def found_metrics(question: Question, answer: Answer) -> dict[str, set[str]]:
    """Of a question about required metrics: by policy, which of them have series."""
    return {
        want.policy.key: {
            series.labels.get("__name__", "")
            for series in answer.series
            if _carries(series.labels, want.policy.spec.instances.selector)
        }
        for want in question.wants
    }


def samples(wants: Iterable[Want], metrics: PolicyMetrics, name: str, at: float) -> dict[Signal, Sample]:
    """Each signal that the wants' policy defines, judged for one instance."""
    judged = {want.what: _judge(want, metrics, name, at) for want in wants if isinstance(want.what, Signal)}
    rate = judged.get(Signal.RATE)
    idle = rate is not None and not isinstance(rate, Absent | Invalid | Stale) and rate.value == 0
    if idle:
        for signal in _IDLE_WITHOUT_REQUESTS:
            values = metrics.values.get(signal, {}).get(name, [])
            if signal in judged and values and all(math.isnan(value) for value in values):
                judged[signal] = Absent("idle: no requests in the window")
    return judged


def selector_text(policy: LoadPolicy) -> str:
    """The selector as a user wrote it, for messages."""
    return "{" + ", ".join(f'{label}="{value}"' for label, value in policy.spec.instances.selector.items()) + "}"


def missing_text(policy: LoadPolicy, metrics: PolicyMetrics) -> str:
    """What to say of a preset that does not fit."""
    return (
        f"{', '.join(metrics.missing)} has no series for {selector_text(policy)}: "
        f"is the preset {policy.spec.signals.preset} right?"
    )


def _series_of(want: Want, question: Question, every: Iterable[Series]) -> Iterable[Series]:
    instances = want.policy.spec.instances
    for series in every:
        if not series.labels.get(question.key):
            continue
        if question.join is Join.PODS:
            mine = _carries(series.labels, pod_selector(want.policy))
        elif question.join is Join.SELECTOR:
            mine = _carries(series.labels, instances.selector)
        else:
            shown = instances.selector.keys() & series.labels.keys()
            mine = all(series.labels[label] == instances.selector[label] for label in shown)
        if mine:
            yield series


def _carries(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    return all(labels.get(label, "") == value for label, value in selector.items())


def _judge(want: Want, metrics: PolicyMetrics, name: str, at: float) -> Sample:
    policy = want.policy
    if want.what in metrics.failed:
        return Absent(metrics.failed[want.what])
    if metrics.missing and want.preset is not None:
        return Absent(missing_text(policy, metrics))
    values = metrics.values.get(want.what, {}).get(name, [])
    if not values:
        return Absent("no series answered")
    if len(values) > 1:
        return Invalid(f"{len(values)} series for one instance; the query must group by {policy.spec.instances.key}")
    return _aged(policy, metrics, name, values[0], at)


def _aged(policy: LoadPolicy, metrics: PolicyMetrics, name: str, value: float, at: float) -> Sample:
    if value < 0 and math.isfinite(value):
        return Invalid(f"negative: {value:g}")
    fresh_for = policy.spec.signals.freshFor
    newest = metrics.newest(name)
    if newest is not None:
        return sample_of(value, at - newest, fresh_for_seconds=fresh_for)
    if metrics.age_unknown:
        return sample_of(value, 0.0, fresh_for_seconds=fresh_for)
    # A rate outlives its target, so a value whose age nothing tells is as old as an answer can be.
    oldest = max(LOOKBACK_SECONDS, 2 * policy.spec.signals.window, fresh_for + 1)
    return Stale(value, oldest) if math.isfinite(value) else sample_of(value, oldest, fresh_for_seconds=fresh_for)


def lacks_age(metrics: PolicyMetrics) -> bool:
    """Whether some instance answered a value and no age."""
    return any(metrics.newest(name) is None for name in metrics.names())


def has_no_up(wants: Collection[Want], metrics: PolicyMetrics) -> bool:
    """Whether a policy without a preset has values but no `up` series, whatever their value."""
    plain = any(want.what is Age.NEWEST and want.template == UP_AGE for want in wants)
    return plain and not metrics.values.get(Age.NEWEST) and Age.NEWEST not in metrics.failed and bool(metrics.names())
