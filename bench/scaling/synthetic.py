"""Traces of the shapes that real ones have, made from a seed: what holds on one trace should hold on others like it.

`synthetic:NAME[:SEED]`. None of them is fitted to a recorded trace.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import cos, exp, pi, sin, sqrt

from bench.scaling.traces import LEAST_MEAN, Trace

PREFIX = "synthetic:"


def season(rng: random.Random, days: float) -> Trace:
    """Two quiet and five busy days a week, a daily hump, slow drift, a burst now and then; a rate every ten minutes."""
    peak, drift, burst, rates = rng.uniform(11.0, 17.0), 0.0, 0.0, []
    for n in range(int(min(days, 14.0) * 144)):
        hour, week = n / 6.0 % 24.0, 0.75 if n // 144 % 7 >= 5 else 1.0
        drift += -drift / 18.0 + 0.1 * sqrt(2.0 / 18.0) * rng.gauss(0.0, 1.0)
        burst = max(0.7 * burst, rng.uniform(0.2, 0.8) if rng.random() < 0.01 else 0.0)
        rates.append(200.0 * week * (1.0 + 0.6 * cos((hour - peak) / 24.0 * 2.0 * pi)) * exp(drift) * (1.0 + burst))
    return _every(600.0, rates)


def jobs(rng: random.Random, days: float) -> Trace:
    """The same with jobs that start on the hour and run for ten minutes."""
    base, size, at = season(rng, days), rng.uniform(0.3, 0.7), rng.randrange(6)
    return _every(600.0, [r * (1.0 + size * (n % 6 == at)) for n, r in enumerate(base.rate)])


def noise(rng: random.Random, _: float) -> Trace:
    """An hour of few requests, counted by the minute and scaled up with all their noise, over slow waves."""
    waves = [(rng.uniform(0.07, 0.2), rng.uniform(18.0, 70.0), rng.uniform(0.0, 2.0 * pi)) for _ in range(3)]
    base, rates = rng.uniform(4.0, 8.0), []
    for minute in range(60):
        mean = 60.0 * base * exp(sum(a * sin(2.0 * pi * minute / p + f) for a, p, f in waves))
        rates.append(max(0.0, rng.gauss(mean, 1.1 * sqrt(mean))) / 60.0)
    return _every(60.0, rates)


def hump(rng: random.Random, _: float) -> Trace:
    """A day pressed into an hour, with a small step every five minutes; a rate a second."""
    phase, size, cycles = rng.uniform(0.0, 2.0 * pi), rng.uniform(0.2, 0.45), rng.choice((1, 1, 2))
    walk, step, rates = 0.0, 0.0, []
    for second in range(3600):
        step = rng.gauss(0.0, 0.04) if second % 300 == 0 else step
        walk += -walk / 200.0 + rng.gauss(0.0, 0.0035)
        rates.append(260.0 * (1.0 + size * sin(cycles * 2.0 * pi * second / 3600.0 + phase) + step + walk))
    return _every(1.0, rates)


def steps(rng: random.Random, _: float) -> Trace:
    """Six hours of levels that change at once: the worst that can come, with nothing to see ahead."""
    rates, level, left = [], 200.0, 0
    for _ in range(6 * 60):
        if left == 0:
            level, left = 200.0 * exp(rng.gauss(0.0, 0.35)), rng.randrange(10, 60)
        left -= 1
        rates.append(level)
    return _every(60.0, rates)


SHAPES: dict[str, Callable[[random.Random, float], Trace]] = {
    "season": season,
    "jobs": jobs,
    "noise": noise,
    "hump": hump,
    "steps": steps,
}


def make(name: str, days: float) -> Trace:
    """The trace of `synthetic:NAME[:SEED]`."""
    shape, _, seed = name.removeprefix(PREFIX).partition(":")
    made = SHAPES[shape](random.Random(f"{shape}:{seed or 1}"), days)
    return Trace(name.replace(":", "-"), made.at, made.rate, made.scale)


def _every(seconds: float, rates: list[float]) -> Trace:
    return Trace("", [seconds * n for n in range(len(rates))], rates, max(1.0, LEAST_MEAN * len(rates) / sum(rates)))
