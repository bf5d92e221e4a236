"""Following the knee from sample to sample: how long to remember, and when capacity has changed.

The samples since the last change are fitted whole, newest most. The noisier they are, the longer they count. A change is
noticed by CUSUM (Page 1954) of each sample's distance from what the curve expected, in deviations: what adds up on one
side is no noise. Then all samples before it are dropped, and only the base time is kept of them: losing or gaining capacity
moves the knee, not the time that a request takes when nothing waits.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

from controller.decide.limiter.curve import Curve, bend, fit
from controller.model.memory import LimiterMemory

OUTLIER = 5.0
"""Deviations from which one sample alone is a change, and all before it are dropped."""
SLACK, CHANGED = 0.5, 4.5
"""CUSUM: deviations per update that do not count, and the sum from which capacity has changed."""
LEAST_NOISE, MOST_NOISE, NOISE_GAIN = 0.03, 0.5, 0.1
KEPT_PER_NOISE = 20.0
"""In noise, one sample after a change is too few: so many are kept at noise 1."""
AFTER_CHANGE, USUAL, USUAL_GAIN, LEARNING = 4.0, 2.0, 0.1, 6
"""How many samples the usual base counts as, after a change and at least; how fast it follows; samples until it is one."""
MOST_SEEN = 48
HIGHER, LOWER, EVIDENCE = 1.3, 0.8, 1.0
"""A knee at 1.3 or 0.8 times the found one is left open while the evidence (log-likelihood) against it is below 1."""


def memory_of(noise: float) -> float:
    """Updates after which a sample counts 1/e."""
    return min(6.0 + 500.0 * noise * noise, 50.0)


def follow(state: LimiterMemory, in_flight: float, throughput: float) -> tuple[LimiterMemory, Curve]:
    """The state and the curve after one sample that the limit has bound; requests, and requests/s, both positive."""
    state, seen, knee = _notice(state, in_flight, throughput)
    memory = memory_of(state.noise)
    curve = fit(seen, state.noise, memory=memory, base=state.usual_base, trust=state.usual_weight, knee=knee)
    noise = state.noise
    if len(seen) > 3:
        off = abs(log(throughput) - curve.predict(in_flight))
        # 1.25 times the mean distance is the deviation; the cut keeps one outlier from drowning the next change.
        noise += NOISE_GAIN * (min(1.25 * off, 3.0 * noise) - noise)
    usual = state.usual_base or (curve.base if len(seen) > LEARNING else None)
    after = replace(
        state,
        seen=seen,
        base=curve.base,
        usual_base=None if usual is None else usual * (curve.base / usual) ** USUAL_GAIN,
        usual_weight=max(state.usual_weight * exp(-1.0 / memory), USUAL),
        knee=curve.knee,
        noise=min(max(noise, LEAST_NOISE), MOST_NOISE),
        opens=curve.lack(curve.knee * HIGHER) < EVIDENCE,
    )
    return after, curve


def _notice(
    state: LimiterMemory, in_flight: float, throughput: float
) -> tuple[LimiterMemory, tuple[tuple[float, float], ...], float | None]:
    """Evidence of a change, the samples that count after it, and the knee to expect: None when it changed."""
    seen = (*state.seen, (in_flight, throughput))[-MOST_SEEN:]
    if state.base is None or state.knee is None:
        return state, seen, state.knee or in_flight
    expected = bend(in_flight, state.knee) - log(state.base)
    off = log(throughput) - expected
    if state.opens:
        # No knee was seen yet: up to what nothing waiting would give, all is as expected.
        off -= min(max(off, 0.0), max(log(in_flight / state.base) - expected, 0.0))
    z = off / state.noise
    above, below = max(state.above + z - SLACK, 0.0), max(state.below - z - SLACK, 0.0)
    above_for = state.above_for + 1 if above > 0.0 else 0
    below_for = state.below_for + 1 if below > 0.0 else 0
    if max(above, below) <= CHANGED:
        now = replace(state, above=above, below=below, above_for=above_for, below_for=below_for)
        return now, seen, state.knee
    since = 1 if abs(z) > OUTLIER else above_for if above > CHANGED else below_for
    now = replace(state, above=0.0, below=0.0, above_for=0, below_for=0, usual_weight=AFTER_CHANGE)
    if _slower(state, in_flight, throughput):
        return replace(now, usual_base=in_flight / throughput, usual_weight=1.0), seen[-2:], None
    return now, seen[-max(since, round(KEPT_PER_NOISE * state.noise)) :], None


def _slower(state: LimiterMemory, in_flight: float, throughput: float) -> bool:
    """Whether throughput fell with the requests in flight: then nothing had waited, and the service itself is slower.

    Without this test a slower service looks like lost capacity at each step down, and the limit falls without end.
    """
    before_in_flight, before_throughput = state.seen[-1]
    moved = log(in_flight / before_in_flight)
    return moved < -max(0.05, 3.0 * state.noise) and log(throughput / before_throughput) < 0.7 * moved
