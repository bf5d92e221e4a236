"""Prometheus, for all policies of a tick: few queries, one instant, every server asked beside the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller.deadline import Deadline
from controller.errors import Denied, DependencyError, Throttled, TimedOut, Unreachable
from controller.model.sample import Signal
from controller.model.snapshot import PARTIAL
from controller.observe.attribution import (
    PolicyMetrics,
    attribute,
    found_metrics,
    has_no_up,
    lacks_age,
    missing_text,
    selector_text,
)
from controller.observe.errand import Errand
from controller.observe.prometheus import SYSTEM, Answer, PrometheusServer
from controller.observe.promql import Age, Question, Want, last_seen, questions, requirements, wants_of
from controller.policy.presets import load_preset
from controller.policy.schema import LoadPolicy
from controller.settings import Settings, redact_url

_SERVER_WIDE = (Unreachable, TimedOut, Denied, Throttled)


@dataclass(slots=True)
class MetricsAnswer:
    """What Prometheus said: by policy key, and one line for each thing that is wrong."""

    policies: dict[str, PolicyMetrics] = field(default_factory=dict)
    wants: dict[str, tuple[Want, ...]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class MetricsReader:
    """Asks each distinct server once a tick for each distinct question.

    Servers are asked in parallel, the questions of one server one after the other, so that a server that is
    unreachable or hangs is asked once and costs one timeout a tick.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._servers: dict[str, tuple[PrometheusServer, Errand[MetricsAnswer]]] = {}
        # Which absent signals each policy had when its preset's metrics were last found: known gaps are not asked after again.
        self._fitting: dict[tuple[str, str, str | None], frozenset[Signal]] = {}
        self._told: set[str] = set()

    def read(self, policies: Sequence[LoadPolicy], at: float, deadline: Deadline) -> MetricsAnswer:
        """The metrics of all policies at the instant `at`. A server that fails is a problem, never an exception."""
        whole = MetricsAnswer()
        by_url: dict[str, list[LoadPolicy]] = {}
        for policy in policies:
            url = (policy.spec.signals.prometheus or self._settings.prometheus_url).rstrip("/")
            by_url.setdefault(url, []).append(policy)
        self._forget(by_url)
        for url, theirs in by_url.items():
            if url not in self._servers:
                self._servers[url] = (PrometheusServer(url, self._settings), Errand(SYSTEM))
            server, errand = self._servers[url]
            wants = {policy.key: _wants(policy) for policy in theirs}
            whole.wants |= wants
            errand.start(lambda server=server, wants=wants: self._ask_server(server, wants, at, deadline))  # type: ignore[misc]
        for url, theirs in by_url.items():
            try:
                part = self._servers[url][1].result(deadline)
            except TimedOut as error:
                part = unanswered(theirs, TimedOut(SYSTEM, f"{redact_url(url)}: {error.message}"))
            whole.policies |= part.policies
            whole.problems += part.problems
        return whole

    def close(self) -> None:
        """Close the connections that nobody is using."""
        for server, errand in self._servers.values():
            if not errand.busy():
                server.close()
        self._servers.clear()

    def _forget(self, by_url: Mapping[str, object]) -> None:
        """Drop servers that no policy names any more; a policy set of one tick may be a part of all, so only idle ones go late."""
        for url in [url for url in self._servers if url not in by_url]:
            server, errand = self._servers[url]
            if len(self._servers) > 2 * len(by_url) + 8 and not errand.busy():
                server.close()
                del self._servers[url]

    def _ask_server(
        self, server: PrometheusServer, wants: Mapping[str, tuple[Want, ...]], at: float, deadline: Deadline
    ) -> MetricsAnswer:
        tick = _Tick(server, at, deadline, {key: PolicyMetrics() for key in wants})
        try:
            server.begin()
        except DependencyError as error:
            tick.down = error
        for question in questions(want for theirs in wants.values() for want in theirs):
            tick.ask(question)
        if tick.down is None:
            self._ask_again(tick, wants)
        if tick.down is not None:
            tick.problems.insert(0, str(tick.down))
        return MetricsAnswer(tick.metrics, {}, list(dict.fromkeys(tick.problems)))

    def _ask_again(self, tick: _Tick, wants: Mapping[str, tuple[Want, ...]]) -> None:
        """The questions that only a gap in the first answers makes worth asking."""
        old = [key for key in wants if lacks_age(tick.metrics[key]) and Age.NEWEST not in tick.metrics[key].failed]
        for question in questions(last_seen(w) for key in old for w in wants[key] if w.what is Age.NEWEST):
            tick.ask(question)
        for key in old if tick.down is None else ():
            self._note_unknown_age(tick, wants[key])
        # What is missing from a partial answer may well be there.
        whole = [key for key in wants if tick.metrics[key].problem is None]
        gaps = {key: _absent_of_preset(wants[key], tick.metrics[key]) for key in whole}
        unsure = [key for key, gap in gaps.items() if gap and self._fitting.get(_fit(tick, wants[key])) != gap]
        ages = [want for key in unsure for want in wants[key] if want.what is Age.NEWEST and want.preset is not None]
        required = {want.preset: load_preset(want.preset).requires for want in ages if want.preset is not None}
        for question in requirements(ages, required):
            self._check_requirements(tick, question, required, gaps)

    def _check_requirements(
        self,
        tick: _Tick,
        question: Question,
        required: Mapping[str, tuple[str, ...]],
        gaps: Mapping[str, frozenset[Signal]],
    ) -> None:
        answer = tick.answer(question)
        if answer is None:
            return
        for key, found in found_metrics(question, answer).items():
            policy, preset = next((want.policy, want.preset) for want in question.wants if want.policy.key == key)
            missing = tuple(name for name in required[preset or ""] if name not in found)
            tick.metrics[key].missing = missing
            if missing:
                tick.problems.append(f"{SYSTEM}: policy {key}: {missing_text(policy, tick.metrics[key])}")
            else:
                self._fitting[tick.server.url, key, preset] = gaps[key]

    def _note_unknown_age(self, tick: _Tick, wants: tuple[Want, ...]) -> None:
        policy = wants[0].policy
        metrics = tick.metrics[policy.key]
        metrics.age_unknown = has_no_up(wants, metrics)
        if metrics.age_unknown and policy.key not in self._told:
            self._told.add(policy.key)
            tick.problems.append(
                f"{SYSTEM}: policy {policy.key}: age unknown: no `up` series for {selector_text(policy)}, "
                "so its samples count as new"
            )


