"""What does sharing buy? The routing simulator's fleets and the shipped choice, with the true speeds for weights: only the client's part is judged."""

from __future__ import annotations

from dataclasses import dataclass

from bench.routing.product import Trimtab
from bench.routing.run import UNEQUAL, Setting, run

ALIKE = (1.0,) * 10
SPEEDS = UNEQUAL


class Shared(Trimtab):
    """Heartbeats as often as so many clients beat; weights that never change."""

    name = "shared"

    def membership(self) -> None:
        super().membership()
        total = sum(server.speed for server in self.servers)
        self._weights = [(server.name, server.speed / total) for server in self.servers]

    def tick(self) -> None:
        # Every time, though it changes nothing: the first is what installs it.
        for core in self.cores:
            core.install(self._weights)


class Alone(Shared):
    name = "alone"
    heartbeat = 0.0


class Rare(Shared):
    """As often as a thousand clients beat."""

    name = "shared, 1 beat/s"
    heartbeat = 1.0


@dataclass(frozen=True)
class Fleet:
    """One run. `load` is a ratio of the fleet's mean capacity; `failing` the index of a server that fails every request at once."""

    clients: int = 20
    load: float = 0.75
    speeds: tuple[float, ...] = SPEEDS
    slowdowns: bool = True
    failing: int | None = None


def simulate(fleet: Fleet, chooser: type[Shared], seed: int) -> dict[str, float]:
    """One run's figures."""
    setting = Setting(
        speeds=fleet.speeds,
        antagonists=fleet.slowdowns,
        load=fleet.load,
        clients=fleet.clients,
        seconds=300.0,
        warm=60.0,
        events=() if fleet.failing is None else ((0.0, "fail", fleet.failing),),
    )
    result = run(setting, chooser, seed)
    return {"p99": result.p99, "mean": result.mean, "failed_ratio": result.failed}
