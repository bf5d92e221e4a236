"""Who moves the bounds: nobody, Trimtab, its peers, or somebody who knows the future."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import ceil, floor, fsum, inf
from typing import Any

from bench.scaling.readings import Readings
from bench.scaling.world import CAPACITY, KNEE, MOST, SLO_SECONDS, STEP_SECONDS, WARM_SECONDS, Scaler, Step
from controller.decide.decide import decide
from controller.model.history import RateHistory
from controller.model.hpa import LEARNED
from controller.model.memory import Memory
from controller.model.snapshot import HpaSpec, HpaView, Known, ResourceTarget, ScaleView, ServiceSnapshot
from controller.policy.schema import LoadPolicy

LEAST = 2
AHEAD_STEPS = int(WARM_SECONDS / STEP_SECONDS) + 2
"""From now until a replica asked for now serves, and the HPA has seen that it should be."""
HISTORY_STEP_SECONDS = 300.0
HISTORY_DAYS = 21


def plain() -> Scaler:
    return lambda _: (LEAST, MOST)


def policy(target: int, utilisation: float | None, *, forecast: bool, through_windows: bool) -> LoadPolicy:
    """One policy for every trace. It tells not what a replica serves nor, unless `utilisation` does, how full it may be."""
    signals: dict[str, Any] = {"preset": "fastapi"}
    if not through_windows:
        signals |= {"window": f"{STEP_SECONDS:.0f}s", "cpu": {"query": "sum by ($by) (rate(cpu{$selector}[$window]))"}}
    scaling: dict[str, Any] = {
        "hpa": "m",
        "target": {"name": "m"},
        "min": {"floor": LEAST, "ceiling": MOST},
        "max": {"floor": MOST, "ceiling": MOST},
        "cpu": {"target": target},
        "memory": None,
        # As large as an HPA's own steps may be by default, which the plain ones beside it take.
        "steps": {"every": "15s", "replicas": 4, "percent": 100, "lowerEvery": "2m"},
        "warmUp": f"{WARM_SECONDS:.0f}s",
        "demand": {} if utilisation is None else {"utilisation": utilisation},
        "forecast": {"enabled": forecast},
    }
    return LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": "m", "namespace": "bench"},
            "spec": {
                "interval": f"{STEP_SECONDS:.0f}s",
                "instances": {"selector": {"app": "m"}},
                "signals": signals,
                "slo": {"latency": f"{SLO_SECONDS * 1000:.0f}ms"},
                "scaling": scaling,
            },
        }
    )


class Past:
    """The rate so far in steps of five minutes, handed over anew every hour as the daemon reads it: nothing of the future."""

    def __init__(self) -> None:
        self._rates: deque[float | None] = deque(maxlen=int(HISTORY_DAYS * 86400 / HISTORY_STEP_SECONDS))
        self._sum, self._count = 0.0, 0
        self.known = RateHistory(0.0, HISTORY_STEP_SECONDS, ())

    def add(self, step: Step) -> RateHistory:
        self._sum, self._count = self._sum + step.rate, self._count + 1
        if step.at % HISTORY_STEP_SECONDS < STEP_SECONDS:
            self._rates.append(self._sum / self._count)
            self._sum, self._count = 0.0, 0
        if step.at % 3600.0 < STEP_SECONDS:
            self.known = RateHistory(step.at, HISTORY_STEP_SECONDS, tuple(self._rates))
        return self.known


class Trimtab:
    """decide() as the daemon runs it; its writes stand from the next sync on.

    Args:
        target: the CPU target of the HPA below it, percent.
        utilisation: how full a replica may be, if it is told.
        forecast: whether the policy has one.
        through_windows: whether it reads the fleet through the windows that a policy has by default, or as of the moment.
        lives_seconds: how long until it dies and another one takes over, which knows what stands on the HPA and no more.
    """

    def __init__(
        self,
        target: int,
        utilisation: float | None = None,
        *,
        forecast: bool = True,
        through_windows: bool = False,
        lives_seconds: float = inf,
    ) -> None:
        self._policy = policy(target, utilisation, forecast=forecast, through_windows=through_windows)
        self._targets = (ResourceTarget("cpu", target),)
        signals = self._policy.spec.signals
        self._memory, self._past = Memory(), Past()
        self._readings = Readings(signals.window, signals.cpu_seconds)
        self._bounds = (LEAST, MOST)
        self._annotations: dict[str, str] = {}
        self._lives_seconds = self._dies_at = lives_seconds

    def __call__(self, step: Step) -> tuple[int, int]:
        if step.at >= self._dies_at:
            self._memory, self._dies_at = Memory(), step.at + self._lives_seconds
        spec = HpaSpec("Deployment", "m", *self._bounds, self._targets)
        view = HpaView(
            spec,
            current_replicas=step.asked,
            desired_replicas=step.asked,
            adopted=True,
            annotations=self._annotations,
        )
        service = ServiceSnapshot(
            "bench/m",
            step.at,
            self._readings.add(step),
            hpa=Known(view),
            scale=Known(ScaleView(step.asked, step.asked)),
            history=Known(self._past.add(step)),
        )
        plan, self._memory = decide(self._policy, service, self._memory)
        if plan.hpa is not None:
            self._bounds = (plan.hpa.after.min_replicas, plan.hpa.after.max_replicas)
            self._annotations = {LEARNED: plan.hpa.learned}
        return self._bounds


class LatencyLaw:
    """llm-d's SLO-aware law (guide README.slo-aware.md, 2026): replicas by response time ÷ SLO, in place of the HPA.

    s is averaged over 45 s and credited with the replicas on their way; above 0.55 it asks for more, below 0.40 for
    fewer. Up: window 30 s, by 100 % or 4 a minute. Down: window 180 s, by one in two minutes.
    """

    def __init__(self) -> None:
        self._s: deque[float] = deque(maxlen=3)
        self._wanted: deque[tuple[float, int]] = deque()
        self._raised: deque[tuple[float, int]] = deque()
        self._lowered_at = -1e9

    def __call__(self, step: Step) -> tuple[int, int]:
        n = step.asked
        self._s.append(min(step.latency / SLO_SECONDS, 2.0))
        s = fsum(self._s) / len(self._s) * (step.ready / n if 0 < step.ready < n else 1.0)
        wanted = n
        if s > 0.55:
            wanted = n + ceil(n * (s / 0.55 - 1.0))
        elif s < 0.40:
            wanted = n - floor(n * (1.0 - s / 0.40))
        self._wanted.append((step.at, wanted))
        while self._wanted[0][0] <= step.at - 180.0:
            self._wanted.popleft()
        while self._raised and self._raised[0][0] <= step.at - 60.0:
            self._raised.popleft()
        up = min(w for at, w in self._wanted if at > step.at - 30.0)
        down = max(w for _, w in self._wanted)
        after = n
        if up > n:
            start = n - sum(count for _, count in self._raised)
            after = max(n, min(up, max(2 * start, start + 4)))
            self._raised.append((step.at, after - n))
        elif down < n and step.at - self._lowered_at >= 120.0:
            after, self._lowered_at = n - 1, step.at
        after = max(after, LEAST)
        return after, after


class Cron:
    """KEDA's cron floor, kept by somebody careful: each hour of the day as many as nine in ten such hours before needed.

    It has what KEDA's users must find out by hand: what a replica serves and how full it may be.
    """

    def __init__(self) -> None:
        self._needs: dict[int, list[int]] = {}
        self._hour, self._most = -1, 0

    def __call__(self, step: Step) -> tuple[int, int]:
        hour = int(step.at // 3600.0)
        if hour != self._hour:
            if self._hour >= 0:
                self._needs.setdefault(self._hour % 24, []).append(self._most)
            self._hour, self._most = hour, 0
        self._most = max(self._most, ceil(step.cpu * step.ready / KNEE))
        before = sorted(self._needs.get(hour % 24, ()))
        return max(LEAST, before[int(0.9 * (len(before) - 1))] if before else LEAST), MOST


def oracle(steps: Sequence[tuple[float, float]]) -> Scaler:
    """Always what will be needed once a replica asked for now serves; nobody can do better without missing."""
    needed = [int(rate * work / CAPACITY / KNEE) + 1 for rate, work in steps]

    def bounds(step: Step) -> tuple[int, int]:
        n = int(step.at / STEP_SECONDS)
        count = max(needed[n : n + AHEAD_STEPS], default=LEAST)
        return max(count, LEAST), max(count, LEAST)

    return bounds
