"""What a restart must not forget, as text: it goes into an annotation of the HPA with each change of it, never by itself.

A controller that crashes again and again would else begin with a whole budget of direction changes each time, climb back to the
CPU target that it has just taken back, take replicas for less or more than has been learned, and plan for steep traffic with the
small margin that it begins with. Whatever is lost nevertheless makes it slower, not less safe: the text is as old as the last
change, and what cannot be read is as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, exp, floor, fsum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controller.decide import knee_utilisation, tuning, turns
from controller.decide.floors import arrivals
from controller.decide.proposal import Proposed
from controller.decide.scaling import Bounds
from controller.model.hpa import LEARNED
from controller.model.memory import Memory, Tuning, Turns, UtilisationEvidence
from controller.model.plan import Hold
from controller.model.snapshot import Known, ResourceTarget, ServiceSnapshot
from controller.model.traffic import Lessons

VERSION: Literal[1] = 1
LONGEST_TEXT = 16_384
"""A longer text is not ours; ours is some 5,000 characters at the most."""
MOST_TURNS = 100
"""So many direction changes are kept of each bound, the newest."""
FRESH_SECONDS = tuning.DAY_SECONDS
"""Evidence near the CPU target that was written down longer ago counts no more, and the first day is for watching again."""

Instant = Annotated[int, Field(ge=-(10**11), le=10**11)]
Seconds = Annotated[int, Field(ge=0, le=10**11)]
Percent = Annotated[int, Field(ge=0, le=2**31)]
Evidence = Annotated[float, Field(ge=0.0, le=1e12)]


class _Part(BaseModel):
    """Strict, so that a text, NaN or a field that nobody knows is no number; short names, as it is stored thousandfold."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Bound(_Part):
    """One bound: where it last went, when, and its changes of direction within the hour, seconds since the epoch."""

    way: Annotated[int, Field(ge=-1, le=1)] = 0
    moved: Instant | None = None
    turns: Annotated[tuple[Instant, ...], Field(max_length=MOST_TURNS)] = ()


class _Cpu(_Part):
    """`Tuning`, in whole seconds."""

    since: Instant | None = None
    stands: Percent | None = None
    moved: Instant | None = None
    good: Percent | None = None
    held: Seconds = 0
    tight: Seconds = 0
    broken: Seconds = 0
    bar: Percent | None = None
    until: Instant | None = None
    cool: Seconds = 0


class _Full(_Part):
    """`UtilisationEvidence`: (bin, held, broken, latency) of each bin that has any."""

    at: Instant
    bins: Annotated[
        tuple[tuple[Annotated[int, Field(ge=0, lt=knee_utilisation.BINS)], Evidence, Evidence, Evidence], ...],
        Field(max_length=knee_utilisation.BINS),
    ]


class _Load(_Part):
    """`Lessons` of the traffic."""

    margin: Annotated[float, Field(ge=arrivals.LEAST_MARGIN, le=arrivals.MOST_MARGIN)]
    noise: Annotated[float, Field(ge=0.0, le=arrivals.NOISE_MOST)]
    promised: Evidence = 0.0
    kept: Annotated[float, Field(ge=-1e12, le=1e12)] = 0.0


class _Text(_Part):
    """All of it. `at`: when it was written; `slo`: the response time, seconds, that `cpu` and `full` are evidence about."""

    v: Literal[1]
    at: Instant
    slo: Annotated[float, Field(gt=0.0)]
    min: _Bound = _Bound()
    max: _Bound = _Bound()
    cpu: _Cpu = _Cpu()
    full: _Full | None = None
    load: _Load | None = None


def record(now: Memory, safe: Bounds, *, slo_seconds: float, window_seconds: float, per_hour: int, at: float) -> str:
    """The text that goes with a write.

    Args:
        now: what is known before the write.
        safe: the bounds and targets that it sets: what they mean is in the text already, as nothing else may be written later.
        slo_seconds: the response time that evidence is about.
        window_seconds: what a rate is a mean over.
        per_hour: the budget of direction changes.
        at: now, seconds since the epoch.
    """
    text = _Text(
        v=VERSION,
        at=floor(at),
        slo=slo_seconds,
        min=_bound(now.min_turns, now.min_changed_at, safe.minimum, per_hour, at),
        max=_bound(now.max_turns, now.max_changed_at, safe.maximum, per_hour, at),
        cpu=_cpu(tuning.after(now.tuning, _percent(safe.targets), at)),
        full=None if now.fullness is None else _full(now.fullness),
        load=None if now.arrivals is None else _load(arrivals.lessons(now.arrivals, window_seconds)),
    )
    return text.model_dump_json(exclude_defaults=True)


