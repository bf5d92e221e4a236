"""Following the knee from sample to sample: how long to remember, and when capacity has changed.

Two time scales. What was seen since the last change is fitted whole, newest most: the slow, steady view. A change is noticed
by CUSUM (Page 1954) of each sample's distance from what the curve expected, in deviations: what adds up on one side is no
noise. Then all samples before it are dropped, and only the base time is kept of them: losing or gaining capacity moves the
knee, not the time that a request takes when nothing waits.

In noise (`unrest`) both scales stretch: a change must be larger and last longer to be one, samples count for longer, and what
was learnt (the base, the usual knee) moves slowly. A single limit cannot tell a knee from a base, only their ratio; so where
the samples do not tell, both stay where they were.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp, log, sqrt

from controller.decide.limiter.curve import Cells, Curve, add, bend, cells_of, fit
from controller.model.limiter import LimiterMemory

QUIET, NOISY = 0.08, 0.18
"""Deviations of ln throughput up to which nothing is done about noise, and from which everything is."""
OUTLIER = 5.0
"""Deviations from which one sample alone is a change, and all before it are dropped; twice as many in heavy noise."""
SLACK, CHANGED = (0.5, 1.0), (4.5, 7.0)
"""CUSUM, quiet and noisy: deviations per update that do not count, and the sum from which capacity has changed."""
MEMORY, MEMORY_PER_VARIANCE, LONGEST_MEMORY = 25.0, 900.0, 80.0
"""Updates after which a sample counts 1/e, in quiet and per noise²; and the longest."""
FALLING, FORGETTING = 1.5, 6.0
"""Evidence (CUSUM) that capacity has fallen from which the limit does not look up and, in quiet, samples count for a sixth as
long: a slow fall never adds up to a change while the old samples hold the knee up."""
LEAST_NOISE, MOST_NOISE, NOISE_GAIN = 0.04, 0.5, 0.08
"""Bounds of the noise, and how fast it follows. Counting 100 completions alone is no calmer than the first."""
UNSURE = 5
"""Samples that the noise of the start counts as, while the service is not known: three alike by chance are no calm."""
KEPT_PER_NOISE = 20.0
"""In noise, one sample after a change is too few: so many are kept at noise 1, unless it is an outlier even there."""
AFTER_CHANGE, USUAL, USUAL_PER_NOISE = 4.0, 2.0, 60.0
"""How many samples the usual base counts as: after a change, at least, and per noise in unrest."""
USUAL_GAIN, LEARNING, LEARNING_PER_NOISE = 0.1, 5, 40.0
"""How fast the usual base follows; samples until it is one, and how many more per noise in unrest."""
SLOWER_IN_NOISE = 9.0
"""By so many times the usual base and the usual knee follow more slowly in unrest."""
SINK, RISE = 0.02, 0.003
"""Share per update by which the usual knee follows a lower one, in quiet; and a higher one, in unrest."""
SLOWER_WITHIN = 4
"""Samples after a change within which another may show that it was none: the service is slower."""
RECENT = 16
"""Samples kept whole, to begin anew from after a change."""
CLIMB = 3
"""Updates for which the limit may climb in full steps once capacity has risen."""
HIGHER, LOWER, EVIDENCE = 1.3, 0.8, 1.0
"""A knee at 1.3 or 0.8 times the found one is left open while the evidence (log-likelihood) against it is below 1."""


def unrest(noise: float) -> float:
    """How much must be done about noise: 0 in quiet, 1 in heavy noise."""
    return min(max((noise - QUIET) / (NOISY - QUIET), 0.0), 1.0)


def memory_of(noise: float) -> float:
    """Updates after which a sample counts 1/e."""
    return min(MEMORY + MEMORY_PER_VARIANCE * noise * noise, LONGEST_MEMORY)


def follow(state: LimiterMemory, in_flight: float, throughput: float) -> tuple[LimiterMemory, Curve]:
    """The state and the curve after one sample that the limit has bound; requests, and requests/s, both positive."""
    memory, uneasy = memory_of(state.noise), unrest(state.noise)
    if state.below > FALLING:
        memory /= FORGETTING + uneasy * (1.0 - FORGETTING)
    before = state.recent[-1] if state.recent else (in_flight, throughput)
    state, cells, knee, changed = _notice(state, in_flight, throughput, memory)
    trust = max(state.usual_weight, USUAL + uneasy * USUAL_PER_NOISE * state.noise)
    curve = fit(cells, state.noise, base=state.usual_base, trust=trust, knee=knee)
    noise = state.noise
    if state.learnt > 0:
        gain, off = NOISE_GAIN, abs(log(throughput) - curve.predict(in_flight))
        if state.usual_base is None:
            # Until the service is known the curve follows the samples, so that its distance from them says little.
            gain, off = max(gain, 1.0 / (state.learnt + UNSURE)), _unexplained(before, in_flight, throughput)
        # 1.25 times the mean distance is the deviation; the cut keeps one outlier from drowning the next change. Once the service
        # is known, noise outlives a change: the first distances after one are those of a curve that is not there yet.
        noise += gain * (min(1.25 * off, 3.0 * noise) - noise)
    # While the SLO is broken much waits: no time to take for one with nothing waiting.
    known = state.slow == 0 and state.learnt > LEARNING + LEARNING_PER_NOISE * noise * uneasy
    usual = state.usual_base or (curve.base if known else None)
    usual_gain = USUAL_GAIN / (1.0 + SLOWER_IN_NOISE * uneasy)
    after = replace(
        state,
        seen=cells,
        learnt=1 if changed else state.learnt + 1,
        base=curve.base,
        usual_base=None if usual is None else usual * (curve.base / usual) ** usual_gain,
        usual_weight=max(state.usual_weight * exp(-1.0 / memory), USUAL),
        knee=curve.knee,
        usual_knee=_usual_knee(state.usual_knee, curve.knee, uneasy),
        noise=min(max(noise, LEAST_NOISE), MOST_NOISE),
        opens=curve.lack(curve.knee * HIGHER) < EVIDENCE,
    )
    return after, curve


def _usual_knee(before: float | None, knee: float, uneasy: float) -> float:
    """The knee to expect where the samples do not tell. At once upwards and slowly downwards; in unrest slowly both ways.

    Without it an undecided fit would wander: each expects what the last one found, and none finds more than the limit shows.
    """
    if before is None:
        return knee
    low = before * (1.0 - SINK / (1.0 + SLOWER_IN_NOISE * uneasy))
    high = before * (1.0 + RISE / uneasy) if uneasy > 0.0 else knee
    return min(max(knee, low), max(high, low))


def _notice(
    state: LimiterMemory, in_flight: float, throughput: float, memory: float
) -> tuple[LimiterMemory, Cells, float | None, bool]:
    """Evidence of a change, what counts after it, the knee to expect (None when it changed), and whether it did."""
    recent = (*state.recent, (in_flight, throughput))[-RECENT:]
    cells = add(state.seen, in_flight, throughput, memory=memory)
    if state.base is None or state.knee is None:
        return replace(state, recent=recent), cells, state.knee or in_flight, False
    expected = bend(in_flight, state.knee) - log(state.base)
    off = log(throughput) - expected
    if state.opens:
        # No knee was seen yet: up to what nothing waiting would give, all is as expected.
        off -= min(max(off, 0.0), max(log(in_flight / state.base) - expected, 0.0))
    uneasy, z = unrest(state.noise), off / state.noise
    slack = SLACK[0] + uneasy * (SLACK[1] - SLACK[0])
    enough = CHANGED[0] + uneasy * (CHANGED[1] - CHANGED[0])
    above, below = max(state.above + z - slack, 0.0), max(state.below - z - slack, 0.0)
    above_for = state.above_for + 1 if above > 0.0 else 0
    below_for = state.below_for + 1 if below > 0.0 else 0
    if max(above, below) <= enough:
        now = replace(
            state,
            recent=recent,
            above=above,
            below=below,
            above_for=above_for,
            below_for=below_for,
            since_change=state.since_change + 1,
        )
        return now, cells, state.usual_knee or state.knee, False
    slower = _slower(state, in_flight, throughput)
    since = max(above_for if above > enough else below_for, round(KEPT_PER_NOISE * state.noise))
    if abs(z) > OUTLIER * (1.0 + uneasy):
        since = 1  # what came before speaks of another fleet
    kept = recent[-2:] if slower else recent[-since:]
    now = replace(
        state,
        recent=recent[-max(len(kept), 3) :],
        since_change=1 if state.since_change >= SLOWER_WITHIN else state.since_change + 1,
        above=0.0,
        below=0.0,
        above_for=0,
        below_for=0,
        usual_weight=AFTER_CHANGE,
        usual_knee=None,
        climb=CLIMB if above > enough and uneasy < 1.0 else 0,
    )
    if slower:
        now = replace(now, usual_base=in_flight / throughput, usual_weight=1.0)
    return now, cells_of(kept, memory=memory), None, True


def _slower(state: LimiterMemory, in_flight: float, throughput: float) -> bool:
    """Whether throughput fell with the requests in flight: then nothing had waited, and the service itself is slower.

    Without this test a slower service looks like lost capacity at each step down, and the limit falls without end. It takes
    two samples from after the change. The first that shows it is not one of them: its period began before, so that throughput
    falls on after it whatever has happened.
    """
    if not state.recent or state.usual_base is None or state.base is None or state.knee is None:
        return False
    whole = state.since_change - 1
    if not 1 <= whole < SLOWER_WITHIN:
        return False
    return any(_together(earlier, in_flight, throughput, state.noise) for earlier in state.recent[-min(whole, 2) :])


def _together(earlier: tuple[float, float], in_flight: float, throughput: float, noise: float) -> bool:
    moved, fell = log(in_flight / earlier[0]), log(throughput / earlier[1])
    return moved < -max(0.05, 3.0 * noise) and 1.5 * moved - 3.0 * noise < fell < 0.9 * moved


def _unexplained(before: tuple[float, float], in_flight: float, throughput: float) -> float:
    """How far throughput moved beyond what any knee would explain: none, or as much as the requests in flight. In ln, of one sample."""
    moved, rose = log(in_flight / before[0]), log(throughput / before[1])
    return max(min(moved, 0.0) - rose, rose - max(moved, 0.0), 0.0) / sqrt(2.0)
