"""Signals that an instance has told before and does not tell now. A gap is no zero and no best: what was known counts on.

A signal that the policy does not define, or that an instance has never told, is no gap: nothing is known of it by choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from controller.model.sample import Fresh, Sample, Signal

COMPARED = frozenset({Signal.ERRORS, Signal.CPU, Signal.UTILISATION})
MEASURED = COMPARED | {Signal.IN_FLIGHT}
"""What a capacity rests on besides the rate. Without one of them the figure could only be too high."""
WEIGHED = MEASURED | {Signal.MEMORY}
"""What may take something from a weight."""
OF_REQUESTS = frozenset({Signal.LATENCY, Signal.LATENCY_QUANTILE, Signal.ERRORS})
"""What does not exist while there are no requests."""

NONE: frozenset[Signal] = frozenset()


def gaps_of(
    signals: Mapping[Signal, Sample], known: frozenset[Signal], fresh: AbstractSet[Signal]
) -> frozenset[Signal]:
    """The defined signals that were fresh once and are not now.

    Args:
        signals: all that the policy defines, as sampled now.
        known: those that this instance has ever told.
        fresh: those that are fresh now.
    """
    if known <= fresh:
        return NONE
    missing = known.intersection(signals).difference(fresh)
    rate = signals.get(Signal.RATE)
    return missing - OF_REQUESTS if isinstance(rate, Fresh) and rate.value <= 0.0 else missing


def usual(fresh: Iterable[AbstractSet[Signal]]) -> frozenset[Signal]:
    """Of what a capacity rests on, what most of the instances tell: who lacks it cannot be compared with them."""
    every = list(fresh)
    return frozenset(signal for signal in COMPARED if 2 * sum(signal in told for told in every) > len(every))


def named(signals: Iterable[Signal]) -> str:
    """The signals in words."""
    return ", ".join(sorted(signals))
