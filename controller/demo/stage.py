"""The demo's parts: started in order, stopped in reverse, whatever happens in between."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from controller.demo import script
from controller.lab.cluster.binaries import find_binaries
from controller.lab.cluster.control_plane import Cluster
from controller.lab.cluster.kubelet import Hooks
from controller.lab.emulator.emulator import Emulator
from controller.lab.fleet import Fleet, Server, free_network
from controller.lab.load import ROUND_ROBIN, TRIMTAB, Phase, Plan
from controller.lab.ports import free_port
from controller.lab.process import LabError, Process, http_ready, wait_until
from controller.lab.prometheus import PrometheusServer, Target
from controller.lab.redis import RedisServer
from trimtab.contract import Keys

HPAS = f"/apis/autoscaling/v2/namespaces/{script.NAMESPACE}/horizontalpodautoscalers"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{script.NAMESPACE}/deployments"
FIRST_RANKING_SECONDS = 30.0
READINGS_SECONDS = 1.0


class Usage:
    """Each pod's cores in use, from the slot-seconds that its server has spent, over about a second."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._last: dict[str, tuple[float, float, float | None]] = {}
        self._lock = threading.Lock()

    def cores(self, pod: str) -> float | None:
        """None when it is not known (yet): missing, not zero."""
        server = next((server for server in self._fleet.servers() if server.name == pod), None)
        if server is None:
            return None
        with self._lock:
            now = time.monotonic()
            then, spent, cores = self._last.get(pod, (None, 0.0, None))
            if then is not None and now - then < READINGS_SECONDS:
                return cores
            try:
                busy = float(server.lab()["busy_seconds"])
            except LabError:
                return None
            if then is not None:
                cores = (busy - spent) / (now - then)
            self._last[pod] = (now, busy, cores)
            return cores


