"""The service's own request rate over the last weeks, read beside the ticks: at start, then every hour.

No tick waits for it. What has been read stays until it has been brought up to date, and says why it was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.deadline import Deadline
from controller.errors import DependencyError, TimedOut
from controller.model.history import RateHistory
from controller.model.sample import Signal
from controller.model.snapshot import Known, NotAsked, Reading, Unknown
from controller.observe.errand import Errand
from controller.observe.prometheus import SYSTEM, PrometheusServer
from controller.observe.promql import Join, duration, questions, wants_of
from controller.policy.presets import load_preset
from controller.policy.schema import LoadPolicy
from controller.settings import Settings

STEP_SECONDS = 300.0
EVERY_SECONDS = 3600.0
AGAIN_SECONDS = 300.0
"""After a failure it is tried anew this much later."""
CHUNK_STEPS = 2016
"""One query asks for a week at most, so that no answer is large and no query runs long."""
TIMEOUT_SECONDS = 30.0
"""For each query; nothing waits for it."""


@dataclass(slots=True)
class _Kept:
    """What is known of one policy's rate, and when to ask again."""

    query: str
    history: RateHistory | None = None
    problem: str = ""
    due_at: float = -math.inf


@dataclass(slots=True)
class HistoryReader:
    """Keeps one history per policy that asks for a forecast.

    Args:
        settings: where Prometheus is, and its credentials.
        connect: builds the client of one server; its sessions are not those that the ticks use.
    """

    settings: Settings
    connect: Callable[[str, Settings], PrometheusServer] = PrometheusServer
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _servers: dict[str, PrometheusServer] = field(default_factory=dict)
    _errand: Errand[None] = field(default_factory=lambda: Errand(SYSTEM))

    def read(self, policies: Sequence[LoadPolicy], at: float) -> dict[str, Reading[RateHistory]]:
        """What is known now, by policy key; what is due is asked for in the background."""
        asking = {policy.key: policy for policy in policies if wanted_seconds(policy) is not None}
        due = []
        for key, policy in asking.items():
            query = rate_query(policy)
            if isinstance(query, str) and (key not in self._kept or self._kept[key].query != query):
                self._kept[key] = _Kept(query)
            if key in self._kept and at >= self._kept[key].due_at:
                due.append(policy)
        if due and not self._errand.busy():
            self._errand.start(lambda: self._refresh(due, at))
        return {policy.key: self._reading(policy) if policy.key in asking else NotAsked() for policy in policies}

    def close(self) -> None:
        """Close the connections that nobody is using."""
        if not self._errand.busy():
            for server in self._servers.values():
                server.close()

    def _reading(self, policy: LoadPolicy) -> Reading[RateHistory]:
        query = rate_query(policy)
        if isinstance(query, Unknown):
            return query
        kept = self._kept[policy.key]
        if kept.history is None:
            return Unknown(kept.problem or "it has not been read yet")
        return Known(replace(kept.history, problem=kept.problem))

    def _refresh(self, due: Sequence[LoadPolicy], at: float) -> None:
        for policy in due:
            kept = self._kept[policy.key]
            try:
                kept.history = self._bring_up(policy, kept, at)
            except DependencyError as error:
                kept.problem, kept.due_at = error.message, at + AGAIN_SECONDS
            except Exception as bug:  # noqa: BLE001 - nobody waits for this thread, so it must say so itself
                kept.problem, kept.due_at = f"a bug in Trimtab: {bug!r}", at + EVERY_SECONDS
            else:
                kept.problem, kept.due_at = "", at + EVERY_SECONDS

    def _bring_up(self, policy: LoadPolicy, kept: _Kept, at: float) -> RateHistory:
        """The history up to the last whole step; only what is missing is asked for."""
        url = (policy.spec.signals.prometheus or self.settings.prometheus_url).rstrip("/")
        server = self._servers.get(url) or self._servers.setdefault(url, self.connect(url, self.settings))
        server.begin()
        steps = int((wanted_seconds(policy) or 0.0) / STEP_SECONDS)
        end = STEP_SECONDS * math.floor(at / STEP_SECONDS)
        old = kept.history
        since = end - STEP_SECONDS * (steps - 1) if old is None else old.ended_at + STEP_SECONDS
        since = max(since, end - STEP_SECONDS * (steps - 1))
        found: dict[float, float] = {}
        while since <= end:
            until = min(end, since + STEP_SECONDS * (CHUNK_STEPS - 1))
            found |= _rates(server, kept.query, since, until)
            since = until + STEP_SECONDS
        known = dict(_stamped(old)) | found
        return RateHistory(end, STEP_SECONDS, tuple(known.get(end - STEP_SECONDS * n) for n in reversed(range(steps))))


def wanted_seconds(policy: LoadPolicy) -> float | None:
    """How far back a policy wants its history; None when it wants none."""
    scaling = policy.spec.scaling
    if scaling is None or scaling.forecast is None or not scaling.forecast.enabled:
        return None
    return scaling.forecast.history


def rate_query(policy: LoadPolicy) -> str | Unknown:
    """PromQL for the whole service's rate, each value a mean over one step; or why there is none."""
    name = policy.spec.signals.preset
    wants = wants_of(policy, load_preset(name) if name is not None else None)
    rate = next((want for want in wants if want.what is Signal.RATE), None)
    if rate is None:
        return Unknown("the policy has no signal `rate`")
    (question,) = questions([replace(rate, template=rate.template.replace("$window", duration(STEP_SECONDS)))])
    if question.join is Join.PODS:
        return Unknown("its rate is known by pod only, and pods that are gone are nobody's")
    return f"sum({question.query})"


def _rates(server: PrometheusServer, query: str, since: float, until: float) -> Mapping[float, float]:
    answer = server.ask_range(query, since, until, STEP_SECONDS, Deadline.after(TIMEOUT_SECONDS))
    if answer.warnings:
        raise TimedOut(SYSTEM, f"partial answer: {'; '.join(answer.warnings)}")
    return {at: rate for at, rate in answer.points if math.isfinite(rate) and rate >= 0.0}


def _stamped(history: RateHistory | None) -> Sequence[tuple[float, float]]:
    if history is None:
        return ()
    last = len(history.rates) - 1
    return [
        (history.ended_at - history.step_seconds * (last - n), rate)
        for n, rate in enumerate(history.rates)
        if rate is not None
    ]
