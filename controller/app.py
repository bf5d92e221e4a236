"""Composition root: the one module that knows all the others. Builds the loop, turns it, stops it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from redis import Redis
from structlog.typing import FilteringBoundLogger

from controller import collector
from controller.act.actor import Actor
from controller.act.limit import LimitWriter
from controller.clients.kube import KubeApi
from controller.clients.redis import connect as connect_redis
from controller.deadline import Deadline
from controller.errors import ConfigError
from controller.inner import InnerLoop, concerns
from controller.journal.file import Journal
from controller.journal.record import decision_record, detail
from controller.lead.fence import Leader
from controller.lead.lease import LeaseLeader
from controller.lead.solo import Solo
from controller.loop import Loop
from controller.model.outcome import Outcome
from controller.model.plan import Plan
from controller.model.tick import TickReport
from controller.observe.counters import read_counters
from controller.observe.gather import Observer
from controller.policy.schema import LoadPolicy
from controller.policy.store import PolicyStore
from controller.report.explainer import Explainer
from controller.report.health import Health
from controller.report.http import HttpServer
from controller.report.inner import InnerExplainer
from controller.report.metrics import Metrics
from controller.report.teller import Teller
from controller.restorer import Restorer
from controller.schedule import Clockwork
from controller.settings import Settings
from trimtab import __version__

POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

TICK_SHARE = 0.9
"""A tick ends within this share of the interval, so that the next one starts on time."""

REDIS_SHARE = 0.25
"""One Redis command may take this share of the interval."""

INNER_SECONDS, INNER_TURN_SECONDS, INNER_REDIS_SECONDS = 1.0, 0.8, 0.25
"""How often the limit's inner loop turns; a turn ends within the second, one Redis command within the third."""

PARTING_SECONDS = 5.0
"""On a stop, for queues that let no limit expire (`Actor.part`)."""

DUE_SLACK_SECONDS = 0.5
"""A policy is due this much before its interval is over: a tick that starts a little early must not skip it."""


@dataclass(slots=True)
class App:
    """One process: its settings, policies, clients, loop, and what it reports."""

    settings: Settings
    store: PolicyStore
    kube: KubeApi | None
    redis: Redis
    loop: Loop
    metrics: Metrics
    health: Health
    log: FilteringBoundLogger
    inner: InnerLoop | None = None
    clockwork: Clockwork | None = None
    restorer: Restorer | None = None
    _ticked_at: dict[str, float] = field(default_factory=dict)
    _faults_told: str = ""
    _lead_told: str = ""

    def once(self, policies: Sequence[LoadPolicy]) -> TickReport:
        """One tick over these policies, however recently they had one; as patient as all its calls together."""
        patience = self.settings.prometheus_timeout_seconds + self.settings.kubernetes_timeout_seconds
        return self.loop.tick(policies, Deadline.after(2.0 * patience))

    def run(self) -> None:
        """Turn the loop until SIGTERM or SIGINT; the running tick is finished first.

        Raises:
            TrimtabError: the port is taken.
        """
        stop = threading.Event()

        def on_signal(number: int, _frame: FrameType | None) -> None:
            self.log.info("stopping", signal=signal.Signals(number).name)
            stop.set()

        # First of all: as process 1 of a container, Python does nothing on SIGTERM by itself.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        server = HttpServer(self.settings.listen_address(), self.metrics, self.health)
        server.start()
        self.log.info(
            "started",
            version=__version__,
            listen=f"{self.settings.listen_address()[0]}:{server.port}",
            policies=[policy.key for policy in self.store.policies],
            settings=self.settings.redacted(),
        )
        collector.calm()
        self.loop.leader.start()
        self.clockwork = Clockwork(self.tick, shortest_interval(self.store.policies), self._missed)
        if self.inner:
            self.clockwork.beside(self.turn, INNER_SECONDS, self._missed_turn)
            self.clockwork.wake(on=any(map(concerns, self.store.policies)))
        self.clockwork.start()
        stop.wait()
        self.clockwork.stop()
        self._part()
        self.loop.leader.stop()
        server.stop()
        self.log.info("stopped")

    def tick(self) -> None:
        """One turn: take up changed policies, then tick those that are due."""
        started = time.monotonic()
        self._reload()
        policies = self.store.policies
        interval = shortest_interval(policies)
        due = [policy for policy in policies if self._due(policy, started)]
        if due:
            self.loop.tick(due, Deadline(started + TICK_SHARE * interval))
        if self.restorer:
            self.restorer.tick(self.loop.leader.fence(), Deadline(started + TICK_SHARE * interval))
        self._tell_lead()
        self.metrics.duration.observe(time.monotonic() - started)

    def _part(self) -> None:
        fence = self.loop.leader.fence()
        if self.loop.actor is None or fence is None:
            return
        for outcome in self.loop.actor.part(self.store.policies, fence, Deadline.after(PARTING_SECONDS)):
            self.log.info("parting", policy=outcome.policy, result=outcome.result.value, message=outcome.detail)

    def turn(self) -> None:
        """One turn of the inner loop, over the policies that are in force."""
        if self.inner:
            self.inner.turn(self.store.policies, Deadline.after(INNER_TURN_SECONDS))

    def _due(self, policy: LoadPolicy, now: float) -> bool:
        if now - self._ticked_at.get(policy.key, -float("inf")) < policy.spec.interval - DUE_SLACK_SECONDS:
            return False
        self._ticked_at[policy.key] = now
        return True

    def _reload(self) -> None:
        state = self.store.refresh()
        self.metrics.policies.set(len(state.policies))
        self.metrics.policy_load_success.set(0 if state.faults else 1)
        told = "\n".join(str(fault) for fault in state.faults)
        if state.faults and told != self._faults_told:
            faults = [str(fault) for fault in state.faults]
            self.log.error("policies rejected", message="the last good policies stay in force", faults=faults)
        elif state.changed:
            self.log.info("policies loaded", policies=[policy.key for policy in state.policies])
            self.loop.forget(state.policies)
            self.metrics.keep(policy.key for policy in state.policies)
            if self.restorer:
                self.restorer.changed(state.policies)
            self.loop.budgets = state.budgets
            self._ticked_at = {}
            self.health.interval_seconds = interval = shortest_interval(state.policies)
            if self.clockwork:
                self.clockwork.set_interval(interval)
                self.clockwork.wake(on=any(map(concerns, state.policies)))
        self._faults_told = told

    def _tell_lead(self) -> None:
        self.metrics.leader.set(1 if self.loop.leads() else 0)
        status = self.loop.leader.status()
        if status != self._lead_told:
            self._lead_told = status
            self.log.info("lead", message=status)

    def _missed(self, reason: str) -> None:
        self.metrics.missed.inc()
        self.log.error("tick missed", message=reason)

    def _missed_turn(self, reason: str) -> None:
        self.metrics.turns_missed.inc()
        self.log.debug("turn missed", message=reason)


