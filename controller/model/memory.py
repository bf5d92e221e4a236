"""What decide() remembers between ticks for one policy. A lost memory is a slower controller, never an unsafe one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from controller.model.limiter import LimiterMemory
from controller.model.sample import Signal
from controller.model.traffic import Arrivals, ForecastMemory, Lessons, Standing

Rates = tuple[tuple[float, Mapping[str, float]], ...]
"""(seconds since the epoch, requests/s by instance), the oldest first."""

K = TypeVar("K")
V = TypeVar("V")


def frozen(mapping: Mapping[K, V]) -> Mapping[K, V]:
    """A read-only copy, so that a memory handed on cannot be changed behind anybody's back."""
    return MappingProxyType(dict(mapping))


@dataclass(slots=True)
class InstanceMemory:
    """What is remembered of one instance; dropped when its pod becomes another pod (`uid`).

    A value: nobody changes one that exists. Not frozen, because a frozen one takes four times as long to make, and each tick
    makes 20,000 in a large fleet.

    Args:
        capacity: requests/s it can serve, last estimate; None until one was made.
        capacity_at: when, seconds since the epoch.
        latency: last known mean response time, seconds.
        over_since: since when its response time is over the threshold without a break; None when it is not.
        shedding: whether it now hands its new requests to others.
        calm_since: since when, while shedding, its response time is below the recovery level; None when it is not.
        first_seen: when the controller first saw it, for slow start.
        endpoint: how clients reach it, last known, so that a Kubernetes outage takes nobody out of the ranking.
        routable: whether its pod was ready and not terminating when last known.
        latency_at: when `latency` was measured: a streak of slow samples does not span a long gap.
        failing_since: since when its error ratio is over the failure level without a break.
        samples: requests that `capacity` rests on; None when not counted.
        serving_since: when it was first seen ready, for slow start; None when it served before this memory began.
        shed_since: since when it is shed, this time.
        sheddings: how often it was shed in a row; each doubles how long it stays so at the least.
        known: the signals that it has ever told: one of them that goes missing is a gap, not a zero.
        dark_at: when it was last without a fresh request rate; None when it never was.
    """

    uid: str | None = None
    capacity: float | None = None
    capacity_at: float | None = None
    latency: float | None = None
    over_since: float | None = None
    shedding: bool = False
    calm_since: float | None = None
    first_seen: float | None = None
    endpoint: str | None = None
    routable: bool | None = None
    latency_at: float | None = None
    failing_since: float | None = None
    samples: float | None = None
    serving_since: float | None = None
    shed_since: float | None = None
    sheddings: int = 0
    known: frozenset[Signal] = frozenset()
    dark_at: float | None = None


@dataclass(frozen=True, slots=True)
class UtilisationEvidence:
    """At which utilisations of an instance the SLO held or broke, one entry per bin of equal width from 0.

    Args:
        held: seconds for which it held, faded with time; likewise `broken`.
        latency: response time ÷ the SLO, × the seconds it was seen for, likewise.
        at: when it was last brought up to date.
    """

    held: tuple[float, ...]
    broken: tuple[float, ...]
    latency: tuple[float, ...]
    at: float


@dataclass(frozen=True, slots=True)
class Warmed:
    """One pod that came: how long from its creation to serving, and whether its whole way was watched."""

    uid: str
    created_at: float
    seconds: float
    watched: bool


@dataclass(frozen=True, slots=True)
class WarmUps:
    """What is known of how long pods take to serve.

    Args:
        pods: the newest that came, oldest first.
        watched: uids of those seen from their first moment that do not serve yet.
        at: the last tick that knew every pod.
    """

    pods: tuple[Warmed, ...] = ()
    watched: frozenset[str] = frozenset()
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Turns:
    """Where a bound of the HPA last went, +1 up, -1 down, 0 not known, and when it changed that within the last hour."""

    direction: int = 0
    at: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """A raise under pressure, and what it has changed so far.

    Args:
        replicas: ready before it.
        latency: mean response time of the fleet before it, seconds, and `rate` its requests/s, over `base_ticks` ticks.
        grown_at: since when clearly more replicas serve without a break; None while they do not.
        late_latency: as `latency`, and `late_rate` as `rate`, once the new ones have settled in, over `ticks` ticks.
    """

    replicas: int
    latency: float | None
    rate: float
    base_ticks: int = 0
    grown_at: float | None = None
    late_latency: float | None = None
    late_rate: float = 0.0
    ticks: int = 0


