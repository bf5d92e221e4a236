"""Whether more replicas would help: a raise that changed nothing is not repeated for a while.

A slow downstream, one huge prompt or an SLO that no idle server keeps look like demand, and every replica bought for
them is wasted. So each raise under pressure is a trial: when a good part more replicas have served for long enough, and
neither the response time has gone down nor the throughput up, raises are held and what was raised is let go. After a
cool-down that doubles it is tried again. New demand ends the hold at once, and doubtful data never make one: this only
ever keeps raises back, so it must be the surer side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, fsum

from controller.decide.facts import rate_of
from controller.decide.members import count_ready
from controller.decide.slo import ServiceLevel, latency_of
from controller.model.memory import Futility, Trial
from controller.model.snapshot import Known, ServiceSnapshot

GROWTH = 0.25
"""A trial needs so many more replicas, as a share: fewer could not be told from noise."""
BETTER = 0.1
"""Share by which the response time must have gone down for a raise to have helped."""
USEFUL = 0.5
"""Share of the added capacity that must show as throughput, likewise."""
NEW_DEMAND = 0.15
"""Share by which the request rate must rise for the service to be in another situation."""
COOL_DOWN_SECONDS = 900.0
LONGEST_SECONDS = 4 * 3600.0
LEAST_TICKS = 3
IDLE = 0.3
"""Utilisation up to which a response time is the server's own, with no waiting in it."""
IDLE_FOR_SECONDS = 3600.0
"""What idle servers were seen to take counts for so long."""
IDLE_TICKS = 20
"""Fewer ticks of little load could be one cold start."""
MOSTLY_OWN = 2.0
"""Up to so many idle response times, waiting is not the main part of one."""
FEW = 3
"""Fewer instances have no majority."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one tick says of demand and its answer. None is not known.

    Args:
        ready: instances that serve.
        latency: response time of the fleet, seconds; rate: its requests/s; full: its mean utilisation, 0..1.
        slo_seconds: the response time to keep.
        whole: whether nothing is in doubt.
        queued: whether requests wait in the queue. Then its limit makes the response time, and only throughput is an answer.
        lone: the one instance that is slow while the rest keeps the SLO; empty when it is not so.
    """

    at: float
    ready: int | None
    latency: float | None
    rate: float | None
    full: float | None
    slo_seconds: float
    whole: bool
    queued: bool = False
    lone: str = ""


def look(service: ServiceSnapshot, level: ServiceLevel, *, load: float | None, slo_seconds: float) -> Seen:
    """This tick's facts. `load`: the instances' utilisations added up."""
    serving = [i for i in service.instances if i.ready is not False and not i.terminating]
    rates = [rate_of(i) for i in serving]
    rate = fsum(r for r in rates if r is not None) if rates and None not in rates else None
    full = load / len(serving) if load is not None and serving else None
    slow = sorted((t, i.name) for i in serving if (t := latency_of(i)) is not None)
    lone = len(slow) >= FEW and level.slow is not None and slow[-1][0] > slo_seconds >= slow[-2][0]
    return Seen(
        service.at,
        count_ready(service),
        level.latency,
        rate,
        full,
        slo_seconds,
        whole=not level.unsure,
        queued=isinstance(service.queue, Known) and service.queue.value.depth > 0,
        lone=slow[-1][1] if lone else "",
    )


def observe(before: Futility, seen: Seen, *, pressed: bool, step: int, settle_seconds: float) -> Futility:
    """With this tick in it.

    Args:
        pressed: whether something asks for more replicas.
        settle_seconds: how long new replicas serve before the fleet's figures are theirs too.
    """
    if not seen.whole or seen.ready is None or seen.rate is None:
        # Whatever was being measured is measured anew, on whole data.
        return replace(before, trial=None if before.trial is None else replace(before.trial, grown_at=None, ticks=0))
    now = _idle(before, seen)
    eased_at = None if pressed else seen.at if now.eased_at is None else now.eased_at
    now = replace(now, eased_at=eased_at)
    if now.held_rate is not None and seen.rate > (1.0 + NEW_DEMAND) * now.held_rate:
        now = replace(now, until=None, held_rate=None, rounds=0, replicas=None, trial=None)
    if now.until is not None and seen.at >= now.until:
        now = replace(now, until=None, held_rate=None, trial=None)
    if eased_at is not None:
        rested = seen.at - eased_at
        if rested >= COOL_DOWN_SECONDS and now.until is None:
            return replace(now, trial=None, rounds=0, replicas=None)
        return replace(now, trial=None) if rested >= settle_seconds else now
    if now.until is not None:
        return now
    return _tried(now, seen, seen.ready, seen.rate, step=step, settle_seconds=settle_seconds)