@dataclass(slots=True)
class _Tick:
    """One server's part of one tick."""

    server: PrometheusServer
    at: float
    deadline: Deadline
    metrics: dict[str, PolicyMetrics]
    problems: list[str] = field(default_factory=list)
    down: DependencyError | None = None

    def ask(self, question: Question) -> None:
        answer = self.answer(question)
        if answer is not None:
            attribute(question, answer, self.metrics)
            if answer.warnings:
                where = redact_url(self.server.url)
                self.problems.append(f"{SYSTEM}: {where}: {PARTIAL}: {'; '.join(answer.warnings)}")

    def answer(self, question: Question) -> Answer | None:
        """The answer; None when there is none, after everybody who waits for it has been told why."""
        error = self.down
        if error is None:
            if self.deadline.expired():
                error = self.down = TimedOut(SYSTEM, f"{self.server.url}: no time left in the tick")
            else:
                try:
                    return self.server.ask(question.query, self.at, self.deadline)
                except _SERVER_WIDE as failure:
                    error = self.down = failure
                except DependencyError as failure:
                    error = failure
        for want in question.wants:
            self._fail(want, error)
        return None

    def _fail(self, want: Want, error: DependencyError) -> None:
        reason = error.message
        if self.down is None:
            reason = f"signal {want.what.value}{f' of preset {want.preset}' if want.preset else ''}: {error.message}"
            self.problems.append(f"{SYSTEM}: policy {want.policy.key}: {reason}")
        _fail(self.metrics[want.policy.key], (want,), reason)


def _fail(metrics: PolicyMetrics, wants: tuple[Want, ...], reason: str) -> None:
    metrics.problem = metrics.problem or reason
    for want in wants:
        metrics.failed.setdefault(want.what, reason)


def unanswered(policies: Sequence[LoadPolicy], error: DependencyError) -> MetricsAnswer:
    """The answer when there is none: every signal that a policy defines is absent for the same reason."""
    answer = MetricsAnswer(problems=[str(error)])
    for policy in policies:
        answer.wants[policy.key] = _wants(policy)
        answer.policies[policy.key] = PolicyMetrics()
        _fail(answer.policies[policy.key], answer.wants[policy.key], error.message)
    return answer


def _wants(policy: LoadPolicy) -> tuple[Want, ...]:
    name = policy.spec.signals.preset
    return wants_of(policy, load_preset(name) if name is not None else None)


def _fit(tick: _Tick, wants: tuple[Want, ...]) -> tuple[str, str, str | None]:
    policy = wants[0].policy
    return (tick.server.url, policy.key, policy.spec.signals.preset)


def _absent_of_preset(wants: tuple[Want, ...], metrics: PolicyMetrics) -> frozenset[Signal]:
    """The signals that the preset promises and that no instance has."""
    return frozenset(
        want.what
        for want in wants
        if isinstance(want.what, Signal)
        and want.preset is not None
        and want.what not in metrics.failed
        and not metrics.values.get(want.what)
    )
