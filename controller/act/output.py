"""The limit, where an existing queue reads it: BullMQ, or Celery's workers (`concurrency.output` of the policy).

After the publish, and alone: a queue that does not answer costs its own time limit and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis as redis_py

from controller.act import bullmq, celery_pools
from controller.clients.redis import connect
from controller.errors import Denied, LostLease, TimedOut
from controller.model.outcome import Outcome, Result
from controller.policy.output import Output
from controller.policy.schema import LoadPolicy
from controller.settings import Settings

OUTPUT = "output"
SYSTEM_OF = {"bullmq": bullmq.SYSTEM, "celery": celery_pools.SYSTEM}


def system_of(policy: LoadPolicy) -> str:
    """Who is told the limit; empty without an output."""
    concurrency = policy.spec.concurrency
    return SYSTEM_OF[concurrency.output.kind] if concurrency is not None and concurrency.output is not None else ""


@dataclass(slots=True)
class OutputWriter:
    """Writes limits to queues. Keeps one client per Redis, and what is known of each policy's workers."""

    settings: Settings
    redis: redis_py.Redis
    _clients: dict[str, redis_py.Redis] = field(default_factory=dict)
    _pools: dict[str, celery_pools.CeleryPools] = field(default_factory=dict)

    def write(
        self, policy: LoadPolicy, limit: int, *, valid: Callable[[], bool], expired: Callable[[], bool]
    ) -> list[Outcome]:
        """Make `limit` the limit of the policy's queue, unless it is so already.

        Args:
            valid: whether this replica may act.
            expired: whether the tick's time is up.

        Raises:
            LostLease: it may not.
            DependencyError: the queue's system did not do it.
            ConfigError: the queue's URL is none.
        """
        output = policy.spec.concurrency.output if policy.spec.concurrency is not None else None
        if output is None:
            return []

        def allowed() -> None:
            if not valid():
                raise LostLease(f"{policy.key}: this replica does not lead")
            if expired():
                raise TimedOut(SYSTEM_OF[output.kind], "no time left in this tick")

        allowed()
        result, detail = (
            self._bullmq(output, limit) if output.kind == "bullmq" else self._celery(policy, output, limit, allowed)
        )
        return [Outcome(policy.key, OUTPUT, result, f"{SYSTEM_OF[output.kind]}: {detail}")]

    def _bullmq(self, output: Output, limit: int) -> tuple[Result, str]:
        url = _url(output)
        if not url:
            return bullmq.write(self.redis, output, limit)
        client = self._clients.get(url)
        if client is None:
            options: dict[str, Any] = {"redis_url": url, "redis_password_file": ""}
            if urlsplit(url).scheme != "rediss":
                options["redis_ca_file"] = ""
            client = self._clients[url] = connect(replace(self.settings, **options))
        return bullmq.write(client, output, limit)

    def _celery(
        self, policy: LoadPolicy, output: Output, limit: int, allowed: Callable[[], None]
    ) -> tuple[Result, str]:
        pools = self._pools.setdefault(policy.key, celery_pools.CeleryPools())
        with celery_pools.connect(_url(output), output.workers, output.replyWithin) as control:
            return pools.apply(control, output, limit, allowed)

    def close(self) -> None:
        """Let go of the connections."""
        for client in self._clients.values():
            client.close()


def _url(output: Output) -> str:
    if output.urlFile is None:
        return output.url or ""
    try:
        return Path(output.urlFile).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Denied(SYSTEM_OF[output.kind], f"urlFile {output.urlFile}: {error}") from error
