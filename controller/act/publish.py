"""Publishes ranking, weights and limit of one policy to Redis in one atomic, fenced, expiring step."""

from __future__ import annotations

import threading
from importlib.resources import files
from typing import Any, NoReturn

import redis

from controller.clients.redis import SYSTEM, redis_errors
from controller.errors import DependencyError, LostLease, Rejected
from controller.model.fence import Fence
from controller.model.plan import Publish, RankedEndpoint
from trimtab.contract import Endpoint, Keys, ranking_document

ATTEMPTS = 3
SCRIPT = files(__package__).joinpath("publish.lua").read_text(encoding="utf-8")


class Publisher:
    """Remembers the last seq of each policy; a refusal teaches it the one that Redis holds."""

    def __init__(self, client: redis.Redis) -> None:
        self._script = client.register_script(SCRIPT)  # sends itself anew after SCRIPT FLUSH and restarts
        self._seq: dict[str, int] = {}
        self._lock = threading.Lock()

    def publish(self, policy: str, publish: Publish, *, at: float, fence: Fence) -> int:
        """Make one publish the current one.

        Args:
            at: when it was decided, seconds since the epoch.

        Returns:
            Its seq, higher than any before, whoever published that.

        Raises:
            LostLease: this replica may not act, or Redis has seen a newer epoch.
            DependencyError: Redis did not do it.
        """
        seq = self._seq.get(policy, 0)
        for _ in range(ATTEMPTS):
            if not fence.valid():
                raise LostLease(f"{policy}: this replica does not lead")
            verdict, epoch, stored = self._send(policy, publish, seq=seq + 1, at=at, fence=fence)
            with self._lock:
                self._seq[policy] = seq = max(stored, seq) if verdict == "ok" else stored
            if verdict == "ok":
                return seq
            if verdict == "epoch":
                raise LostLease(f"{policy}: Redis has seen epoch {epoch}, this replica's is {fence.epoch}")
        raise Rejected(SYSTEM, f"{policy}: somebody else publishes this policy at the same time (seq is at {seq})")

    def _send(self, policy: str, publish: Publish, *, seq: int, at: float, fence: Fence) -> tuple[str, int, int]:
        keys = Keys(policy)
        limit = "" if publish.limit is None or publish.limit_carried else str(publish.limit)
        names = [keys.ranking, keys.weights, keys.limit, keys.fence, keys.limiter, keys.overloaded]
        default = ""
        if publish.queue is not None and publish.default_limit is not None:
            default = str(publish.default_limit)
            names.append(keys.queue(publish.queue).counters)
        arguments: list[Any] = [fence.epoch, seq, round(publish.valid_for_seconds * 1000), keys.changed, limit, default]
        arguments += [_overloaded(publish)]
        arguments += _ranking(policy, publish, seq, at)
        try:
            with redis_errors():
                reply: Any = self._script(keys=names, args=arguments)
        except DependencyError as error:
            _explain(error, keys)
        return str(reply[0]), int(reply[1]), int(reply[2])


def _ranking(policy: str, publish: Publish, seq: int, at: float) -> list[Any]:
    if publish.endpoints is None:
        return [""]
    document = ranking_document(
        policy=policy,
        seq=seq,
        published_at=at,
        valid_for=publish.valid_for_seconds,
        limit=publish.limit,
        panic=publish.panic,
        endpoints=(_row(endpoint) for endpoint in publish.endpoints),
        retry_after=None if publish.overload is None else publish.overload.retry_after_seconds,
    )
    arguments: list[Any] = [document]
    for row in publish.endpoints:
        arguments += [repr(float(row.weight)), row.endpoint]
    return arguments


def _overloaded(publish: Publish) -> str:
    """Seconds with a digit behind the point, `unknown`, or nothing."""
    if publish.overload is None:
        return ""
    seconds = publish.overload.retry_after_seconds
    return "unknown" if seconds is None else f"{seconds:.1f}"


def _row(row: RankedEndpoint) -> Endpoint:
    return Endpoint(
        endpoint=row.endpoint,
        instance=row.instance,
        rank=row.rank,
        weight=row.weight,
        state=row.state.value,
        age=row.age,
        latency=row.latency,
        cpu=row.cpu,
        memory=row.memory,
        why=row.why,
    )


def _explain(error: DependencyError, keys: Keys) -> NoReturn:
    if "WRONGTYPE" in error.message:
        raise Rejected(SYSTEM, f"{keys.fence} is no hash: not ours; delete it, or rename the policy") from error
    raise error
