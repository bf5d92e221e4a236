"""Redis, for all policies of a tick: what is published, and the request queues' sizes, in one round trip."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from controller.clients.redis import SYSTEM, redis_errors, translate
from controller.errors import DependencyError, Rejected
from controller.model.memory import frozen
from controller.model.snapshot import Known, NotAsked, Published, QueueView, Reading, Unknown
from controller.policy.schema import LoadPolicy
from trimtab.contract import Keys


@dataclass(frozen=True, slots=True)
class RedisView:
    """What Redis holds of one policy."""

    published: Reading[Published | None]
    queue: Reading[QueueView] = field(default_factory=NotAsked)


def unknown_redis(policy: LoadPolicy, reason: str) -> RedisView:
    """The view when nothing answered."""
    unknown = Unknown(reason)
    return RedisView(unknown, unknown if policy.spec.concurrency is not None else NotAsked())


def read_redis(client: redis.Redis, policies: Sequence[LoadPolicy]) -> tuple[dict[str, RedisView], list[str]]:
    """Views by policy key, and one line for each thing that is wrong. Never raises for an outage."""
    # No transaction: policies live in different hash slots, and a cluster client refuses to join those.
    pipeline = client.pipeline(transaction=False)
    for policy in policies:
        keys = Keys(policy.key)
        pipeline.get(keys.ranking)
        pipeline.get(keys.limit)
        pipeline.hgetall(keys.fence)
        pipeline.get(keys.limiter)
        if policy.spec.concurrency is not None:
            queue = keys.queue(policy.spec.concurrency.queue)
            pipeline.zcard(queue.waiting)
            pipeline.zcard(queue.leases)
    try:
        with redis_errors():
            replies = iter(pipeline.execute(raise_on_error=False))
    except DependencyError as error:
        return {policy.key: unknown_redis(policy, str(error)) for policy in policies}, [str(error)]
    problems: list[str] = []
    views = {}
    for policy in policies:
        published = _published(policy.key, *(next(replies) for _ in range(4)), problems=problems)
        if policy.spec.concurrency is None:
            views[policy.key] = RedisView(published)
        else:
            views[policy.key] = RedisView(published, _queue(policy, next(replies), next(replies), problems))
    return views, list(dict.fromkeys(problems))


def _published(
    policy: str, ranking: Any, limit: Any, fence: Any, limiter: Any, *, problems: list[str]
) -> Reading[Published | None]:
    for key, reply in (("ranking", ranking), ("limit", limit), ("fence", fence), ("limiter", limiter)):
        if isinstance(reply, Exception):
            return _refused(f"policy {policy}: {key}", reply, problems)
    if not fence and ranking is None and limit is None:
        return Known(None)
    try:
        epoch, seq = int(fence.get("epoch", 0)), int(fence.get("seq", 0))
    except ValueError:
        return _unknown(f"{SYSTEM}: policy {policy}: the fence holds no numbers", problems)
    return Known(
        Published(
            seq=seq,
            epoch=epoch,
            limit=_limit(policy, limit, problems),
            weights=frozen(_weights(policy, ranking, problems)),
            published_at=_published_at(ranking),
            limit_reason=limiter,
        )
    )


def _limit(policy: str, limit: str | None, problems: list[str]) -> int | None:
    if limit is None:
        return None
    try:
        return int(limit)
    except ValueError:
        problems.append(f"{SYSTEM}: policy {policy}: the limit is no integer: {limit[:40]!r}")
        return None


def _document(ranking: str | None) -> Mapping[str, Any]:
    try:
        document = json.loads(ranking) if ranking is not None else {}
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _published_at(ranking: str | None) -> float:
    value = _document(ranking).get("published_at", 0.0)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _weights(policy: str, ranking: str | None, problems: list[str]) -> dict[str, float]:
    """By instance. A document that cannot be read counts as none: the next publish replaces it whole."""
    if ranking is None:
        return {}
    try:
        return {row["instance"]: float(row["weight"]) for row in _document(ranking)["endpoints"]}
    except (KeyError, TypeError, ValueError):
        problems.append(f"{SYSTEM}: policy {policy}: the ranking is no ranking document; the next publish replaces it")
        return {}


def _queue(policy: LoadPolicy, waiting: Any, leases: Any, problems: list[str]) -> Reading[QueueView]:
    for key, reply in (("waiting", waiting), ("leases", leases)):
        if isinstance(reply, Exception):
            return _refused(f"policy {policy.key}: queue {key}", reply, problems)
    return Known(QueueView(depth=int(waiting), in_flight=int(leases)))


def _refused(what: str, reply: Exception, problems: list[str]) -> Unknown:
    """A key of the wrong type is that policy's trouble; a server that is loading or denies access is everybody's."""
    error = translate(reply)
    return _unknown(f"{SYSTEM}: {what}: {error.message}" if isinstance(error, Rejected) else str(error), problems)


def _unknown(reason: str, problems: list[str]) -> Unknown:
    problems.append(reason)
    return Unknown(reason)
