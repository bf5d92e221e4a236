"""What one tick says of demand, reckoned once: who asks for replicas, how full the fleet is, what would help."""

from __future__ import annotations

from dataclasses import dataclass

from controller.decide import concurrency, demand, futility
from controller.decide.budget import Grant
from controller.decide.slo import ServiceLevel
from controller.model.memory import Memory
from controller.model.snapshot import ServiceSnapshot
from controller.policy.schema import LoadPolicy


@dataclass(frozen=True, slots=True)
class Situation:
    """Demand now.

    Args:
        asks: why more replicas are wanted, in words; None when they are not.
        load: the fleet's utilisations added up; None when not wholly known, or when nothing is scaled.
        most_load: the same, by the CPU as observed where that is more: what a decrease is measured against.
        seen: what tells whether more replicas would help; None when nothing is scaled.
        slow: why the response time breaks the SLO, in words; None when it does not or is not known.
        grant: what a shared budget allows; None when the policy is in none.
    """

    asks: str | None
    load: float | None
    most_load: float | None
    seen: futility.Seen | None
    slow: str | None
    grant: Grant | None

    def futile(self, memory: Memory) -> str:
        """Why raises must wait, in words; empty when they need not, or when nothing asks for one."""
        if self.seen is None or (self.asks is None and self.slow is None):
            return ""
        return futility.verdict(memory.futility, self.seen, idle=self.slow if self.asks is None else None)


def situation(
    policy: LoadPolicy,
    service: ServiceSnapshot,
    memory: Memory,
    level: ServiceLevel,
    grant: Grant | None,
    *,
    observed: ServiceSnapshot,
) -> Situation:
    """The situation of one service. `observed`: the same, before its CPU was brought to the rate's window."""
    spec = policy.spec
    slots = None if spec.concurrency is None else spec.concurrency.perInstance
    asks = demand.pressure(service, level, concurrency.standing_limit(service, memory), slots)
    if spec.scaling is None:
        return Situation(asks, None, None, None, level.slow, grant)
    load = demand.load(service, slots)
    # Not all of a CPU need go with the requests: one that is brought down with them may be brought down too far.
    before = load if observed is service else demand.load(observed, slots)
    most = load if load is None or before is None else max(load, before)
    seen = futility.look(service, level, load=load, slo_seconds=spec.slo.latency)
    return Situation(asks, load, most, seen, level.slow, grant)