@dataclass(frozen=True, slots=True)
class Futility:
    """Whether more replicas have helped of late.

    Args:
        trial: the raise that is being judged.
        until: raises by pressure are held until then; None when they are not.
        held_rate: requests/s when that began: far more than it is new demand.
        rounds: verdicts in a row, each of which doubles the wait.
        why: the last verdict in words.
        replicas: how many did as well before the raise that did not help.
        eased_at: since when nothing asks for more replicas; None while something does.
        idle_latency: the least that a request took at little load, seconds, over `idle_ticks` ticks, the last at `idle_at`.
    """

    trial: Trial | None = None
    until: float | None = None
    held_rate: float | None = None
    rounds: int = 0
    why: str = ""
    replicas: int | None = None
    eased_at: float | None = None
    idle_latency: float | None = None
    idle_at: float | None = None
    idle_ticks: int = 0


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is known of the HPA's CPU target, percent of the request. Losing it costs a day of watching.

    Args:
        since: when this memory first saw the target.
        stands: the target when last seen, at the instant `at`.
        moved_at: when it last moved.
        good: the target before the last raise; None after a lowering.
        held: seconds near the target with the SLO kept since it moved; `tight` just kept, `broken` not kept.
        broken_since: since when it is broken without a break.
        barred_from: the target that broke the SLO; none as high is tried before `barred_until`.
        cool_down: how long the last bar was, seconds; the next one is twice as long.
    """

    since: float | None = None
    stands: int | None = None
    at: float | None = None
    moved_at: float | None = None
    good: int | None = None
    held: float = 0.0
    tight: float = 0.0
    broken: float = 0.0
    broken_since: float | None = None
    barred_from: int | None = None
    barred_until: float | None = None
    cool_down: float = 0.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What a policy holds of a shared budget, and how much it lacks.

    Args:
        running: replicas, the most of all accounts.
        maximum: maxReplicas as it stands.
        ceiling: the highest maxReplicas that its policy allows.
        deficit: how far the SLO is broken for want of replicas: 0 is kept, 1 is twice the response time.
        at: when that was last known from whole data, seconds since the epoch.
        interval: seconds between two of its ticks.
    """

    running: int
    maximum: int
    ceiling: int
    deficit: float
    at: float
    interval: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one policy.

    Args:
        weights: by instance name, as last published.
        limit: as last published.
        breach_since: since when the SLO is breached without a break.
        limit_changed_at: when the limit last moved, seconds since the epoch.
        min_changed_at: when minReplicas was last seen to move, whoever moved it; likewise the others. Taken from what the
            API server holds, not from what was planned, so that a failed write or a dry run costs no waiting time.
        ready_instances: how many were ready when last known.
        at: the instant of the last tick.
        hpa_min: minReplicas when last seen; likewise hpa_max.
        hpa_seen_at: when this memory first saw the HPA: nothing is lowered before the lowering time has passed since.
        pressure_since: since when demand asks for more replicas without a break.
        calm_since: since when fresh data say that nothing is wrong, without a break.
        arrivals: the fleet's request rate, for the floor from demand.
        lessons: what an earlier run has learned of the traffic, to begin `arrivals` with.
        lately: the rates of the last ticks, for as long as the CPU covers and a window more.
        standing: the floor from demand and forecast, as it stands between its turns.
        forecast: what the history of the request rate has taught.
        fullness: how full a replica was while the SLO held or broke.
        moves: relative change of each weight at the last publish, by instance.
        swing: share of all weight that goes to and fro per tick, smoothed.
        gain: share of the way to its target that a weight goes per tick, lowered while weights swing.
        limiter: of the adaptive limit; None while it is off or has seen nothing.
        warmups: how long pods took to serve.
        min_turns: changes of direction of minReplicas; likewise max_turns.
        futility: whether more replicas have helped of late.
        tuning: what is known of the HPA's CPU target.
        claim: what it holds and lacks of a shared budget; None until known.
    """

    instances: Mapping[str, InstanceMemory] = field(default_factory=lambda: MappingProxyType({}))
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    limit: int | None = None
    breach_since: float | None = None
    limit_changed_at: float | None = None
    min_changed_at: float | None = None
    max_changed_at: float | None = None
    ready_instances: int | None = None
    at: float | None = None
    hpa_min: int | None = None
    hpa_max: int | None = None
    hpa_seen_at: float | None = None
    pressure_since: float | None = None
    calm_since: float | None = None
    arrivals: Arrivals | None = None
    lessons: Lessons | None = None
    lately: Rates = ()
    standing: Standing | None = None
    forecast: ForecastMemory | None = None
    fullness: UtilisationEvidence | None = None
    moves: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    swing: float = 0.0
    gain: float = 1.0
    limiter: LimiterMemory | None = None
    warmups: WarmUps = field(default_factory=WarmUps)
    min_turns: Turns = field(default_factory=Turns)
    max_turns: Turns = field(default_factory=Turns)
    futility: Futility = field(default_factory=Futility)
    tuning: Tuning = field(default_factory=Tuning)
    claim: Claim | None = None
