"""One tick's view of the world: the three readers side by side, each failing or hanging alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import redis

from controller.clients.redis import SYSTEM as REDIS
from controller.deadline import Deadline
from controller.errors import TimedOut
from controller.model.memory import frozen
from controller.model.snapshot import ServiceSnapshot, Snapshot
from controller.observe import kubernetes as kube_room
from controller.observe.errand import Errand
from controller.observe.history import HistoryReader
from controller.observe.instances import complete, instances_of
from controller.observe.kubernetes import KubeReader, KubeView, needs_kubernetes, read_kubernetes, unknown_view
from controller.observe.metrics import MetricsAnswer, MetricsReader, unanswered
from controller.observe.prometheus import SYSTEM as PROMETHEUS
from controller.observe.redis import RedisView, read_redis, unknown_redis
from controller.policy.schema import LoadPolicy
from controller.settings import Settings

_JOIN_SECONDS = 0.25  # the readers keep the deadline themselves; the join waits a little longer, to hear what they say


class Observer:
    """Reads Prometheus, Kubernetes and Redis.

    Args:
        settings: where Prometheus is, its credentials and limits.
        kube: the API server; None when it is switched off.
        redis: a client with `decode_responses=True`.
    """

    def __init__(self, settings: Settings, *, kube: KubeReader | None, redis: redis.Redis) -> None:
        self._metrics = MetricsReader(settings)
        self._history = HistoryReader(settings)
        self._kube = kube
        self._redis = redis
        self._metrics_errand: Errand[MetricsAnswer] = Errand(PROMETHEUS)
        self._kube_errand: Errand[tuple[dict[str, KubeView], list[str]]] = Errand(kube_room.SYSTEM)
        self._redis_errand: Errand[tuple[dict[str, RedisView], list[str]]] = Errand(REDIS)

    def observe(self, policies: Sequence[LoadPolicy], at: float, deadline: Deadline) -> Snapshot:
        """The snapshot at the instant `at`, seconds since the epoch. An outage is a value in it, not an exception."""
        policies = tuple(policies)
        if not policies:
            return Snapshot(at, frozen({}))
        readers = Deadline(deadline.at - min(_JOIN_SECONDS, deadline.remaining_seconds() / 4), deadline.clock)
        kube = self._kube
        self._metrics_errand.start(lambda: self._metrics.read(policies, at, readers))
        asks_kubernetes = kube is not None and any(needs_kubernetes(policy) for policy in policies)
        if kube is not None and asks_kubernetes:
            self._kube_errand.start(lambda: read_kubernetes(kube, policies, readers))
        self._redis_errand.start(lambda: read_redis(self._redis, policies))
        published, redis_problems = self._published(policies, deadline)
        views, kube_problems = self._views(policies, deadline)
        metrics = self._metrics_of(policies, deadline)
        histories = self._history.read(policies, at)
        services = {
            policy.key: replace(
                _service(policy, at, metrics, views[policy.key], published[policy.key]), history=histories[policy.key]
            )
            for policy in policies
        }
        problems = dict.fromkeys([*metrics.problems, *kube_problems, *redis_problems])
        asked = (PROMETHEUS, REDIS, *((kube_room.SYSTEM,) if asks_kubernetes else ()))
        return Snapshot(at, frozen(services), tuple(problems), asked)

    def close(self) -> None:
        """Close what this observer opened; the clients it was given are their owner's."""
        self._metrics.close()
        self._history.close()

    def _metrics_of(self, policies: Sequence[LoadPolicy], deadline: Deadline) -> MetricsAnswer:
        try:
            return self._metrics_errand.result(deadline)
        except TimedOut as error:
            return unanswered(policies, error)

    def _views(self, policies: Sequence[LoadPolicy], deadline: Deadline) -> tuple[dict[str, KubeView], list[str]]:
        if self._kube is None:
            return {policy.key: _without_kubernetes(policy) for policy in policies}, []
        if not any(needs_kubernetes(policy) for policy in policies):
            return {policy.key: KubeView() for policy in policies}, []
        try:
            return self._kube_errand.result(deadline)
        except TimedOut as error:
            return {policy.key: unknown_view(policy, str(error)) for policy in policies}, [str(error)]

    def _published(self, policies: Sequence[LoadPolicy], deadline: Deadline) -> tuple[dict[str, RedisView], list[str]]:
        try:
            return self._redis_errand.result(deadline)
        except TimedOut as error:
            return {policy.key: unknown_redis(policy, str(error)) for policy in policies}, [str(error)]


def _without_kubernetes(policy: LoadPolicy) -> KubeView:
    """With Kubernetes switched off, instances come from the series alone, and there is no HPA to steer."""
    view = unknown_view(policy, kube_room.OFF)
    return KubeView(view.hpa, view.scale)


def _service(
    policy: LoadPolicy, at: float, answer: MetricsAnswer, kube: KubeView, published: RedisView
) -> ServiceSnapshot:
    metrics = answer.policies[policy.key]
    return ServiceSnapshot(
        policy=policy.key,
        at=at,
        instances=instances_of(policy, answer.wants[policy.key], metrics, kube, at),
        metrics_problem=metrics.problem,
        instances_complete=complete(policy, metrics, kube),
        hpa=kube.hpa,
        scale=kube.scale,
        published=published.published,
        queue=published.queue,
    )
