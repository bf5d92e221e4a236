"""What Prometheus shows of a fleet, either of the moment or through the windows that the daemon asks for by default.

Of the moment is the last step alone; the HPA's own CPU is a mean of two. Through windows, rates and response times cover a
minute. CPU covers two, and a replica shows none before it has served for as long (`presets/kubernetes.yaml`). A replica that
is gone takes what it served with it, and a new one has served nothing in the part of the window that lies before it.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from math import fsum

from bench.scaling.world import STEP_SECONDS, Step
from controller.model.sample import Absent, Fresh, Sample, Signal
from controller.model.snapshot import Instance

AGE_SECONDS = 1.0
NO_CPU = Absent("CPU of less than its time")


class Readings:
    """The last steps of a fleet, and what each replica shows of them.

    Args:
        rate_seconds: what rates and response times cover, at least a step.
        cpu_seconds: what CPU covers, at least as much.
    """

    def __init__(self, rate_seconds: float, cpu_seconds: float) -> None:
        self._rate_steps, cpu_steps = round(rate_seconds / STEP_SECONDS), round(cpu_seconds / STEP_SECONDS)
        self._steps: deque[Step] = deque(maxlen=cpu_steps)
        self._served: deque[int] = deque(maxlen=cpu_steps)
        """How many of the replicas that serve now served in that step too: the oldest."""

    def add(self, step: Step) -> tuple[Instance, ...]:
        """The replicas that serve, with their samples; the oldest first."""
        self._steps.append(step)
        self._served.append(step.ready)
        least = step.ready
        for n in range(len(self._served) - 1, -1, -1):
            least = self._served[n] = min(self._served[n], least)
        found: list[Instance] = []
        for count in sorted(set(self._served)):
            steps = sum(served >= count for served in self._served)
            signals = self._signals(steps)
            found += [
                Instance(f"{n}", f"http://{n}", signals, ready=True, uid=f"{n}") for n in range(len(found), count)
            ]
        return tuple(found)

    def _signals(self, served: int) -> dict[Signal, Sample]:
        """Of a replica that has served in the last so many steps."""
        steps = list(islice(reversed(self._steps), served))
        recent = steps[: self._rate_steps]
        finished = fsum(s.rate for s in recent)
        samples: dict[Signal, Sample] = {
            Signal.RATE: _fresh(
                fsum(s.rate / max(s.ready, 1) for s in recent) / min(self._rate_steps, len(self._steps))
            ),
            Signal.LATENCY: _fresh(fsum(s.latency * s.rate for s in recent) / max(finished, 1e-9)),
            # All requests of a step take as long, and a step holds more than a twentieth: the SLO's quantile is the slowest's.
            Signal.LATENCY_QUANTILE: _fresh(max(s.latency for s in recent)),
        }
        whole = served == len(self._steps)
        samples[Signal.CPU] = _fresh(fsum(s.cpu for s in steps) / served) if whole else NO_CPU
        return samples


def _fresh(value: float) -> Fresh:
    return Fresh(value, AGE_SECONDS)
