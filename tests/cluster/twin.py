"""The same load on two Deployments side by side: one whose HPA is steered, and one with the plain HPA that it was found with."""

import itertools
import time

from acceptance_world import History
from support.objects import hpa

STEERED, PLAIN = "web", "plain"
STEPS = {"replicas": 2, "every": "1s", "lowerEvery": "2s"}
SLO_SECONDS = 0.5
PER_CORE = 20.0
"""Requests/s that a core serves."""
LAG_SECONDS = 6.0
"""Two HPAs look once a second, each at its own moment, and each waits 5 s after the last high recommendation of its own."""


class Twin:
    """Requests as cores: each Deployment gets the same, spread over its ready pods.

    Args:
        world: with the Deployment `web`, whose policy is written by the test.
    """

    def __init__(self, world, replicas=2, least=2, most=10):
        self.world = world
        self._ready = {STEERED: replicas, PLAIN: replicas}
        self.cores = 0.5 * replicas
        for name in (STEERED, PLAIN):
            world.deploy(name, replicas)
            world.kubectl("apply", body=hpa(name, least=least, most=most, memory=None))
            world.cluster.metrics.set(world.namespace, f"{name}-*", self._used(name), 0.5 * 2**30)

    def _used(self, name):
        return lambda _pod: min(self.cores / max(1, self._ready[name]), 2.0)

    def look(self):
        """Bring what the pods use, and how the steered ones fare, up to date."""
        self._ready = {name: self.world.ready(name) for name in (STEERED, PLAIN)}
        full = self.cores / max(1, self._ready[STEERED])
        response, full = 0.1 if full < 0.85 else 2 * SLO_SECONDS, min(full, 1.0)
        self.world.exporter.set(self.world.namespace, (response, full, PER_CORE * full))

    def run(self, daemon, cores, until, timeout_seconds=40.0):
        """Ticks under a load until the condition holds."""
        self.cores = cores
        end = time.monotonic() + timeout_seconds
        while True:
            self.look()
            daemon.tick()
            if until():
                return
            assert time.monotonic() < end, (self.world.bounds(), self._ready, daemon.decisions()[-1500:])
            time.sleep(0.2)

    def runs(self):
        """(steered, plain) replicas asked for."""
        return self.world.replicas(STEERED), self.world.replicas(PLAIN)


class Counted(History):
    """A history of Deployments and HPAs, with the instant at which each state was seen."""

    def __init__(self, world):
        self._first = {name: world.replicas(name) for name in (STEERED, PLAIN)}
        super().__init__(world.cluster, world.paths.deployments, world.paths.hpas)

    def replicas(self, name):
        """[(instant, replicas asked for)] of a Deployment, at each change."""
        rows = [(0.0, self._first[name])]
        for kind, thing in self.states():
            if kind != "DELETED" and thing["kind"] == "Deployment" and thing["metadata"]["name"] == name:
                count = thing["spec"]["replicas"]
                if rows[-1][1] != count:
                    rows.append((self.at(thing), count))
        return rows

    def at(self, thing):
        return self.instants[thing["metadata"]["resourceVersion"]]

    def bounds(self):
        """[(min, max)] of the steered HPA, at each change."""
        rows = []
        for _, thing in self.states():
            if thing["kind"] == "HorizontalPodAutoscaler" and thing["metadata"]["name"] == STEERED:
                pair = thing["spec"]["minReplicas"], thing["spec"]["maxReplicas"]
                if not rows or rows[-1] != pair:
                    rows.append(pair)
        return rows


def in_steps(bounds, step=2):
    """Whether no bound moved by more than a step, nor crossed the other."""
    for before, after in itertools.pairwise(bounds):
        assert all(abs(b - a) <= step for a, b in zip(before, after, strict=True)), bounds
        assert after[0] <= after[1]


def compared(history):
    """Steered and plain replicas, once it is sure that nothing was stopped which the plain HPA kept."""
    steered, plain = history.replicas(STEERED), history.replicas(PLAIN)
    never_fewer_than_the_plain_one(steered, plain)
    in_steps(history.bounds())
    return steered, plain


def killed(rows):
    """Pods that were stopped: the sum of all steps down."""
    return sum(max(0, before - after) for (_, before), (_, after) in itertools.pairwise(rows))


def never_fewer_than_the_plain_one(steered, plain):
    """Whether each step down of the steered one went no lower than the plain one was about then: nothing was stopped
    that the plain HPA would have kept."""
    for (_, before), (at, after) in itertools.pairwise(steered):
        if after < before:
            near = [n for start, end, n in spans(plain) if end >= at - LAG_SECONDS and start <= at + LAG_SECONDS]
            assert after >= min(near), (at, before, after, near)


def spans(rows):
    """[(from, until, replicas)] of rows with instants."""
    ends = [at for at, _ in rows[1:]] + [float("inf")]
    return [(start, end, count) for (start, count), end in zip(rows, ends, strict=True)]


def hpa_writes(world):
    """Writes that the API server has counted on HPAs themselves, not on their status."""
    lines = world.api.call("GET", "/metrics").splitlines()
    counted = [line for line in lines if line.startswith("apiserver_request_total{") and 'subresource=""' in line]
    writes = [
        line
        for line in counted
        if 'resource="horizontalpodautoscalers"' in line
        if any(f'verb="{verb}"' in line for verb in ("APPLY", "PATCH", "POST", "PUT"))
    ]
    return sum(float(line.rpartition(" ")[2]) for line in writes)