@contextlib.contextmanager
def build(settings: Settings, *, dry_run: bool, election: bool = True) -> Iterator[App]:
    """Load the policies, construct every part and close it in the end. Connects to nothing by itself.

    Args:
        dry_run: build no actor, so that nothing can be written.
        election: take part in leader election if the settings ask for it.

    Raises:
        ConfigError: settings or policies are wrong.
    """
    log: FilteringBoundLogger = structlog.get_logger("trimtab")
    store = PolicyStore(Path(settings.policies))
    policies = store.load().policies
    journal = Journal(Path(settings.journal)) if settings.journal else None
    metrics, health = Metrics(), Health(shortest_interval(policies))
    with contextlib.ExitStack() as closing:
        kube = KubeApi.connect(settings)
        if kube:
            closing.callback(kube.close)
        redis = connect_redis(replace(settings, redis_timeout_seconds=_redis_patience(settings, policies)))
        closing.callback(redis.close)
        observer = Observer(settings, kube=kube, redis=redis)
        closing.callback(observer.close)
        installation = _installation(settings)
        actor = None if dry_run else Actor(settings, kube=kube, redis=redis, installation=installation)
        if actor:
            closing.callback(actor.close)
        leader = _leader(settings, kube) if election and not dry_run else Solo()
        record, keep = _record, journal.write if journal else None
        explainer = Explainer(
            log=log,
            metrics=metrics,
            health=health,
            systems=("Prometheus", "Redis", *(("Kubernetes",) if kube else ())),
            record=record,
            keep=keep,
            detail=detail,
        )
        loop = Loop(observer, actor, leader, explainer, budgets=store.current.budgets)
        inner = None if dry_run else _inner(settings, leader, InnerExplainer(log, metrics), closing)
        if inner:
            loop.told = inner.hear
        restorer = None
        if kube and actor:
            restorer = Restorer(kube, actor, installation, Teller(log, record, keep), policies)
        yield App(settings, store, kube, redis, loop, metrics, health, log, inner, restorer=restorer)


def _record(plan: Plan, outcomes: tuple[Outcome, ...], applied: bool) -> dict[str, Any]:
    return decision_record(plan, outcomes, applied=applied)


def _inner(settings: Settings, leader: Leader, explain: InnerExplainer, closing: contextlib.ExitStack) -> InnerLoop:
    """The inner loop, with a connection of its own: what the outer one waits for must not keep it waiting."""
    patience = min(settings.redis_timeout_seconds, INNER_REDIS_SECONDS)
    redis = connect_redis(replace(settings, redis_timeout_seconds=patience), text=False)
    closing.callback(redis.close)
    return InnerLoop(partial(read_counters, redis), LimitWriter(redis), leader.fence, explain, time.monotonic)


def _leader(settings: Settings, kube: KubeApi | None) -> Leader:
    if not settings.leader_election:
        return Solo()
    if kube is None:
        raise ConfigError("--leader-election needs Kubernetes, and --kubernetes is off")
    identity = settings.identity or socket.gethostname()
    # The same pod name may come back (a StatefulSet's): only with the process' start is it this replica's alone.
    unique = f"{identity}_{os.getpid()}_{time.time_ns():x}"
    return LeaseLeader(kube, namespace=settings.lease_namespace or _own_namespace(), identity=unique)


def _installation(settings: Settings) -> str:
    """The namespace of the Lease: those who share it take turns, so they are one installation. Empty when there is none."""
    try:
        return settings.lease_namespace or _own_namespace()
    except ConfigError:
        return ""


def _own_namespace() -> str:
    try:
        return POD_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        raise ConfigError("--lease-namespace is needed outside a pod") from None


def _redis_patience(settings: Settings, policies: Sequence[LoadPolicy]) -> float:
    """Limit for one command: a Redis that hangs is waited for twice a tick, and neither may cost the next tick its start."""
    return min(settings.redis_timeout_seconds, REDIS_SHARE * shortest_interval(policies))


def shortest_interval(policies: Sequence[LoadPolicy]) -> float:
    """Seconds between two turns of the loop: the shortest that any policy asks for."""
    return min((policy.spec.interval for policy in policies), default=15.0)
