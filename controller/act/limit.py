"""Writes the limit of one policy to Redis, alone: fenced, atomic, expiring. The inner loop's only effect."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import redis

from controller.clients.redis import redis_errors
from controller.errors import DependencyError, LostLease
from controller.model.fence import Fence
from controller.model.inner import LimitPlan
from controller.model.outcome import Outcome, Result
from trimtab.contract import Keys

LIMIT = "limit"
CLAIM_SECONDS = 5.0
"""For so long after its last word the limit is the inner loop's alone; then the outer loop sets it."""
LONGEST_REASON = 200
SCRIPT = files(__package__).joinpath("limit.lua").read_text(encoding="utf-8")
POKE = files("trimtab.lua").joinpath("poke.lua").read_text(encoding="utf-8")


class LimitWriter:
    """Holds the scripts of one client, which gives bytes."""

    def __init__(self, client: redis.Redis) -> None:
        self._script = client.register_script(SCRIPT)
        self._poke = client.register_script(POKE)

    def write(self, plan: LimitPlan, fence: Fence) -> Outcome:
        """Carry one plan out; what came of it.

        Raises:
            LostLease: this replica may not act, or Redis has seen a newer epoch.
        """
        if not fence.valid():
            raise LostLease(f"{plan.policy}: this replica does not lead")
        keys = Keys(plan.policy)
        queue = keys.queue(plan.queue)
        default = "" if plan.default is None else str(plan.default)
        arguments: list[Any] = [fence.epoch, plan.before, plan.after, round(plan.valid_for_seconds * 1000)]
        arguments += [round(CLAIM_SECONDS * 1000), plan.why[:LONGEST_REASON], default]
        try:
            with redis_errors():
                reply: Any = self._script(keys=[keys.limit, keys.limiter, keys.fence, queue.counters], args=arguments)
                if reply[0] == b"ok" and plan.after > plan.before:
                    # Idle workers sleep until somebody says that there is room.
                    self._poke(keys=queue.script_keys(keys.limit), args=[plan.after])
        except DependencyError as error:
            return Outcome(plan.policy, LIMIT, Result.FAILED, error.message, error.system)
        if reply[0] == b"epoch":
            raise LostLease(f"{plan.policy}: Redis has seen epoch {reply[1]}, this replica's is {fence.epoch}")
        if reply[0] == b"moved":
            return Outcome(plan.policy, LIMIT, Result.REFUSED, f"somebody else has set {reply[2].decode() or 'none'}")
        return Outcome(plan.policy, LIMIT, Result.DONE, str(plan.after))
