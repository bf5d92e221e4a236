"""How long a new pod takes to serve: learnt from the pods that came, the policy's word when it gives one.

A pod's warm-up is a fact of Kubernetes, created to ready, so a restart of the controller forgets nothing that still runs.
Where a pod was watched on its way, its first served request stretches it: ready is what the probe says, serving is what
counts. A pod that became ready anew after a crash tells nothing (`Instance.ready_at` is then None), and one that was
not watched from the start counts only if it is not far off the others, as its readiness may have come and gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from statistics import median

from controller.model.memory import Warmed, WarmUps
from controller.model.sample import Fresh, Signal
from controller.model.snapshot import Instance, Known, ServiceSnapshot

DEFAULT_SECONDS = 180.0
"""Until enough pods were seen."""
ENOUGH = 3
KEPT = 20
"""So many of the newest pods count."""
QUANTILE = 0.9
LONGEST_SECONDS = 6 * 3600.0
SERVES_WITHIN_SECONDS = 120.0
"""A ready pod that gets no request for so long is idle, not warming: what Kubernetes said counts."""
SKEW_SECONDS = 30.0
"""How much earlier than the last tick a pod may say it was created and still have been watched from its first moment."""
FAR = 3.0
"""How many medians an unwatched pod may take and still be believed."""
STUCK = 2.0
"""A pod older than so many warm-ups is not coming any more, as far as anyone can tell."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """The time a new pod takes to serve.

    Args:
        seconds: from its creation to its first request.
        pods: how many pods that was learnt from; 0 when it is not learnt.
        fixed: whether the policy gives it.
    """

    seconds: float
    pods: int = 0
    fixed: bool = False

    @property
    def words(self) -> str:
        """It and where it comes from: `warm-up 142 s (learned from 7 pods)`."""
        source = f"learned from {self.pods} pods" if self.pods else f"until {ENOUGH} pods were seen"
        return f"warm-up {self.seconds:.0f} s ({'the policy' if self.fixed else source})"


@dataclass(frozen=True, slots=True)
class Coming:
    """Replicas that are asked for and do not serve yet.

    Args:
        expected: those still within their time; they are help on its way.
        stuck: those that have had twice the warm-up; nobody should wait for them.
        stuck_seconds: age of the oldest stuck one.
        time: what they are measured against.
    """

    expected: int = 0
    stuck: int = 0
    stuck_seconds: float = 0.0
    time: WarmUp = WarmUp(DEFAULT_SECONDS)

    @property
    def words(self) -> str:
        """What to add to a reason; empty when nothing is stuck."""
        if not self.stuck:
            return ""
        return f"; {self.stuck} pods are stuck, not ready for up to {self.stuck_seconds:.0f} s, {self.time.words}"


def warm_up(given_seconds: float | None, learnt: WarmUps) -> WarmUp:
    """The policy's time, else the 90 % quantile of the pods seen, else the default."""
    if given_seconds is not None:
        return WarmUp(given_seconds, fixed=True)
    times = sorted(_believed(learnt.pods))
    if len(times) < ENOUGH:
        return WarmUp(DEFAULT_SECONDS)
    return WarmUp(times[ceil(QUANTILE * len(times)) - 1], len(times))


def observe(service: ServiceSnapshot, before: WarmUps) -> WarmUps:
    """What is known of warm-ups with this tick's pods in it."""
    known = {pod.uid: pod for pod in before.pods}
    oldest = before.pods[0].created_at if len(before.pods) >= KEPT else -float("inf")
    watched = set(before.watched)
    present = set()
    for instance in service.instances:
        uid, created = instance.uid, instance.created_at
        if not uid or created is None or instance.terminating:
            continue
        present.add(uid)
        if uid in known or created < oldest:
            continue
        if instance.ready_at is None:
            if instance.ready is False and before.at is not None and created >= before.at - SKEW_SECONDS:
                watched.add(uid)
            continue
        seconds = _seconds(instance, created, instance.ready_at, service.at, watched=uid in watched)
        if seconds is not None:
            known[uid] = Warmed(uid, created, seconds, watched=uid in watched)
    newest = sorted(known.values(), key=lambda pod: (pod.created_at, pod.uid))[-KEPT:]
    gone = present if service.instances_complete else watched
    at = service.at if service.instances_complete else before.at
    return WarmUps(tuple(newest), frozenset(watched & gone - known.keys()), at)


def coming(service: ServiceSnapshot, ready: int | None, time: WarmUp) -> Coming:
    """The replicas on their way; none when nobody can say how many serve or are asked for."""
    scale = service.scale.value if isinstance(service.scale, Known) else None
    if ready is None or scale is None:
        return Coming()
    missing = max(scale.spec_replicas, scale.status_replicas, ready) - ready
    ages = (
        service.at - i.created_at
        for i in service.instances
        if i.ready is False and not i.terminating and i.created_at is not None
    )
    stuck = sorted(age for age in ages if age > STUCK * time.seconds)
    return Coming(max(missing - len(stuck), 0), len(stuck), stuck[-1] if stuck else 0.0, time)


def _seconds(instance: Instance, created: float, ready: float, now: float, *, watched: bool) -> float | None:
    """How long it took; None while that is not decided, or when the instants make no sense."""
    took = ready - created
    if watched and now - ready < SERVES_WITHIN_SECONDS:
        rate = instance.signal(Signal.RATE)
        if not isinstance(rate, Fresh) or rate.value <= 0.0:
            return None
        took = max(took, now - rate.age_seconds - created)
    return took if 0.0 <= took <= LONGEST_SECONDS else None


def _believed(pods: Iterable[Warmed]) -> list[float]:
    every = list(pods)
    usual = median(pod.seconds for pod in every) if every else 0.0
    return [pod.seconds for pod in every if pod.watched or pod.seconds <= FAR * usual]