def recall(memory: Memory, service: ServiceSnapshot, slo_seconds: float) -> tuple[Memory, Hold | None]:
    """The memory with what an earlier run wrote down, once: when this memory first sees the HPA. A hold says what is unreadable."""
    view = service.hpa.value if isinstance(service.hpa, Known) else None
    said = None if view is None else view.annotations.get(LEARNED)
    if view is None or said is None or memory.hpa_seen_at is not None:
        return memory, None
    text = _read(said)
    if text is None:
        why = f"the annotation {LEARNED} is not as Trimtab writes it; what it may have said is learned anew"
        return memory, Hold("hpa memory", why)
    lessons = _lessons(text, service.at)
    known = replace(
        memory,
        min_turns=_turns(text.min, service.at),
        max_turns=_turns(text.max, service.at),
        min_changed_at=_past(text.min.moved, service.at),
        max_changed_at=_past(text.max.moved, service.at),
        lessons=lessons,
        # The little that was seen until the HPA was has taught nothing yet.
        arrivals=memory.arrivals
        if memory.arrivals is None or lessons is None
        else arrivals.taught(memory.arrivals, lessons),
    )
    if abs(text.slo - slo_seconds) > 1e-9:
        return known, None
    return replace(known, tuning=_tuning(text, service.at), fullness=_fuller(memory.fullness, text.full)), None


def _read(said: str) -> _Text | None:
    if len(said) > LONGEST_TEXT:
        return None
    try:
        return _Text.model_validate_json(said)
    except ValidationError:
        return None


def _percent(targets: tuple[ResourceTarget, ...]) -> int | None:
    return next((target.percent for target in targets if target.name == "cpu"), None)


def _bound(before: Turns, changed_at: float | None, move: Proposed, per_hour: int, at: float) -> _Bound:
    after = turns.observe(before, move.before, move.after, at)
    kept = [ceil(t) for t in after.at if t > at - turns.HOUR_SECONDS][-min(per_hour, MOST_TURNS) :]
    moved = changed_at if move.before in {None, move.after} else at
    return _Bound(way=after.direction, moved=None if moved is None else ceil(moved), turns=tuple(kept))


def _turns(said: _Bound, at: float) -> Turns:
    return Turns(said.way, tuple(sorted(min(float(t), at) for t in said.turns)))


def _past(instant: int | None, at: float) -> float | None:
    """An instant that the clock has not reached is now: a wait is never longer than it was."""
    return None if instant is None else min(float(instant), at)


def _cpu(known: Tuning) -> _Cpu:
    def whole(instant: float | None) -> int | None:
        return None if instant is None else ceil(instant)

    return _Cpu(
        since=whole(known.since),
        stands=known.stands,
        moved=whole(known.moved_at),
        good=known.good,
        held=floor(known.held),
        tight=ceil(known.tight),
        broken=ceil(known.broken),
        bar=known.barred_from,
        until=whole(known.barred_until),
        cool=ceil(known.cool_down),
    )


def _tuning(text: _Text, at: float) -> Tuning:
    said = text.cpu
    fresh = at - text.at <= FRESH_SECONDS
    longest = tuning.LONGEST_COOL_DOWN_SECONDS
    return Tuning(
        since=_past(said.since, at) if fresh else None,
        stands=said.stands,
        moved_at=_past(said.moved, at),
        good=said.good,
        held=float(said.held) if fresh else 0.0,
        tight=float(said.tight) if fresh else 0.0,
        broken=float(said.broken) if fresh else 0.0,
        barred_from=said.bar,
        barred_until=None if said.until is None else min(float(said.until), at + longest),
        cool_down=min(float(said.cool), longest),
    )


def _load(known: Lessons) -> _Load:
    """Rounded up where that is safer: a margin and a noise that are no smaller than they were."""
    margin, noise = ceil(known.margin * 1e3) / 1e3, ceil(known.noise_ratio * 1e5) / 1e5
    return _Load(
        margin=min(margin, arrivals.MOST_MARGIN),
        noise=min(noise, arrivals.NOISE_MOST),
        promised=round(known.promised, 3),
        kept=round(known.kept, 3),
    )


def _lessons(text: _Text, at: float) -> Lessons | None:
    """Trust fades while nobody looks, as it does while somebody does."""
    if text.load is None:
        return None
    fades = exp(-max(at - text.at, 0.0) / arrivals.TRUST_SECONDS)
    return Lessons(text.load.margin, text.load.noise, fades * text.load.promised, fades * text.load.kept)


def _full(known: UtilisationEvidence) -> _Full:
    rows = zip(known.held, known.broken, known.latency, strict=True)
    rounded = (
        (n, round(held, 1), round(broken, 1), round(latency, 1)) for n, (held, broken, latency) in enumerate(rows)
    )
    return _Full(at=ceil(known.at), bins=tuple(row for row in rounded if row[1] + row[2] > 0.0))


def _fuller(own: UtilisationEvidence | None, said: _Full | None) -> UtilisationEvidence | None:
    """Which evidence rests on more: what was written down, or the little that was seen until the HPA was."""
    if said is None:
        return own
    rows: Mapping[int, tuple[float, float, float]] = {n: (held, broken, slow) for n, held, broken, slow in said.bins}
    columns = zip(*(rows.get(n, (0.0, 0.0, 0.0)) for n in range(knee_utilisation.BINS)), strict=True)
    held, broken, latency = columns
    known = UtilisationEvidence(held, broken, latency, float(said.at))
    return own if own is not None and _seconds(own) >= _seconds(known) else known


def _seconds(evidence: UtilisationEvidence) -> float:
    return fsum(evidence.held) + fsum(evidence.broken)
