"""The request queues' exact counters and the limits that stand, for the inner loop: all policies in one round trip."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import redis

from controller.clients.redis import redis_errors, translate
from controller.errors import DependencyError
from controller.model.inner import LimitView, QueueCount
from controller.model.snapshot import Known, Reading, Unknown
from controller.policy.schema import LoadPolicy
from trimtab.contract import Keys
from trimtab.queue.counters import Counters


def read_counters(client: redis.Redis, policies: Sequence[LoadPolicy]) -> dict[str, Reading[LimitView]]:
    """Views by policy key; never raises for an outage.

    Args:
        client: one that gives bytes: the totals are packed numbers, not text.
        policies: those with a `concurrency` section.
    """
    pipeline = client.pipeline(transaction=False)
    for policy in policies:
        keys = Keys(policy.key)
        queue = keys.queue(policy.spec.concurrency.queue if policy.spec.concurrency else "")
        pipeline.get(keys.limit)
        pipeline.hgetall(queue.counters)
        pipeline.zcard(queue.leases)
        pipeline.zcard(queue.waiting)
    try:
        with redis_errors():
            replies = iter(pipeline.execute(raise_on_error=False))
    except DependencyError as error:
        return {policy.key: Unknown(str(error)) for policy in policies}
    return {policy.key: _view(*(next(replies) for _ in range(4))) for policy in policies}


def _view(limit: Any, counters: Any, leases: Any, waiting: Any) -> Reading[LimitView]:
    for reply in (limit, counters, leases, waiting):
        if isinstance(reply, Exception):
            return Unknown(str(translate(reply)))
    try:
        return Known(LimitView(None if limit is None else int(limit), _count(counters, int(leases), int(waiting))))
    except (ValueError, struct.error) as error:
        return Unknown(f"the limit or the counters cannot be read: {error}")


def _count(fields: dict[bytes, bytes], leases: int, waiting: int) -> QueueCount | None:
    """None for a queue that has never started anything: there is nothing to go by yet."""
    if b"totals" not in fields:
        return None
    counters = Counters.parse(fields)
    return QueueCount(
        at=counters.at,
        completions=counters.completions,
        slots_seconds=counters.slots_seconds,
        service=counters.service,
        in_flight=leases,
        waiting=waiting,
        since=counters.since,
    )
