"""The adaptive limit: (state, sample) -> (state, limit, reason), once per control period.

Order matters: lost or new instances, then memory, then doubt, then the SLO, and only then what the knee asks for.
"""

from __future__ import annotations

from dataclasses import replace
from math import log

from controller.decide.limiter.curve import Curve, shifted
from controller.decide.limiter.knee import CLIMB, EVIDENCE, FALLING, HIGHER, LOWER, follow, unrest
from controller.decide.limiter.sample import LimiterRules, LimiterSample
from controller.model.limiter import LimiterMemory

DOWN, UP = 0.8, 1.25
"""Largest factor of one update, each way."""
HEADROOM = 1.15
"""The limit over the knee: enough that the knee is seen when it rises, little enough that few requests wait."""
BUSY = 0.8
"""Share of the limit in flight below which the application, not the limit, decides."""
DIP, RISE, RISE_IN_NOISE = 0.85, 1.2, 0.18
"""Shares of the knee at which to look whether it lies lower (requests wait meanwhile, none is refused) or higher; the latter
goes further in noise, which hides a small difference. In quiet no further than four full steps down make up for, should more than
half of the capacity be lost at that moment."""
LEAST_DIP = DOWN
"""Share of the limit below which it never looks: a full step, since only well below the knee the base shows."""
CALM = 0.8
"""Share of the SLO up to which the limit may look above the knee."""
PROBE = 100.0
"""Updates between two looks aside, at noise 1: each costs a little goodput, and in noise it tells little."""
DOUBT_EVERY, DOUBT_PER_NOISE = 3, 60.0
"""Updates between two looks that only what is remembered speaks against, and how many more at noise 1."""
RISING, RISING_IN_NOISE = 3.0, 3.0
"""Evidence (CUSUM) that capacity has risen from which the limit does not look down but up, and how much more in heavy noise: near
the old knee a risen one hardly shows, and waiting for it to do so took longer than the climb."""
SUSPECT, SUSPECT_EVERY = 1.25, 2
"""Share of the knee at which it looks then; updates between two such looks."""
UNBENT = 0.3
"""Evidence for any knee below which there is none: the limit grows on without waiting for the next look."""
FURTHER = 1
"""Updates by which a look up is longer in heavy noise, each a full step further."""
SEEN = 3.0
"""Evidence for a knee (log-likelihood of the samples alone) without which the limit grows in noise: until the first, and up to the default."""
FOUND = 7.0
"""Evidence from which a knee has been found: a thousand to one, for chance in the first few samples must not end the climb for good."""
WELL_BELOW, SUPPORT = 0.75, 3.0
"""In noise it grows only where a knee at 0.75 of what is in flight is ruled out, which one sample never does."""
SETTLED, STEADY_NOISE = 8, 0.15
"""With more samples than this the limit goes only a part of the way, half of it at this noise."""
LATE_NOISE = 0.1
"""The noise at which half of one update's response time counts against the SLO."""
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
        usual_knee=None if state.usual_knee is None else state.usual_knee * share,
        home=None,
        seen=shifted(state.seen, share),
        recent=tuple((in_flight * share, throughput * share) for in_flight, throughput in state.recent),
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
    state = _lateness(rules, state, sample.latency)
    slow = (state.slow > 1 and state.lateness > 0.0) or (in_flight > 0.0 and throughput <= 0.0)
    if throughput <= 0.0 or in_flight < BUSY * round(state.limit):
        after, why = state, f"held: {in_flight:.3g} of {state.limit:.3g} in flight, the limit does not bind"
    else:
        calm = sample.latency is None or sample.latency <= CALM * rules.slo_seconds
        default = state.limit if state.ready is None else rules.default(state.ready)
        low = state.limit < default
        after, curve = follow(state, in_flight, throughput)
        # What stands above the default at the start was found by an earlier run.
        resumed = not state.seen and state.limit > default
        after = replace(after, found=state.found or resumed or curve.unaided[-1] >= FOUND)
        after, why = _towards(after, curve, in_flight, calm=calm, low=low)
    if not slow:
        return after, why
    lower = replace(after, limit=min(after.limit, state.limit * DOWN))
    return lower, f"response time {sample.latency or 0.0:.3g} s is over the SLO {rules.slo_seconds:g} s"


def _lateness(rules: LimiterRules, state: LimiterMemory, latency: float | None) -> LimiterMemory:
    """The SLO is broken when updates in a row are over it, and more than noise would be: their smoothed mean is too."""
    if latency is None:
        return replace(state, slow=0)
    over = log(latency / rules.slo_seconds)
    gain = 1.0 / (1.0 + (state.noise / LATE_NOISE) ** 2)
    return replace(
        state, slow=state.slow + 1 if over > 0.0 else 0, lateness=state.lateness + gain * (over - state.lateness)
    )


