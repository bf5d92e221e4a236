"""Trimtab itself: `decide()` on small snapshots, and the client library's own `Core`, with virtual time for a clock."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from bench.routing.peers import Chooser
from bench.routing.servers import Job
from controller.decide.decide import decide
from controller.model.memory import Memory
from controller.model.plan import Plan
from controller.model.sample import Absent, Sample, Signal, sample_of
from controller.model.snapshot import Instance, ServiceSnapshot
from controller.policy.schema import LoadPolicy
from trimtab.balancer.core import BELIEF, Core
from trimtab.balancer.heartbeat import LIFE_SECONDS, PERIOD_SECONDS, TOTAL_AGE_SECONDS

DELIVERY_SECONDS = 0.1
"""From a publish to its use: one message and one read."""
EPOCH = 1_790_000_000.0


def policy(interval: float, window: float, routing: Mapping[str, Any] | None = None) -> LoadPolicy:
    return LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": "m", "namespace": "models"},
            "spec": {
                "interval": f"{interval:g}s",
                "instances": {"selector": {"app": "m"}},
                "signals": {"preset": "fastapi", "window": f"{window:g}s", "freshFor": f"{max(window, 15.0):g}s"},
                "slo": {"latency": "4s"},
                "routing": dict(routing or {}),
            },
        }
    )


class Trimtab(Chooser):
    """The whole product. The heartbeat's period and belief are the shipped ones unless a subclass says so."""

    name = "Trimtab"
    heartbeat = PERIOD_SECONDS
    """Seconds between two heartbeats of a client; 0 for none."""
    belief = BELIEF
    routing: Mapping[str, Any] = {}
    interval = 5.0
    window = 20.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.memory = Memory()
        self.plan: Plan | None = None
        self.redis_up = True
        self.rules = policy(self.interval, self.window, self.routing)
        self.cores = [
            Core(belief=self.belief, clock=lambda: self.world.now, random=Random(self.rng.random()).random)
            for _ in range(self.clients)
        ]
        for core in self.cores:
            core.install((self.servers[i].name, 1.0 / len(self.active)) for i in self.active)
        self._index = {server.name: server.index for server in self.servers}
        self._rows: list[tuple[float, dict[str, int], dict[str, float]]] = [(-1e9, {}, {})] * self.clients
        self._total: dict[str, float] = {}
        self._total_at = -1e9
        self._own_in_total: list[dict[str, float]] = [{}] * self.clients
        self._heard = [0.0] * self.clients
        if self.heartbeat:
            for client in range(self.clients):
                phase = self.rng.uniform(0.0, self.heartbeat)
                self.world.every(phase, self.heartbeat, lambda client=client: self._beat(client))  # type: ignore[misc]

    def choose(self, job: Job) -> int:
        ticket = self.cores[job.client].take()
        job.token = ticket
        return self._index[ticket.endpoint]

    def finished(self, job: Job, ok: bool, seconds: float) -> None:  # noqa: ARG002 - every chooser's form
        job.token.release(ok)  # type: ignore[attr-defined]

    def tick(self) -> None:
        now = EPOCH + self.world.now
        plan, self.memory = decide(self.rules, self.snapshot(now), self.memory)
        self.plan = plan
        if self.redis_up and plan.publish is not None and plan.publish.endpoints:
            weights = [(row.instance, row.weight) for row in plan.publish.endpoints]
            for core in self.cores:
                self.world.at(self.world.now + self.rng.uniform(0.0, 2.0 * DELIVERY_SECONDS), core.install, weights)

    def snapshot(self, now: float) -> ServiceSnapshot:
        instances = []
        for i in self.active:
            row = self.scraper.row(i)
            found: dict[Signal, float | None] = {}
            if row is not None:
                found = {
                    Signal.RATE: row.rate,
                    Signal.UTILISATION: row.utilisation,
                    Signal.ERRORS: row.errors,
                    Signal.LATENCY: row.latency,
                    Signal.IN_FLIGHT: row.in_flight,
                }
            age = 0.0 if row is None else row.age
            fresh_for = self.rules.spec.signals.freshFor
            signals: dict[Signal, Sample] = {
                signal: Absent("no series") if value is None else sample_of(value, age, fresh_for_seconds=fresh_for)
                for signal, value in found.items()
            }
            signals.setdefault(Signal.RATE, Absent("no series"))
            name = self.servers[i].name
            instances.append(Instance(name, name, signals, ready=True, uid=name))
        return ServiceSnapshot("models/m", now, tuple(instances))

    def _beat(self, client: int) -> None:
        """What the session and the script in Redis do: write a row, read the sum, take off what was one's own in it."""
        core, now = self.cores[client], self.world.now
        if not self.redis_up:
            if now - self._heard[client] > LIFE_SECONDS:
                core.share({})
            return
        self._heard[client] = now
        self._rows[client] = (now, core.in_flight(), core.recent_failures())
        if now - self._total_at >= TOTAL_AGE_SECONDS * self.heartbeat:
            total: dict[str, float] = {}
            for index, (at, counts, failures) in enumerate(self._rows):
                own: dict[str, float] = {}
                if now - at <= LIFE_SECONDS:
                    for source in (counts, failures):
                        for name, value in source.items():
                            own[name] = own.get(name, 0.0) + value
                            total[name] = total.get(name, 0.0) + value
                self._own_in_total[index] = own
            self._total, self._total_at = total, now
        own = self._own_in_total[client]
        core.share({name: max(0.0, value - own.get(name, 0.0)) for name, value in self._total.items()})


class WithoutHeartbeat(Trimtab):
    name = "Trimtab, no shared counts"
    heartbeat = 0.0


class FourHeartbeats(Trimtab):
    """The frontier: four times as many calls to Redis, and younger counts are believed more."""

    name = "Trimtab, 4 heartbeats/s"
    heartbeat = 0.25
    belief = 0.6
