"""A drill: what a policy would do while its systems fail, on healthy synthetic snapshots broken in one way at a time.

Pure: no network, no clock. A fleet that has been calm for long enough to be given less stands in for the user's; in the control
run its bounds do fall, so that a bound that stays in a fault has been held, not merely left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf

from controller.decide.budget import Grant, grants
from controller.decide.decide import decide
from controller.model.memory import Claim, Memory, frozen
from controller.model.plan import Plan
from controller.model.sample import Absent, Fresh, Invalid, Sample, Signal, Stale
from controller.model.snapshot import (
    HpaSpec,
    HpaView,
    Instance,
    Known,
    NotAsked,
    Published,
    QueueView,
    Reading,
    ResourceTarget,
    ScaleView,
    ServiceSnapshot,
    Unknown,
)
from controller.policy.budget import Budget, Share
from controller.policy.presets import load_preset
from controller.policy.schema import LoadPolicy, Scaling

BEGUN = 1_700_000_000.0
INSTANCES = 4
SLACK = 1e-6
AFTER = 2
"""Ticks with whole data after the fault in which nothing may fall either: calm begins anew."""
NEIGHBOUR_CEILING = 100_000
"""Those who share its budget would use any number of replicas."""

Break = Callable[[ServiceSnapshot], ServiceSnapshot]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break a snapshot.

    Args:
        writes: whether the API server takes writes meanwhile.
        publishes: whether Redis does.
        skew_seconds: how far the controller's clock goes wrong meanwhile.
        whole: whether all data are there nevertheless: then bounds may fall as they do in the control run.
    """

    name: str
    spoil: Break
    writes: bool = True
    publishes: bool = True
    skew_seconds: float = 0.0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one fault did to one policy: `fell` names each number that went down, with its values; empty is well."""

    policy: str
    fault: str
    minimum: tuple[int, int] | None
    maximum: tuple[int, int] | None
    limit: tuple[int, int] | None
    weight: tuple[float, float] | None
    """The weight that fared worst: when the fault began, and at its least."""
    fell: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Standing:
    """Bounds, limit and weights at one time, or the least of each over some time."""

    minimum: int | None
    maximum: int | None
    limit: int | None
    weights: dict[str, float]

    def least(self, other: _Standing) -> _Standing:
        """The least of both, number by number. A weight that is gone is none."""
        return _Standing(
            _lower(self.minimum, other.minimum),
            _lower(self.maximum, other.maximum),
            _lower(self.limit, other.limit),
            {name: min(weight, other.weights.get(name, 0.0)) for name, weight in self.weights.items()},
        )


@dataclass(slots=True)
class _World:
    """What stands, and what is carried out."""

    policy: LoadPolicy
    spec: HpaSpec | None
    budgets: Sequence[Budget] = ()
    at: float = BEGUN
    memory: Memory = field(default_factory=Memory)
    said: Published | None = None

    def tick(self, fault: Fault | None = None) -> Plan:
        """One tick: observe, decide, carry out as far as the fault allows."""
        snapshot = self._healthy()
        if fault is not None:
            snapshot = fault.spoil(replace(snapshot, at=snapshot.at + fault.skew_seconds))
        plan, self.memory = decide(self.policy, snapshot, self.memory, self._grant(snapshot.at))
        if plan.hpa is not None and (fault is None or fault.writes):
            self.spec = plan.hpa.after
        if plan.publish is not None and (fault is None or fault.publishes):
            rows = plan.publish.endpoints
            weights = {row.instance: row.weight for row in rows} if rows else self._weights()
            seq = 1 if self.said is None else self.said.seq + 1
            self.said = Published(seq, 1, plan.publish.limit, frozen(weights), snapshot.at)
        self.at += self.policy.spec.interval
        return plan

    def standing(self) -> _Standing:
        """What stands now."""
        spec, limit = self.spec, None if self.said is None else self.said.limit
        if spec is None:
            return _Standing(None, None, limit, self._weights())
        return _Standing(spec.min_replicas, spec.max_replicas, limit, self._weights())

    def _grant(self, at: float) -> Grant | None:
        """What is left to it by neighbours that are well, hold what they run, and ask for all there is."""
        claims: dict[str, Claim | None] = {
            share.policy: Claim(_least(share), _least(share), NEIGHBOUR_CEILING, 1.0, at, self.policy.spec.interval)
            for budget in self.budgets
            for share in budget.spec.policies
        }
        return grants(self.budgets, {**claims, self.policy.key: self.memory.claim}, at).get(self.policy.key)

    def _weights(self) -> dict[str, float]:
        return {} if self.said is None else dict(self.said.weights)

    def _healthy(self) -> ServiceSnapshot:
        spec = self.policy.spec
        scaled = spec.scaling is not None
        hpa: Reading[HpaView | None] = NotAsked()
        if self.spec is not None:
            hpa = Known(HpaView(self.spec, current_replicas=INSTANCES, desired_replicas=INSTANCES, adopted=True))
        queued = spec.concurrency is not None
        return ServiceSnapshot(
            policy=self.policy.key,
            at=self.at,
            instances=tuple(_instance(self.policy, f"drill-{n}") for n in range(INSTANCES)),
            hpa=hpa,
            scale=Known(ScaleView(INSTANCES, INSTANCES)) if scaled else NotAsked(),
            published=Known(self.said),
            queue=Known(QueueView(0, INSTANCES)) if queued else NotAsked(),
        )


def drill(policy: LoadPolicy, budgets: Sequence[Budget] = ()) -> list[Verdict]:
    """Every fault against one policy; `budgets` are those in force."""
    return [_run(policy, budgets, fault) for fault in faults(policy)]


def control(policy: LoadPolicy, budgets: Sequence[Budget] = ()) -> tuple[str, ...]:
    """What falls while nothing is wrong: the numbers whose holding the drill can prove. Empty without room to fall."""
    world, ticks = _calm(policy, budgets)
    before = world.standing()
    for _ in range(ticks):
        world.tick()
    return _fell(before, world.standing())


def faults(policy: LoadPolicy) -> list[Fault]:
    """Every fault, those of single signals as the policy defines them."""
    absent, nan, stale = Absent("drill"), Invalid("not a finite number: nan"), Stale(0.0, 1e6)
    signals = sorted(_defined(policy))
    return [
        Fault("Prometheus down", lambda s: replace(_all(s, absent), metrics_problem="connection refused")),
        Fault("Prometheus partial", lambda s: replace(_half(s, absent), metrics_problem="partial answer")),
        Fault("Prometheus empty", lambda s: _all(s, absent)),
        Fault("every sample NaN", lambda s: _all(s, nan)),
        Fault("every sample stale", lambda s: _all(s, stale)),
        Fault("one instance silent", lambda s: _one(s, absent)),
        Fault("one instance stale", lambda s: _one(s, stale)),
        *(Fault(f"no {name.value} from one instance", _lacking(name, all_of_them=False)) for name in signals),
        *(Fault(f"no {name.value} at all", _lacking(name, all_of_them=True)) for name in signals),
        Fault("clock 1 h ahead", lambda s: _all(s, Stale(0.0, 3600.0)), skew_seconds=3600.0),
        Fault("clock 1 h behind", lambda s: s, skew_seconds=-3600.0, whole=True),
        Fault("Kubernetes 429", _without_kubernetes, writes=False),
        Fault("Kubernetes 409 on writes", lambda s: s, writes=False, whole=True),
        Fault("Redis down", _without_redis, publishes=False),
        Fault("Redis restarted empty", lambda s: replace(s, published=Known(None)), publishes=False, whole=True),
        Fault("everything down", _nothing, writes=False, publishes=False),
    ]


def _run(policy: LoadPolicy, budgets: Sequence[Budget], fault: Fault) -> Verdict:
    world, ticks = _calm(policy, budgets)
    before = least = world.standing()
    for tick in range(ticks + AFTER):
        world.tick(fault if tick < ticks else None)
        stands = world.standing()
        # On whole data again, what stands above a grant may be lowered: that is not for want of data.
        if tick >= ticks and world.budgets:
            stands = replace(stands, minimum=before.minimum, maximum=before.maximum)
        # What falls and comes back has fallen.
        least = least.least(stands)
    worst = min(before.weights, key=lambda name: least.weights[name] - before.weights[name], default=None)
    return Verdict(
        policy.key,
        fault.name,
        _pair(before.minimum, least.minimum),
        _pair(before.maximum, least.maximum),
        _pair(before.limit, least.limit),
        None if worst is None else (before.weights[worst], least.weights[worst]),
        _fell(before, least, bounds=not fault.whole),
    )


def _calm(policy: LoadPolicy, budgets: Sequence[Budget]) -> tuple[_World, int]:
    """A fleet just before its bounds are due to fall, and for how many ticks to watch it."""
    scaling = policy.spec.scaling
    shared = [budget for budget in budgets if any(share.policy == policy.key for share in budget.spec.policies)]
    spec = None if scaling is None else _roomy(scaling, _most(policy.key, shared))
    world = _World(policy, spec, shared)
    wait = 300.0 if scaling is None else max(scaling.steps.lowerEvery, 60.0)
    ticks = ceil(wait / policy.spec.interval)
    for _ in range(ticks):
        world.tick()
    return world, 2 * ticks


def _most(key: str, shared: Sequence[Budget]) -> float:
    """The highest maxReplicas that a budget could ever give it: all but what is guaranteed to others."""
    most = inf
    for budget in shared:
        others = sum(_least(share) * share.cost for share in budget.spec.policies if share.policy != key)
        cost = next(share.cost for share in budget.spec.policies if share.policy == key)
        most = min(most, max((budget.spec.units - others) // cost, INSTANCES))
    return most


def _least(share: Share) -> int:
    return 1 if share.guaranteed is None else share.guaranteed


def _roomy(rules: Scaling, most: float) -> HpaSpec:
    """Bounds with room to fall: above their floors as far as policy and budget allow, and max above what runs."""
    targets = [("cpu", rules.cpu), ("memory", rules.memory)]
    low, high = int(min(rules.min.ceiling, most)), int(min(rules.max.ceiling, most))
    named = tuple(ResourceTarget(name, section.target) for name, section in targets if section is not None)
    return HpaSpec(rules.target.kind, rules.target.name, min(low, high), high, named)


def _fell(before: _Standing, least: _Standing, *, bounds: bool = True) -> tuple[str, ...]:
    numbers = [("limit", before.limit, least.limit)]
    if bounds:
        numbers += [("minReplicas", before.minimum, least.minimum), ("maxReplicas", before.maximum, least.maximum)]
    found = [
        f"{name} {old} -> {new}" for name, old, new in numbers if old is not None and new is not None and new < old
    ]
    found += [
        f"weight {name} {old:.3g} -> {least.weights[name]:.3g}"
        for name, old in before.weights.items()
        if least.weights[name] < old * (1.0 - SLACK)
    ]
    return tuple(found)


def _pair(before: int | None, least: int | None) -> tuple[int, int] | None:
    return None if before is None or least is None else (before, least)


def _lower(one: int | None, other: int | None) -> int | None:
    return min((n for n in (one, other) if n is not None), default=None)


def _defined(policy: LoadPolicy) -> frozenset[Signal]:
    preset = policy.spec.signals.preset
    return frozenset(policy.spec.signals.custom()) | (
        frozenset() if preset is None else load_preset(preset).queries.keys()
    )


def _instance(policy: LoadPolicy, name: str) -> Instance:
    slo = policy.spec.slo
    well = {
        Signal.LATENCY: 0.3 * slo.latency,
        Signal.LATENCY_QUANTILE: 0.5 * slo.latency,
        Signal.RATE: 10.0,
        Signal.ERRORS: 0.0,
        Signal.CPU: 0.1,
        Signal.MEMORY: 0.4,
        Signal.UTILISATION: 0.1,
        Signal.IN_FLIGHT: 1.0,
        Signal.QUEUE: 0.0,
    }
    signals: dict[Signal, Sample] = {signal: Fresh(well[signal], 1.0) for signal in _defined(policy)}
    return Instance(name, f"http://{name}:8000", frozen(signals), ready=True, uid=name)


def _spoilt(instance: Instance, sample: Sample) -> Instance:
    def said(before: Sample) -> Sample:
        if isinstance(sample, Stale) and isinstance(before, Fresh | Stale):
            return Stale(before.value, sample.age_seconds)
        return sample

    return replace(instance, signals=frozen({signal: said(before) for signal, before in instance.signals.items()}))


def _all(service: ServiceSnapshot, sample: Sample) -> ServiceSnapshot:
    return replace(service, instances=tuple(_spoilt(i, sample) for i in service.instances))


def _half(service: ServiceSnapshot, sample: Sample) -> ServiceSnapshot:
    return replace(
        service, instances=tuple(_spoilt(i, sample) if n % 2 else i for n, i in enumerate(service.instances))
    )


def _one(service: ServiceSnapshot, sample: Sample) -> ServiceSnapshot:
    first, *others = service.instances
    return replace(service, instances=(_spoilt(first, sample), *others))


def _lacking(signal: Signal, *, all_of_them: bool) -> Break:
    def spoil(service: ServiceSnapshot) -> ServiceSnapshot:
        lacking = tuple(
            replace(i, signals=frozen({**i.signals, signal: Absent("drill")})) if all_of_them or not n else i
            for n, i in enumerate(service.instances)
        )
        return replace(service, instances=lacking)

    return spoil


def _without_kubernetes(service: ServiceSnapshot) -> ServiceSnapshot:
    throttled = Unknown("429 Too Many Requests")
    return replace(
        service,
        instances=tuple(replace(i, endpoint=None, ready=None, uid=None) for i in service.instances),
        instances_complete=False,
        hpa=service.hpa if isinstance(service.hpa, NotAsked) else throttled,
        scale=service.scale if isinstance(service.scale, NotAsked) else throttled,
    )


def _without_redis(service: ServiceSnapshot) -> ServiceSnapshot:
    down = Unknown("connection refused")
    return replace(service, published=down, queue=service.queue if isinstance(service.queue, NotAsked) else down)


def _nothing(service: ServiceSnapshot) -> ServiceSnapshot:
    dark = replace(service, instances=(), metrics_problem="connection refused")
    return _without_redis(_without_kubernetes(dark))
