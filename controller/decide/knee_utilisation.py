"""How full a replica may be: the highest utilisation at which the SLO has held.

Each fresh sample of an instance is evidence at the utilisation it was taken at: the response time held the SLO there, or
broke it. The share that broke may only rise with utilisation, so it is fitted as a monotone step function (isotonic
regression by pooling adjacent violators): one bad minute of a nearly idle instance outvotes nothing. The knee is where
that share passes what is tolerated. Nothing is said about utilisations far beyond those that were seen.

Utilisations are of single instances. A fleet whose mean stands at the knee has instances above it; whoever steers the
mean (a target of the HPA) should stay below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import fsum, isfinite, sqrt

from controller.decide.facts import facts_of
from controller.decide.slo import latency_of
from controller.model.memory import UtilisationEvidence
from controller.model.snapshot import ServiceSnapshot

WIDTH = 0.02
"""Of one bin of utilisation; evidence is kept per bin."""
BINS = 50
PRIOR = 0.8
"""Stands until evidence says otherwise."""
EXTRA = 0.06
"""How far beyond the highest utilisation that was seen to hold the knee may be assumed, where nothing broke."""
MOST = 0.96
"""No knee is assumed above: nobody can tell 96 % full from overrun."""
LOWEST = 0.4
"""A knee below is none: response times that break the SLO on a fleet this idle do not answer to utilisation."""
TOLERATED = 0.05
"""Share of the evidence at one utilisation that may have broken the SLO."""
LEAST_SECONDS = 60.0
"""Less evidence than this is none."""
HALF_LIFE_SECONDS = 2 * 86400.0
"""Evidence counts half after this long: servers and requests change."""
SLOWEST = 10.0
"""Response times count as no more than so many times the SLO."""
GAP_SECONDS = 60.0
"""One sample stands for no longer than this, however long ago the last one was."""


@dataclass(frozen=True, slots=True)
class UtilisationKnee:
    """How full one replica may be, as ratios 0..1.

    Args:
        utilisation: the estimate; PRIOR while there is no evidence.
        seen_to: the highest utilisation at which the SLO was seen to hold; None when it was not.
        broken_from: the utilisation from which it was seen to break; None when it was not.
        why: the evidence in words.
    """

    utilisation: float
    seen_to: float | None
    broken_from: float | None
    why: str


def samples(
    service: ServiceSnapshot, slots: int | None = None, suspects: frozenset[str] = frozenset()
) -> Iterator[tuple[float, float]]:
    """(utilisation, response time in seconds) of each serving instance that has both fresh.

    Args:
        service: as observed; a partial answer of Prometheus teaches nothing.
        slots: requests that an instance serves at once, if the policy says so.
        suspects: instances that are slow or failing for reasons of their own.
    """
    if service.metrics_problem is not None:
        return
    for instance in service.instances:
        if instance.ready is False or instance.terminating or instance.name in suspects:
            continue
        full, latency = facts_of(instance, slots).utilisation, latency_of(instance)
        if full is not None and latency is not None:
            yield full, latency


def learn(
    before: UtilisationEvidence | None, seen: Iterable[tuple[float, float]], slo_seconds: float, at: float
) -> UtilisationEvidence | None:
    """The evidence with this tick's samples in it. `at` in seconds since the epoch; a clock that stands adds nothing.

    The instances of one tick share its traffic, so n of them count as √n, not as n.
    """
    # Sorted, so that sums do not hang on the order in which the instances are listed.
    valid = sorted((u, s) for u, s in seen if isfinite(u) and u > 0.0 and isfinite(s) and s >= 0.0)
    elapsed = GAP_SECONDS if before is None else at - before.at
    if not valid or elapsed <= 0.0:
        return before
    weight = min(elapsed, GAP_SECONDS) / sqrt(len(valid))
    kept = 0.5 ** (elapsed / HALF_LIFE_SECONDS)
    held = [kept * e for e in before.held] if before else [0.0] * BINS
    broken = [kept * e for e in before.broken] if before else [0.0] * BINS
    latencies = [kept * e for e in before.latency] if before else [0.0] * BINS
    for full, latency in valid:
        index = min(int(min(full, 1.0) / WIDTH + 1e-9), BINS - 1)
        (held if latency <= slo_seconds else broken)[index] += weight
        latencies[index] += weight * min(latency / slo_seconds, SLOWEST)
    return UtilisationEvidence(tuple(held), tuple(broken), tuple(latencies), at)


def estimate(evidence: UtilisationEvidence | None) -> UtilisationKnee:
    """The knee that the evidence shows."""
    if evidence is None:
        return UtilisationKnee(PRIOR, None, None, f"no evidence yet: {PRIOR:.0%} is assumed")
    first = _first_broken(evidence)
    top = _first_beyond(evidence.held[:first])
    seen_to = None if top is None else WIDTH * (top + 1)
    broken_from = None if first == BINS else WIDTH * first
    if broken_from is not None and broken_from < LOWEST:
        why = f"the SLO breaks from {broken_from:.0%} on, which is no question of utilisation: {PRIOR:.0%} is assumed"
        return UtilisationKnee(PRIOR, seen_to, broken_from, why)
    assumed = PRIOR if top is None or seen_to is None else _assumed(evidence, top, seen_to)
    words = [f"the SLO held up to {seen_to:.0%}"] if seen_to is not None else []
    if broken_from is not None:
        words.append(f"broke from {broken_from:.0%}" if words else f"the SLO broke from {broken_from:.0%}")
        return UtilisationKnee(min(assumed, broken_from), seen_to, broken_from, ", ".join(words))
    return UtilisationKnee(assumed, seen_to, None, ", ".join([*words, f"{assumed:.0%} is assumed"]))


def _assumed(evidence: UtilisationEvidence, top: int, seen_to: float) -> float:
    """How far beyond what was seen the SLO may be taken to hold.

    Response times of a shared server rise at least as 1 ÷ (1 − utilisation), so the hyperbola through the highest
    utilisation seen bounds what is assumed above it.
    """
    seconds = evidence.held[top] + evidence.broken[top]
    ratio = evidence.latency[top] / seconds if seconds > 0.0 else 0.0
    crossing = 1.0 - ratio * (1.0 - WIDTH * (top + 0.5))
    return min(max(PRIOR, min(seen_to + EXTRA, crossing), seen_to), MOST)


def _first_broken(evidence: UtilisationEvidence) -> int:
    """The first bin in which more than is tolerated breaks the SLO, with evidence; BINS when there is none."""
    blocks: list[tuple[int, float, float]] = []  # first bin, held, broken
    for index, (held, broken) in enumerate(zip(evidence.held, evidence.broken, strict=True)):
        if held + broken <= 0.0:
            continue
        blocks.append((index, held, broken))
        while len(blocks) > 1 and _share(blocks[-2]) >= _share(blocks[-1]):
            (start, h, b), (_, more_held, more_broken) = blocks[-2:]
            blocks[-2:] = [(start, h + more_held, b + more_broken)]
    first = next((start for start, held, broken in blocks if broken > TOLERATED * (held + broken)), BINS)
    return first if fsum(evidence.broken[first:]) >= LEAST_SECONDS else BINS


def _share(block: tuple[int, float, float]) -> float:
    _, held, broken = block
    return broken / (held + broken)


def _first_beyond(held: Sequence[float]) -> int | None:
    """The highest bin with enough evidence in it and above; None when there is not enough at all."""
    total = 0.0
    for index in range(len(held) - 1, -1, -1):
        total += held[index]
        if total >= LEAST_SECONDS:
            return index
    return None
