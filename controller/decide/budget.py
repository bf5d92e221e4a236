"""Budgets: how many replicas each of several policies may have, so that together they cost no more than there is.

Water-filling: every unit goes where SLO deficit × priority is greatest for what is held already, so that one scale s
gives each policy clamp(s × weight, what it holds, what it may use). What it holds is never less than what is guaranteed,
nor than what runs: a budget takes no running pod, it only stops others from coming. A small constant beside the deficit
shares out the rest by priority while nobody lacks anything, because an HPA needs room before its SLO is broken.

A ceiling that is raised must be free now: others give theirs up in steps, and until they have it is not theirs to give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.decide.interlock import count
from controller.decide.shares import project
from controller.decide.slo import ServiceLevel
from controller.model.memory import Claim
from controller.model.snapshot import Known, ServiceSnapshot
from controller.policy.budget import Budget, Share
from controller.policy.schema import LoadPolicy, Scaling

CALM_DEFICIT = 0.1
"""Counts as everybody's deficit at the least, so that room is shared before anything is broken."""
WORST = 4.0
"""Deficits are cut here: one hopeless service does not take everything."""
FRESH_INTERVALS = 3.0
"""A claim older than so many intervals is not fresh."""
CLOSE = 1e-6


@dataclass(frozen=True, slots=True)
class Grant:
    """What a budget allows one policy.

    Args:
        replicas: the highest maxReplicas; None while what the policy has is not known: then that, and no more.
        least: replicas that are guaranteed.
        words: how that came about.
    """

    replicas: int | None
    least: int
    words: str


@dataclass(frozen=True, slots=True)
class _Seat:
    """One policy at the table, in units."""

    share: Share
    claim: Claim | None
    fresh: bool

    @property
    def key(self) -> str:
        return self.share.policy

    @property
    def guaranteed(self) -> int:
        return _least(self.share)

    @property
    def stands(self) -> int:
        """Replicas that its HPA may have without anybody's leave."""
        return 0 if self.claim is None else max(self.claim.running, self.claim.maximum)

    @property
    def weight(self) -> float:
        deficit = self.claim.deficit if self.claim is not None else 0.0
        return max(deficit, CALM_DEFICIT) * self.share.priority

    def low(self) -> float:
        held = max(self.guaranteed, 0 if self.claim is None else self.claim.running)
        return float(self.share.cost * held)

    def high(self) -> float:
        """What it may use: its policy's ceiling; who is not heard of uses what it has."""
        wanted = self.claim.ceiling if self.claim is not None and self.fresh else 0
        return max(self.low(), float(self.share.cost * wanted))


def claim(
    policy: LoadPolicy, service: ServiceSnapshot, level: ServiceLevel, before: Claim | None, *, asks: bool, futile: bool
) -> Claim | None:
    """What the policy has and lacks. Without Kubernetes' word the last claim stands; on doubtful data its age too.

    Args:
        asks: whether something asks for more replicas.
        futile: whether more would not help: then nothing is lacking that replicas could give.
    """
    rules = policy.spec.scaling
    scale = service.scale.value if isinstance(service.scale, Known) else None
    if rules is None or scale is None or not isinstance(service.hpa, Known):
        return before
    view = service.hpa.value
    running = count(view, scale).most
    maximum = running if view is None else view.spec.max_replicas
    if level.unsure:
        last = (0.0, -float("inf")) if before is None else (before.deficit, before.at)
        return Claim(running, maximum, rules.max.ceiling, last[0], last[1], policy.spec.interval)
    over = 0.0 if level.latency is None else level.latency / policy.spec.slo.latency - 1.0
    # A backlog hides behind the limit: response times need not show it.
    lacks = over if over > 0.0 else 1.0 if asks else 0.0
    deficit = 0.0 if futile else min(lacks, WORST)
    return Claim(running, maximum, rules.max.ceiling, deficit, service.at, policy.spec.interval)


