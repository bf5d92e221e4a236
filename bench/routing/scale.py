"""How long one tick's routing decision takes for a large fleet, in CPU seconds."""

from __future__ import annotations

import gc
import time
from random import Random

from bench.routing.product import policy
from controller.collector import calm
from controller.decide.decide import decide
from controller.decide.members import members, standing_weights
from controller.decide.routing import rank
from controller.model.memory import Memory
from controller.model.sample import Fresh, Signal
from controller.model.snapshot import Instance, ServiceSnapshot

TICKS = 5


def routing_seconds(count: int) -> float:
    """The least of a few ticks: what the work itself costs, whatever else the machine does."""
    rng = Random(1)
    rules, memory = policy(15.0, 60.0), Memory()
    calm()  # as the daemon does
    least = float("inf")
    for tick in range(TICKS):
        instances = []
        for i in range(count):
            values = {
                Signal.RATE: rng.uniform(8.0, 12.0),
                Signal.CPU: rng.uniform(0.4, 0.6),
                Signal.ERRORS: 0.0,
                Signal.LATENCY: rng.uniform(0.1, 0.3),
                Signal.IN_FLIGHT: float(rng.randrange(10)),
            }
            signals = {signal: Fresh(value, 1.0) for signal, value in values.items()}
            instances.append(Instance(f"pod-{i}", f"http://pod-{i}", signals, ready=True, uid=f"uid-{i}"))
        service = ServiceSnapshot("models/m", 1000.0 + 15.0 * tick, tuple(instances))
        gc.collect()
        began = time.process_time()
        weights = standing_weights(service, memory)
        rank(rules, service, members(service, memory, weights), weights, memory)
        least = min(least, time.process_time() - began)
        _, memory = decide(rules, service, memory)
    return least


if __name__ == "__main__":
    print(f"{routing_seconds(20_000):.3f} CPU seconds to route 20,000 instances")