def _towards(
    state: LimiterMemory, curve: Curve, in_flight: float, *, calm: bool, low: bool
) -> tuple[LimiterMemory, str]:
    """One bounded step to the knee with headroom, or to where the samples leave open that it may be.

    Args:
        calm: whether the SLO leaves room to look above the knee.
        low: whether the limit is below the default.
    """
    why = f"knee {curve.knee:.3g}, {curve.base:.3g} s with nothing waiting"
    if calm and _grows(state, curve, in_flight, low=low):
        goal = _up(max(curve.knee, in_flight))
        usual = max(state.usual_knee or 0.0, in_flight)
        grown = replace(state, climb=max(state.climb - 1, 0), since_probe=0, home=None, usual_knee=usual)
        return replace(grown, limit=_step(state.limit, goal)), f"{why}; throughput still follows"
    if calm and state.looking > 0:
        onward = replace(state, looking=state.looking - 1, limit=_step(state.limit, _up(state.limit)))
        return onward, f"{why}; it may lie higher"
    origin = state.home or state.limit
    # What was seen to rise is climbed in one go: a step that throughput did not follow ends it.
    state = replace(
        state, climb=0, since_probe=state.since_probe + 1, since_doubt=state.since_doubt + 1, home=None, looking=0
    )
    aside, words = _aside(state, curve, calm=calm)
    if aside is not None:
        # A look aside lasts one update, and takes no part in where the limit goes from here.
        doubted = 0 if _doubtful(state) else state.since_doubt
        up = aside > curve.knee
        further = FURTHER if up and unrest(state.noise) >= 1.0 else 0
        looks = replace(state, since_probe=0, since_doubt=doubted, home=origin, look_down=up, looking=further)
        return replace(looks, limit=_step(state.limit, aside)), f"{why}; {words}"
    # In noise the limit goes a part of the way, but for a change that the evidence has just shown.
    part = 1.0 if state.learnt <= SETTLED else 1.0 / (1.0 + (state.noise / STEADY_NOISE) ** 2)
    goal = origin * (curve.knee * HEADROOM / origin) ** part
    return replace(state, limit=_step(state.limit, goal)), why


def _grows(state: LimiterMemory, curve: Curve, in_flight: float, *, low: bool) -> bool:
    """Whether throughput still follows: capacity was just seen to rise, or no knee is in sight and noise does not feign that."""
    if state.climb == CLIMB or (state.climb > 0 and curve.knee > BUSY * in_flight):
        return True
    uneasy = unrest(state.noise)
    if uneasy > 0.0 and (low or not state.found):
        return curve.unaided[-1] < SEEN  # noise must not keep it where nothing was ever asked of the fleet
    if uneasy > 0.0 and curve.lack_unaided(WELL_BELOW * in_flight) <= SUPPORT * uneasy:
        return False
    return state.opens and curve.lacks[-1] < UNBENT


def _aside(state: LimiterMemory, curve: Curve, *, calm: bool) -> tuple[float | None, str]:
    """Where to look for one update, and why; None when nothing is open or it is too soon."""
    suspected = state.above >= RISING + RISING_IN_NOISE * unrest(state.noise)
    if calm and suspected and state.since_probe >= SUSPECT_EVERY:
        return max(curve.knee * SUSPECT, curve.knee + 1.0), "it may have risen"
    due, doubtful = state.since_probe > PROBE * state.noise, _doubtful(state)
    higher, lower = curve.knee * HIGHER, curve.knee * LOWER
    may_rise = (due and state.opens) or (doubtful and curve.lack_unaided(higher) < EVIDENCE)
    may_fall = (due and curve.lack(lower) < EVIDENCE) or (doubtful and curve.lack_unaided(lower) < EVIDENCE)
    if calm and may_rise and state.below < FALLING and not (may_fall and state.look_down):
        share = RISE + RISE_IN_NOISE * unrest(state.noise)
        return max(curve.knee * share, curve.knee + 1.0), "it may lie higher"
    if may_fall and not suspected:
        return max(curve.knee * DIP, state.limit * LEAST_DIP), "it may lie lower"
    return None, ""


def _doubtful(state: LimiterMemory) -> bool:
    """Whether it is time to look where only what is remembered speaks against it: that may have been seen under load."""
    return state.since_doubt > DOUBT_EVERY + DOUBT_PER_NOISE * state.noise


def _up(limit: float) -> float:
    """The largest step up: by a share, and by a whole request where that is more, so that no limit is stuck at 1."""
    return max(limit * UP, limit + 1.0)


def _step(limit: float, goal: float) -> float:
    return min(max(goal, limit * DOWN), _up(limit))
