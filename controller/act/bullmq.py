"""BullMQ's global concurrency: the field `concurrency` of a queue's meta hash, which its workers read with each job they fetch.

Source: BullMQ's `Queue.setGlobalConcurrency`, which does the same HSET. A worker that idles because the limit was reached sees a
raise with its next fetch, at the latest after its `drainDelay` (5 s by default).
"""

from __future__ import annotations

from typing import Any

import redis

from controller.clients.redis import redis_errors
from controller.model.outcome import Result
from controller.policy.output import Output

SYSTEM = "BullMQ"
FIELD = "concurrency"


def write(client: redis.Redis, output: Output, limit: int) -> tuple[Result, str]:
    """Make `limit` the queue's global concurrency, unless it is so already. 0 pauses.

    Raises:
        DependencyError: Redis did not do it.
    """
    queue = f"{output.prefix}:{output.queue}"
    meta = f"{queue}:meta"
    with redis_errors():
        before: Any = client.hgetall(meta)
        if before.get(FIELD) == str(limit):
            return Result.UNCHANGED, f"{queue}: concurrency {limit}"
        client.hset(meta, FIELD, str(limit))
    new = "" if before else ", which no BullMQ has opened yet: is the name right?"
    return Result.DONE, f"{queue}: concurrency {before.get(FIELD, 'none')} -> {limit}{new}"
