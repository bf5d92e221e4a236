"""From capacities to a ranking: who gets which share of the new requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, fsum, log

from controller.decide import capacity, outliers, stability
from controller.decide.capacity import Capacity
from controller.decide.facts import NOTHING, Facts, facts_of
from controller.decide.gaps import WEIGHED, named
from controller.decide.members import Member
from controller.decide.rows import changes_of, rows_of
from controller.decide.shares import fill, project
from controller.decide.stability import Loop
from controller.model.breakdown import Breakdown
from controller.model.memory import InstanceMemory, Memory
from controller.model.plan import Change, Hold, RankedEndpoint, Stability
from controller.model.snapshot import ServiceSnapshot
from controller.policy.schema import LoadPolicy, Routing

LEAST_FLOOR = 0.01
"""Floor of the floor, as a share of an equal share: who gets nothing can never be measured again."""
MEMORY_FULL, MEMORY_LEAST = 0.9, 0.5
"""Memory use, ratio of the limit, from which an instance gets less, and the least factor, reached at the limit."""
SLOW_START_LEAST = 0.1
"""What a new instance's weight begins with, as a share of its own (Envoy's default too)."""
PILED_UP = 2.0
"""So many times its share by capacity inside an instance is a backlog to spread requests around."""
NOTED = 0.05
"""A factor that changes a weight by less is left out of the reasons."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What routing decided. `endpoints` None means that the ranking that stands must stay.

    `memories` are the members' memories after this tick, also for a policy without routing. `suspects` are slow or failing
    for reasons of their own: the service level of the fleet is not theirs.
    """

    endpoints: tuple[RankedEndpoint, ...] | None
    memories: Mapping[str, InstanceMemory]
    panic: bool = False
    changes: tuple[Change, ...] = ()
    holds: tuple[Hold, ...] = ()
    suspects: frozenset[str] = frozenset()
    stability: Stability | None = None
    moves: Mapping[str, float] = field(default_factory=dict)
    gain: float = 1.0
    breakdown: Breakdown | None = None


def rank(
    policy: LoadPolicy,
    service: ServiceSnapshot,
    fleet: tuple[Member, ...],
    standing: Mapping[str, float],
    memory: Memory,
) -> Ranking:
    """The ranking of this tick: weights ∝ capacity, above a floor, moved by a bounded share, outliers at the floor.

    Args:
        policy: whose `routing` section rules; without one only memories are updated.
        service: what is known now.
        fleet: its members.
        standing: the weights that clients use now, by instance.
        memory: what is remembered of the fleet as a whole.
    """
    trusted = service.metrics_problem is None
    spec = policy.spec
    slots = None if spec.concurrency is None else spec.concurrency.perInstance
    facts = {m.name: facts_of(m.seen, slots, m.memory.known) for m in fleet if m.seen is not None}
    little = capacity.is_little(facts)
    window = spec.signals.window
    # Sums over some of the series are too small, so a partial answer teaches nothing.
    learnt = capacity.learn(fleet, facts, window, service.at, little=little) if trusted else {}
    if spec.routing is None:
        return Ranking(None, capacity.remember(fleet, facts, learnt, service.at), gain=memory.gain)
    verdicts = outliers.judge(policy, fleet, facts, learnt, service.at, trusted=trusted)
    stay = Ranking(None, verdicts.memories, verdicts.panic, suspects=verdicts.suspects, gain=memory.gain)
    every = [m for m in fleet if m.routable]
    nowhere = [m for m in every if m.memory.endpoint is None]
    lost = [m.name for m in nowhere if m.prior]
    if lost:
        reason = f"the address of {', '.join(lost)} is not known now; the last ranking stands"
        return _held(stay, Hold("weights", reason))
    routable = tuple(m for m in every if m.memory.endpoint is not None) if nowhere else tuple(every)
    holds = tuple(Hold(f"weight {m.name}", "its address is not known") for m in nowhere)
    if not routable:
        reason = "no instance is ready" if fleet else "no instance is known"
        return _held(stay, *holds, Hold("weights", reason))
    here = verdicts.memories if len(routable) == len(fleet) else {m.name: verdicts.memories[m.name] for m in routable}
    capacities = capacity.estimate(here, service.at)
    whole = len(routable) == len(facts) == len(fleet)
    serving = facts if whole else {m.name: facts.get(m.name, NOTHING) for m in routable}
    loop = stability.loop(serving, spec.interval, window, memory.gain, little=little)
    weighing = _Weighing(
        rules=spec.routing,
        routable=routable,
        capacities=capacities,
        verdicts=verdicts,
        facts=serving,
        loop=loop,
        now=service.at,
    )
    weights = weighing.weights(trusted=trusted)
    rows = rows_of(fleet, service, facts, weights=weights, reasons=weighing.reasons, shed=verdicts.shed)
    if not trusted:
        holds += (Hold("weights", f"metrics: {service.metrics_problem}; the last weights stand"),)
    if verdicts.overload:
        holds += (Hold("shedding", verdicts.overload),)
    moves = stability.moves_of(standing, weights)
    swing = stability.swing_of(memory, weights, moves)
    herding = stability.herding_of(serving, standing, window) if trusted else None
    judged = stability.report(loop, swing, herding)
    return Ranking(
        rows,
        verdicts.memories,
        verdicts.panic,
        changes_of(standing, rows),
        (*holds, *(Hold("stability", finding) for finding in judged.findings)),
        verdicts.suspects,
        judged,
        moves,
        stability.next_gain(memory.gain, swing),
        weighing.breakdown(standing, weights),
    )


def _held(stay: Ranking, *holds: Hold) -> Ranking:
    return Ranking(None, stay.memories, stay.panic, holds=holds, suspects=stay.suspects, gain=stay.gain)


class _Weighing:
    """One computation of weights, and for each instance what made its weight, in numbers."""

    def __init__(
        self,
        *,
        rules: Routing,
        routable: tuple[Member, ...],
        capacities: Mapping[str, Capacity],
        verdicts: outliers.Verdicts,
        facts: Mapping[str, Facts],
        loop: Loop,
        now: float,
    ) -> None:
        self._rules = rules
        self._routable = routable
        self._verdicts = verdicts
        self._facts = facts
        self._loop = loop
        self._equal = 1.0 / len(routable)
        self._floor = max(rules.floor, LEAST_FLOOR) * self._equal
        self.reasons = {name: c.why for name, c in capacities.items()}
        self._ramps = _ramps(routable, rules.slowStart, now)
        self._capacities = capacities
        self._aims, self._shares = self._aimed(capacities)
        self._targets = self._poured(self._aims, self._shares)
        self._low: dict[str, float] = {}
        self._high: dict[str, float] = {}

    def breakdown(self, standing: Mapping[str, float], weights: Mapping[str, float]) -> Breakdown:
        """What made the weights, as data."""
        return Breakdown(
            measured=self._facts,
            capacity={name: c.value for name, c in self._capacities.items()},
            slow_start=self._ramps,
            aims=self._aims,
            by_capacity=self._shares,
            by_backlog=self._targets,
            floor=self._floor,
            gain=self._loop.gain,
            before=standing,
            weight=weights,
            low=self._low,
            high=self._high,
        )

    def weights(self, *, trusted: bool) -> dict[str, float]:
        """The new weights, which sum to 1."""
        base, new = self._base()
        if not trusted:
            return project(base, base, base, 1.0)
        if self._verdicts.panic:
            self.reasons = dict.fromkeys(base, "panic: more than half of the instances are failing; all are equal")
            return dict.fromkeys(base, self._equal)
        fixed = {name: self._floor for name in self._verdicts.shed if name in base}
        fixed |= self._stale(base, new, fixed)
        free = [name for name in base if name not in fixed]
        if not free:
            return project(fixed, fixed, fixed, 1.0)
        rest = 1.0 - fsum(fixed.values())
        if not any(m.prior for m in self._routable):
            low, high = dict.fromkeys(free, self._floor), dict.fromkeys(free, 1.0)
            return {**fixed, **project({name: self._targets[name] for name in free}, low, high, rest)}
        return {**fixed, **self._step({name: base[name] for name in free}, new, rest)}

    def _aimed(self, capacities: Mapping[str, Capacity]) -> tuple[dict[str, float], dict[str, float]]:
        """Capacities less penalties, and the same as shares of 1."""
        aims = {}
        for name, c in capacities.items():
            value, f, why = c.value, self._facts[name], ""
            if f.errors is not None and f.errors >= NOTED:
                why += f", errors {f.errors:.0%}"
            if f.memory is not None and f.memory > MEMORY_FULL:
                value *= max(1.0 - (f.memory - MEMORY_FULL) / (1.0 - MEMORY_FULL) * (1.0 - MEMORY_LEAST), MEMORY_LEAST)
                why += f", memory {f.memory:.0%} full"
            if f.gaps:
                why += f", {named(f.gaps)} not known now"
            ramp = self._ramps.get(name)
            if ramp is not None:
                value *= ramp
                why += f", slow start {ramp:.0%}"
            aims[name] = value
            if why:
                self.reasons[name] += why
        whole = fsum(aims.values())
        shares = (
            {name: value / whole for name, value in aims.items()} if whole > 0.0 else dict.fromkeys(aims, self._equal)
        )
        return aims, shares

    def _poured(self, aims: Mapping[str, float], shares: dict[str, float]) -> dict[str, float]:
        """Water-filling while the backlogs are young: requests to come go where the least waits for the capacity."""
        rate, backlog = self._loop.rate, self._loop.backlog
        if not rate or backlog is None or min(aims.values()) <= 0.0:
            return shares
        amount = rate * self._loop.horizon_seconds
        # What everybody has inside in proportion is no backlog; clients that share their counts see to small differences.
        per_capacity = PILED_UP * backlog / fsum(aims.values())
        inside = {name: self._facts[name].in_flight or 0.0 for name in aims}
        piled = dict.fromkeys(aims, 0.0)
        piled |= {name: over for name, aim in aims.items() if (over := inside[name] - per_capacity * aim) > 0.0}
        if not any(piled.values()):
            return shares
        poured = fill(aims, piled, amount)
        for name, share in shares.items():
            change = poured[name] / amount / share - 1.0
            if abs(change) >= NOTED:
                self.reasons[name] += f", backlog {inside[name]:.0f} {change:+.0%}"
        return {name: value / amount for name, value in poured.items()}

    def _base(self) -> tuple[dict[str, float], frozenset[str]]:
        """The weights that stand, renormalised over who is here now, and who is new: they enter at most at the mean."""
        # Who is taken back from shedding because it is needed enters like a new one: by steps it would come too late.
        priors = {m.name: m.prior for m in self._routable if m.prior and m.name not in self._verdicts.released}
        if not priors:
            return dict(self._targets), frozenset(self._targets)
        entering = {name: min(t, self._equal) for name, t in self._targets.items() if name not in priors}
        left = 1.0 - fsum(entering.values())
        whole = fsum(priors.values())
        return {**{name: prior / whole * left for name, prior in priors.items()}, **entering}, frozenset(entering)

    def _stale(self, base: Mapping[str, float], new: frozenset[str], fixed: Mapping[str, float]) -> dict[str, float]:
        """Who keeps the weight that stands for want of data.

        Unless everybody else would have to go below the floor for it, or it came back from shedding in silence: then it is
        tried again with up to half a share.
        """
        stale = {
            name: base[name]
            for name, f in self._facts.items()
            if f.dark and name not in fixed and name not in new
            if base[name] >= 0.5 * min(self._targets[name], self._equal)
        }
        left = len(base) - len(fixed) - len(stale)
        return stale if 1.0 - fsum(fixed.values()) - fsum(stale.values()) >= self._floor * left else {}

    def _step(self, base: Mapping[str, float], new: frozenset[str], rest: float) -> dict[str, float]:
        """From what stands towards the targets by the loop's gain, at most by `maxChange`, never below the floor."""
        share = fsum(base.values())
        aimed = fsum(self._targets[name] for name in base)
        slack, gain, floor = self._rules.maxChange, self._loop.gain, self._floor
        low, high, aims = {}, {}, {}
        targets, ramps = self._targets, self._ramps
        # What would speak against them may be what is missing.
        gapped = {name for name, f in self._facts.items() if f.gaps and not WEIGHED.isdisjoint(f.gaps)}
        for name, before in base.items():
            anchor = before / share * rest if share > 0.0 else rest / len(base)
            aim = targets[name] / aimed * rest if aimed > 0.0 else anchor
            if gain < 1.0 and aim > 0.0 and anchor > 0.0:
                aim = anchor * exp(gain * log(aim / anchor))
            least, most = anchor * (1.0 - slack), anchor if name in new or name in gapped else anchor * (1.0 + slack)
            if name in ramps and name not in new and name not in gapped:
                # Its ramp is its bound: steps from a tenth would take twice as long as the ramp.
                most = max(most, aim)
            low[name] = max(floor, least)
            high[name] = max(floor, most)
            aims[name] = aim
        if fsum(low.values()) > rest:
            low = dict.fromkeys(base, floor)
        self._low, self._high = low, high
        found = project(aims, low, high, rest)
        for name, weight in found.items():
            if aims[name] < floor and weight <= floor * 1.001:
                self.reasons[name] += ", at the floor"
            elif abs(weight - aims[name]) > NOTED * aims[name]:
                self.reasons[name] += ", in steps"
        return found


def _ramps(routable: tuple[Member, ...], window: float, now: float) -> dict[str, float]:
    """The slow-start factor of who began to serve within the window; nothing when all did, as it would change nothing."""
    young = {
        m.name: max(SLOW_START_LEAST, (now - m.memory.serving_since) / window)
        for m in routable
        if m.memory.serving_since is not None and 0.0 <= now - m.memory.serving_since < window
    }
    return young if len(young) < len(routable) else {}