class Stage:
    """Everything that runs. A context manager: entering starts it, leaving stops all of it.

    `folder` holds every file, `say` is told what is going on.

    Attributes:
        fleet: the servers behind Trimtab's ranking, one per pod.
        twins: their equals behind round robin: as many, as fast, slowed at the same moment.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.decisions = folder / "decisions.jsonl"
        self.rows = folder / "requests.jsonl"
        self.policies = folder / "policies"
        self._say = say
        self._stack = contextlib.ExitStack()
        self._loads = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, phases: tuple[Phase, ...]) -> None:
        """Start the load on both sides; it ends by itself after the last phase. Its first row says when it began."""
        plan = Plan(
            phases=phases,
            contestants={ROUND_ROBIN: str(self.folder / "twins.json"), TRIMTAB: str(self.folder / "fleet.json")},
            redis_url=self.redis.url,
            policy=script.POLICY,
            seed=script.SEED,
        )
        self._loads += 1
        path = self.folder / f"load-{self._loads}.json"
        plan.write(path)
        rows = self.rows if self._loads == 1 else self.folder / "kept.jsonl"
        command = [sys.executable, "-m", "controller.lab.load", str(path)]
        self.load = Process.start("the load generator", command, log=self.folder / "load.log", stdout=rows)
        self._stack.callback(self.load.stop, 2.0)

    def slow_down(self, index: int, times: float) -> str:
        """Make the server at that place, and its twin, so many times slower. Returns its name."""
        name = ""
        for fleet in (self.fleet, self.twins):
            for server in fleet.servers():
                if server.index == index:
                    server.lab(speed=server.make.speed / times)
                    name = server.name if fleet is self.fleet else name
        return name

    def ranking(self) -> dict[str, Any] | None:
        """The published ranking; None when there is none."""
        text = self._redis.get(Keys(script.POLICY).ranking)
        return json.loads(text) if isinstance(text, str) else None

    def limit(self) -> int | None:
        """The published limit; None when there is none."""
        text = self._redis.get(Keys(script.POLICY).limit)
        return int(text) if isinstance(text, str) else None

    def waiting(self) -> int:
        """How many requests wait at the limit."""
        return int(self._redis.zcard(Keys(script.POLICY).queue("model_requests").waiting))

    def hpa(self) -> dict[str, Any] | None:
        """The HPA as the API server holds it; None when it is not there."""
        items = self._api.get(HPAS)["items"]
        return next((item for item in items if item["metadata"]["name"] == script.HPA), None)

    def urls(self) -> dict[str, str]:
        """Where everything listens."""
        servers = " ".join(server.endpoint for server in self.fleet.servers())
        return {
            "Prometheus": self.prometheus.url,
            "Redis": self.redis.url,
            "Kubernetes": f"{self.cluster.server} (kubeconfig {self.cluster.kubeconfig})",
            "controller": f"http://{self.listen}/metrics",
            "model servers": servers,
            "policies": str(self.policies),
        }

    def check(self) -> None:
        """Raise LabError when a part that must run has ended."""
        for process in (self.controller, self.prometheus.process, self.redis.process):
            if not process.running():
                lines = "\n  ".join(process.last_lines())
                raise LabError(f"{process.name} ended with status {process.returncode()}; its last lines:\n  {lines}")

    def _start(self) -> None:
        port = script.PORT
        try:
            network = free_network(port)
        except LabError:  # a server of the user's on all addresses
            port = free_port()
            network = free_network(port)
        self._say("starting Prometheus and Redis")
        self.prometheus = self._stack.enter_context(PrometheusServer.start(self.folder / "prometheus"))
        self.redis = self._stack.enter_context(RedisServer.start(self.folder / "redis"))
        self._redis = self._stack.enter_context(self.redis.client())
        self.twins = Fleet(self.folder / "twins", f"{network}.1", port, script.MAKES, self._list_twins)
        self._stack.callback(self.twins.close)
        self.fleet = Fleet(self.folder / "fleet", f"{network}.0", port, script.MAKES, self._list_fleet)
        self._stack.callback(self.fleet.close)
        self._start_cluster()
        self._say(f"starting {script.REPLICAS} model servers for each side, as pods of a Deployment")
        self._api.post("/api/v1/namespaces", {"metadata": {"name": script.NAMESPACE}})
        self._api.post(DEPLOYMENTS, script.deployment())
        wait_until(self._is_ready, 30, f"{script.REPLICAS} ready pods")
        self._start_controller(port)

    def _start_cluster(self) -> None:
        hooks = Hooks(on_start=self._pod_starts, on_stop=self._pod_stops)
        found = find_binaries()
        if isinstance(found, str) or not found.has_controllers:
            reason = found if isinstance(found, str) else found.note
            self._say(f"starting an emulated Kubernetes API ({reason})")
            self.kubernetes = "emulated"
            self.cluster: Cluster | Emulator = Emulator.start(self.folder / "cluster", hooks=hooks)
        else:
            self._say("starting a Kubernetes control plane: etcd, API server, controller manager")
            self.kubernetes = "real"
            self.cluster = Cluster.start(self.folder / "cluster", binaries=found, hooks=hooks)
        self._stack.callback(self.cluster.stop)
        # Before the cluster stops: its kubelet then stops all pods, one by one, and each would wait for its requests.
        self._stack.callback(self._close_fleets)
        self.cluster.metrics.set(script.NAMESPACE, "*", Usage(self.fleet).cores, 1e9)
        self._api = self.cluster.api()

    def _start_controller(self, port: int) -> None:
        self._say("starting the controller")
        self.policies.mkdir()
        (self.policies / f"{script.SERVICE}.yaml").write_text(script.policy_text(port), encoding="utf-8")
        self.listen = f"127.0.0.1:{free_port()}"
        flags = {
            "policies": self.policies,
            "prometheus-url": self.prometheus.url,
            "redis-url": self.redis.url,
            "kubernetes": "kubeconfig",
            "kubeconfig": self.cluster.kubeconfig,
            "listen": self.listen,
            "journal": self.folder / "journal",
            "log-format": "json",
        }
        command = [sys.executable, "-m", "controller", "run", *(f"--{name}={value}" for name, value in flags.items())]
        self.controller = Process.start(
            "the controller",
            command,
            log=self.folder / "controller.log",
            stdout=self.decisions,
            # Settings of the user's own daemon are not meant for this one.
            env={name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")},
            ready=http_ready(f"http://{self.listen}/healthz"),
            ready_within_seconds=30,
        )
        self._stack.callback(self.controller.stop)
        self.controller.wait_ready(lambda: self.ranking() is not None, FIRST_RANKING_SECONDS)

    def _is_ready(self) -> bool:
        status = self._api.get(f"{DEPLOYMENTS}/{script.SERVICE}").get("status", {})
        return int(status.get("readyReplicas", 0)) >= script.REPLICAS

    def _pod_starts(self, pod: dict[str, Any]) -> str:
        name = pod["metadata"]["name"]
        self.twins.start(name)
        return self.fleet.start(name).host

    def _pod_stops(self, pod: dict[str, Any]) -> None:
        for fleet in (self.fleet, self.twins):
            fleet.stop(pod["metadata"]["name"])

    def _close_fleets(self) -> None:
        for fleet in (self.fleet, self.twins):
            fleet.close()

    def _list_twins(self, servers: list[Server]) -> None:
        _write_list(self.folder / "twins.json", servers)

    def _list_fleet(self, servers: list[Server]) -> None:
        _write_list(self.folder / "fleet.json", servers)
        labels = {"namespace": script.NAMESPACE, "service": script.SERVICE}
        self.prometheus.set_targets([Target(server.address, {"pod": server.name, **labels}) for server in servers])


def _write_list(path: Path, servers: list[Server]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps([server.endpoint for server in servers]), encoding="utf-8")
    part.replace(path)
