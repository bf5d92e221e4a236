"""The adaptive limit: (state, sample) -> (state, limit, reason), once per control period.

Order matters: lost or new instances, then memory, then doubt, then the SLO, and only then what the knee asks for.
"""

from __future__ import annotations

from dataclasses import replace

from controller.decide.limiter.curve import Curve
from controller.decide.limiter.knee import EVIDENCE, HIGHER, LOWER, follow
from controller.decide.limiter.sample import LimiterRules, LimiterSample
from controller.model.memory import LimiterMemory

DOWN, UP = 0.8, 1.25
"""Largest factor of one update, each way."""
HEADROOM = 1.12
"""The limit over the knee: enough that the knee is seen when it rises, little enough that few requests wait."""
BUSY = 0.8
"""Share of the limit in flight below which the application, not the limit, decides."""
DIP = 0.85
"""Share of the knee at which to look whether it lies lower; requests wait meanwhile, none is refused."""
CALM = 0.8
"""Share of the SLO up to which the limit may look above the knee."""
PROBE = 100.0
"""Updates between two looks aside, at noise 1: each costs a little goodput, and in noise it tells little."""
DOUBT_EVERY = 16
"""Updates between two looks below that only the remembered base speaks against."""
UNBENT = 0.3
"""Evidence for any knee below which there is none: the limit grows on without waiting for the next look."""
SETTLED, STEADY_NOISE = 8, 0.15
"""With more samples than this the limit goes only a part of the way, half of it at this noise."""
SCARCE, ENOUGH = 0.95, 0.90
"""Memory, ratio: from the first on the limit is cut; below the second it is forgotten. Between them nothing grows."""
MEMORY_DOWN, MEMORY_CUTS = 0.7, 3
"""The cut, and how many before it is plain that memory does not follow the limit."""
PATIENCE = 2
"""Updates without a usable sample after which the limit goes to the default."""

Answer = tuple[LimiterMemory, int, str]


def update(rules: LimiterRules, state: LimiterMemory, sample: LimiterSample) -> Answer:
    """One update.

    Args:
        rules: the policy's range, default and SLO.
        state: as returned by the last call; `LimiterMemory(limit)` to start from any standing limit.
        sample: means over the period in which that limit stood.

    Returns:
        The state to keep, the limit to set (always inside the range), and why, in words.
    """
    scaled = _instances(rules, state, sample)
    if scaled is not None:
        return _answer(rules, *scaled)
    state = replace(state, ready=state.ready if sample.ready is None else sample.ready)
    scarce = sample.memory is not None and sample.memory >= SCARCE
    if scarce and state.memory_cuts < MEMORY_CUTS:
        cut = replace(state, limit=state.limit * MEMORY_DOWN, memory_cuts=state.memory_cuts + 1)
        return _answer(rules, cut, f"memory {sample.memory:.0%} of its limit")
    if sample.memory is not None and sample.memory < ENOUGH:
        state = replace(state, memory_cuts=0)
    fault = sample.fault()
    if fault is not None:
        return _answer(rules, *_without_data(rules, state, fault))
    after, why = _learn(rules, replace(state, missed=0), sample)
    if state.memory_cuts and after.limit > state.limit:
        return _answer(rules, replace(after, limit=state.limit), f"no growth: memory was scarce; {why}")
    return _answer(rules, after, why)


def _answer(rules: LimiterRules, state: LimiterMemory, why: str) -> Answer:
    kept = replace(state, limit=rules.clamp(state.limit))
    return kept, round(kept.limit), why


def _instances(rules: LimiterRules, state: LimiterMemory, sample: LimiterSample) -> tuple[LimiterMemory, str] | None:
    """In proportion to the instances, at once, both ways: the knee is theirs."""
    was, ready = state.ready, sample.ready
    if ready is None or was is None or ready == was:
        return None
    why = f"ready instances {was} -> {ready}"
    if was <= 0 or ready <= 0:
        fresh = LimiterMemory(rules.default(ready) if ready > 0 else float(rules.least), ready=ready)
        return fresh, why
    share = ready / was
    moved = replace(
        state,
        ready=ready,
        limit=state.limit * share,
        knee=None if state.knee is None else state.knee * share,
        seen=tuple((in_flight * share, throughput * share) for in_flight, throughput in state.seen),
    )
    return moved, why


def _without_data(rules: LimiterRules, state: LimiterMemory, fault: str) -> tuple[LimiterMemory, str]:
    """Held, and after two updates without a sample led to the default, in bounded steps."""
    missed = state.missed + 1
    held = replace(state, missed=missed, slow=0)
    if missed < PATIENCE or state.ready is None or state.ready <= 0:
        return held, f"held: {fault}"
    goal = rules.default(state.ready)
    return replace(held, limit=_step(state.limit, goal)), f"to the default {goal:g}: {fault}"


def _learn(rules: LimiterRules, state: LimiterMemory, sample: LimiterSample) -> tuple[LimiterMemory, str]:
    in_flight, throughput = sample.in_flight or 0.0, sample.throughput or 0.0
    over = sample.latency is not None and sample.latency > rules.slo_seconds
    state = replace(state, slow=state.slow + 1 if over else 0)
    slow = state.slow > 1 or (in_flight > 0.0 and throughput <= 0.0)
    if throughput <= 0.0 or in_flight < BUSY * round(state.limit):
        after, why = state, f"held: {in_flight:.3g} of {state.limit:.3g} in flight, the limit does not bind"
    else:
        calm = sample.latency is None or sample.latency <= CALM * rules.slo_seconds
        after, why = _towards(*follow(state, in_flight, throughput), in_flight, calm=calm)
    if not slow:
        return after, why
    lower = replace(after, limit=min(after.limit, state.limit * DOWN))
    return lower, f"response time {sample.latency or 0.0:.3g} s is over the SLO {rules.slo_seconds:g} s"


def _towards(state: LimiterMemory, curve: Curve, in_flight: float, *, calm: bool) -> tuple[LimiterMemory, str]:
    """One bounded step to the knee with headroom, or to where the samples leave open that it may be."""
    why = f"knee {curve.knee:.3g}, {curve.base:.3g} s with nothing waiting"
    goal = curve.knee * HEADROOM
    since = state.since_probe + 1
    due = since > PROBE * state.noise
    if calm and state.opens and curve.lacks[-1] < UNBENT:
        goal, why, since = _up(max(curve.knee, in_flight)), f"{why}; throughput still follows", 0
    elif calm and state.opens and due:
        goal, why, since = max(curve.knee * HIGHER, curve.knee + 1.0), f"{why}; it may lie higher", 0
    elif due and (
        curve.lack(curve.knee * LOWER) < EVIDENCE
        or (since > DOUBT_EVERY and curve.lack_unaided(curve.knee * LOWER) < EVIDENCE)
    ):
        goal, why, since = curve.knee * DIP, f"{why}; it may lie lower", 0
    state = replace(state, since_probe=since)
    # In noise the limit goes a part of the way, but for a change that the evidence has just shown.
    part = 1.0 if len(state.seen) <= SETTLED else 1.0 / (1.0 + (state.noise / STEADY_NOISE) ** 2)
    goal = state.limit * (goal / state.limit) ** part
    return replace(state, limit=_step(state.limit, goal)), why


def _up(limit: float) -> float:
    """The largest step up: by a share, and by a whole request where that is more, so that no limit is stuck at 1."""
    return max(limit * UP, limit + 1.0)


def _step(limit: float, goal: float) -> float:
    return min(max(goal, limit * DOWN), _up(limit))