def grants(budgets: Sequence[Budget], claims: Mapping[str, Claim | None], at: float) -> dict[str, Grant]:
    """What each policy in a budget may have at that instant; policies in none are left out."""
    found: dict[str, Grant] = {}
    for budget in budgets:
        seats = [_seat(share, claims.get(share.policy), at) for share in budget.spec.policies]
        entitled = _entitled(seats, budget.spec.units)
        used = sum(s.share.cost * s.claim.running for s in seats if s.claim is not None)
        # Unless it is known what everybody holds, nothing is free.
        known = all(s.claim is not None for s in seats)
        free = budget.spec.units - sum(s.share.cost * s.stands for s in seats) if known else 0
        for seat in sorted(seats, key=lambda s: (-s.weight, s.key)):
            replicas = _granted(seat, entitled[seat.key], free)
            free -= seat.share.cost * max((replicas or 0) - seat.stands, 0)
            words = f"budget {budget.metadata.name}: {used} of {budget.spec.units} in use, {_words(seat, replicas)}"
            found[seat.key] = Grant(replicas, seat.guaranteed, words)
    return found


def frozen_grants(budgets: Sequence[Budget]) -> dict[str, Grant]:
    """Everybody keeps what it has: for when nothing can be reckoned."""
    shares = [(budget, share) for budget in budgets for share in budget.spec.policies]
    return {s.policy: Grant(None, _least(s), f"budget {b.metadata.name}: keeps what it has") for b, s in shares}


def within(rules: Scaling, grant: Grant | None, stands: int | None) -> Scaling:
    """The policy's rules with its ranges inside the grant. `stands`: maxReplicas now; None without an HPA."""
    if grant is None:
        return rules
    most = max(stands or 0, grant.least) if grant.replicas is None else grant.replicas
    most = max(most, rules.min.floor, 1)
    low, high = rules.min, rules.max
    return rules.model_copy(
        update={
            "min": low.model_copy(update={"ceiling": min(low.ceiling, most)}),
            "max": high.model_copy(update={"floor": min(high.floor, most), "ceiling": min(high.ceiling, most)}),
        }
    )


def _least(share: Share) -> int:
    """What is guaranteed; loading fills it in from the policy, which may have a floor of 0."""
    return 1 if share.guaranteed is None else share.guaranteed


def _seat(share: Share, held: Claim | None, at: float) -> _Seat:
    fresh = held is not None and at - held.at <= FRESH_INTERVALS * held.interval
    return _Seat(share, held, fresh)


def _entitled(seats: Sequence[_Seat], units: int) -> dict[str, int]:
    """Replicas for each, whole, together within the units unless what is held already is more."""
    low, high = {s.key: s.low() for s in seats}, {s.key: s.high() for s in seats}
    if sum(low.values()) >= units:
        exact = low
    elif sum(high.values()) <= units:
        exact = high
    else:
        exact = project({s.key: s.weight for s in seats}, low, high, float(units))
    whole = {s.key: max(int(exact[s.key] / s.share.cost + CLOSE), int(s.low()) // s.share.cost) for s in seats}
    rest = units - sum(whole[s.key] * s.share.cost for s in seats)
    # What rounding left over, one replica at a time, to who lacks the most of one.
    for seat in sorted(seats, key=lambda s: (whole[s.key] - exact[s.key] / s.share.cost, -s.weight, s.key)):
        if seat.share.cost <= rest and (whole[seat.key] + 1) * seat.share.cost <= seat.high() + CLOSE:
            whole[seat.key] += 1
            rest -= seat.share.cost
    return whole


def _granted(seat: _Seat, entitled: int, free: int) -> int | None:
    if seat.claim is None:
        return None
    if not seat.fresh:
        return max(seat.stands, seat.guaranteed)
    if entitled <= seat.stands:
        return max(entitled, seat.guaranteed)
    room = max(free, 0) // seat.share.cost
    return max(min(entitled, seat.stands + room), seat.guaranteed)


def _words(seat: _Seat, replicas: int | None) -> str:
    if replicas is None:
        return "keeps what it has until that is known"
    if not seat.fresh:
        return f"keeps {replicas} while its data are not fresh"
    deficit = seat.claim.deficit if seat.claim is not None else 0.0
    return f"granted {replicas} (deficit {deficit:.2g} x priority {seat.share.priority:g})"