def verdict(memory: Futility, seen: Seen, *, idle: str | None = None) -> str:
    """Why raises must wait, in words; empty when they need not.

    `idle`: how the SLO is broken while nothing asks for replicas, because the fleet is not busy.
    """
    if not seen.whole:
        return ""
    if idle is not None and seen.full is not None:
        return f"more replicas will not help: {idle} at utilisation {seen.full:.0%}"
    if seen.lone:
        return f"more replicas will not help: only {seen.lone} is over the SLO"
    trial = memory.trial
    if memory.rounds and trial is not None and trial.grown_at is not None:
        # The first time replicas are raised while their answer is awaited; after a raise in vain, one at a time.
        return f"it is not known yet whether {seen.ready} replicas help where {trial.replicas} did not"
    return lasting(memory, seen)


def enough(memory: Futility, at: float) -> int | None:
    """So many replicas did as well as those raised since; None when that is not known."""
    return memory.replicas if memory.until is not None and at < memory.until else None


def lasting(memory: Futility, seen: Seen) -> str:
    """The same of the service as a whole: reasons for which what was raised may also be let go."""
    if not seen.whole:
        return ""
    if memory.until is not None and seen.at < memory.until:
        return f"more replicas did not help ({memory.why}): next try in {memory.until - seen.at:.0f} s"
    own = memory.idle_latency
    if own is None or memory.idle_ticks < IDLE_TICKS or seen.latency is None or own <= seen.slo_seconds:
        return ""
    if seen.slo_seconds < seen.latency <= MOSTLY_OWN * own:
        return f"more replicas will not help: even at little load no request took less than {own:.3g} s"
    return ""


def _idle(before: Futility, seen: Seen) -> Futility:
    """The least that requests took where nothing waits: a cold start does not count where a warm request was seen."""
    old = before.idle_at is not None and seen.at - before.idle_at > IDLE_FOR_SECONDS
    before = replace(before, idle_latency=None, idle_at=None, idle_ticks=0) if old else before
    if seen.full is not None and seen.full <= IDLE and seen.latency is not None and (seen.rate or 0.0) > 0.0:
        least = seen.latency if before.idle_latency is None else min(seen.latency, before.idle_latency)
        return replace(before, idle_latency=least, idle_at=seen.at, idle_ticks=before.idle_ticks + 1)
    return before


def _tried(now: Futility, seen: Seen, ready: int, rate: float, *, step: int, settle_seconds: float) -> Futility:
    trial = now.trial
    begun = Trial(ready, seen.latency, rate, 1)
    if trial is None or ready < trial.replicas:
        return replace(now, trial=begun)
    if ready < trial.replicas + max(step, ceil(GROWTH * trial.replicas)):
        # Still the fleet that the trial is measured against.
        count = min(trial.base_ticks, 20)
        base = replace(
            trial,
            latency=_mean(trial.latency, seen.latency, count),
            rate=trial.rate + (rate - trial.rate) / (count + 1),
            base_ticks=trial.base_ticks + 1,
            grown_at=None,
            ticks=0,
        )
        return replace(now, trial=base)
    grown_at = seen.at if trial.grown_at is None else trial.grown_at
    if seen.at - grown_at < settle_seconds:
        return replace(now, trial=replace(trial, grown_at=grown_at, ticks=0))
    late_latency = _mean(trial.late_latency if trial.ticks else None, seen.latency, trial.ticks)
    late_rate = rate if not trial.ticks else trial.late_rate + (rate - trial.late_rate) / (trial.ticks + 1)
    trial = replace(trial, grown_at=grown_at, ticks=trial.ticks + 1, late_latency=late_latency, late_rate=late_rate)
    if trial.ticks < LEAST_TICKS or seen.at - grown_at < 2.0 * settle_seconds:
        return replace(now, trial=trial)
    if _helped(trial, ready, queued=seen.queued):
        return replace(now, trial=begun, rounds=0, replicas=None)
    wait = min(COOL_DOWN_SECONDS * 2.0**now.rounds, LONGEST_SECONDS)
    return replace(
        now,
        trial=None,
        until=seen.at + wait,
        rounds=min(now.rounds + 1, 30),
        held_rate=late_rate,
        why=_words(trial, ready),
        # The same demand as at the last verdict: what was enough then still is.
        replicas=min(trial.replicas, now.replicas or trial.replicas),
    )


def _helped(trial: Trial, ready: int, *, queued: bool) -> bool:
    """Whether the response time fell, or throughput rose by half of what the added replicas could serve."""
    before, after = trial.latency, trial.late_latency
    # Without both response times there is nothing to hold against the raise.
    faster = before is None or after is None or after <= (1.0 - BETTER) * before
    return (faster and not queued) or trial.late_rate >= trial.rate * (
        1.0 + USEFUL * (ready / max(trial.replicas, 1) - 1.0)
    )


def _words(trial: Trial, ready: int) -> str:
    times = f"{trial.latency or 0.0:.3g} s before, {trial.late_latency or 0.0:.3g} s after"
    return f"{trial.replicas} to {ready} replicas: {times}, at {trial.rate:.3g}/s and {trial.late_rate:.3g}/s"


def _mean(mean: float | None, value: float | None, count: int) -> float | None:
    """The running mean of `count` values with one more; a value that is not known changes nothing."""
    if value is None or mean is None:
        return mean if value is None else value
    return mean + (value - mean) / (count + 1)
