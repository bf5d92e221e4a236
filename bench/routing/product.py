"""Trimtab itself: `decide()` on small snapshots, and the client library's own `Core`, with virtual time for a clock."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from bench.routing.peers import Chooser
from bench.routing.servers import Job
from bench.routing.sharing import Sharing
from controller.decide.decide import decide
from controller.model.memory import Memory
from controller.model.plan import Plan
from controller.model.sample import Absent, Sample, Signal, sample_of
from controller.model.snapshot import Instance, ServiceSnapshot
from controller.policy.schema import LoadPolicy
from trimtab.balancer.core import Core
from trimtab.balancer.heartbeat import Heartbeat
from trimtab.balancer.ticket import Ticket

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
    """The whole product. The heartbeat's period is the shipped one unless a subclass says so."""

    name = "Trimtab"
    heartbeat: float | None = None
    """Seconds between two heartbeats of a client; None for what the client library makes of the number of clients, 0 for none."""
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
            Core(clock=lambda: self.world.now, random=Random(self.rng.random()).random) for _ in range(self.clients)
        ]
        for core in self.cores:
            core.install((self.servers[i].name, 1.0 / len(self.active)) for i in self.active)
        self._index = {server.name: server.index for server in self.servers}
        beat = Heartbeat()
        beat.clients = self.clients
        period = beat.period_seconds(len(self.active)) if self.heartbeat is None else self.heartbeat
        names = [server.name for server in self.servers]
        self.sharing = Sharing(self.world, self.cores, names, period, self.rng) if period else None

    def choose(self, job: Job) -> int:
        if self.sharing is not None:
            self.sharing.up = self.redis_up
            self.sharing.read(job.client)
        ticket = self.cores[job.client].take()
        job.token = ticket
        if self.sharing is not None:
            self.sharing.note(job.client, ticket.endpoint, 1)
        return self._index[ticket.endpoint]

    def finished(self, job: Job, ok: bool, seconds: float) -> None:  # noqa: ARG002 - every chooser's form
        ticket: Ticket = job.token  # type: ignore[assignment]
        before = ticket.slot.speed.evidence(self.world.now)
        ticket.release(ok)
        if self.sharing is not None:
            after = ticket.slot.speed.evidence(self.world.now)
            self.sharing.note(job.client, ticket.endpoint, -1, after[0] - before[0], after[1] - before[1])

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


class WithoutHeartbeat(Trimtab):
    name = "Trimtab, no shared counts"
    heartbeat = 0.0


class OneHeartbeat(Trimtab):
    """The frontier: as rare as a fleet of a thousand clients has them."""

    name = "Trimtab, 1 heartbeat/s"
    heartbeat = 1.0


class FourHeartbeats(Trimtab):
    name = "Trimtab, 4 heartbeats/s"
    heartbeat = 0.25
