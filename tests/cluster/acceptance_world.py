"""A namespace with workloads and policies on a real control plane, and the real daemon's code to steer it."""

import contextlib
import json
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import requests
import structlog
import yaml
from support.eventually import eventually
from support.objects import Paths, deployment

from controller.app import build
from controller.lab.cluster.api import ApiError
from controller.model.outcome import Result
from controller.settings import Settings
from trimtab.contract import Keys

ROOT = Path(__file__).parents[2]

CALM, BUSY = (0.1, 0.3), (1.0, 0.95)
"""(response time in seconds, utilisation): half the SLO or less, and far over it."""

SIGNALS = {
    "latency": {"query": "max by ($by) (model_latency_seconds{$selector})"},
    "rate": {"query": "max by ($by) (model_requests_per_second{$selector})"},
    "utilisation": {"query": "max by ($by) (model_utilisation_ratio{$selector})"},
}


class Exporter:
    """What the model servers of all namespaces would export, one series per pod that exists, for Prometheus to scrape."""

    def __init__(self, cluster):
        self._levels = {}
        self._cluster = cluster
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = exporter.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def set(self, namespace, level):
        """The (response time, utilisation) of all pods of a namespace, and their requests/s if not 10; None for no series."""
        self._levels[namespace] = level

    def text(self):
        api, lines = self._cluster.api(), []
        for namespace, level in tuple(self._levels.items()):
            if level is None:
                continue
            for pod in api.get(Paths(namespace).pods)["items"]:
                service = pod["metadata"].get("labels", {}).get("app", "")
                labels = f'namespace="{namespace}",service="{service}",pod="{pod["metadata"]["name"]}"'
                lines += [
                    f"up{{{labels}}} 1",  # what Prometheus writes itself when it scrapes pods one by one
                    f"model_latency_seconds{{{labels}}} {level[0]}",
                    f"model_utilisation_ratio{{{labels}}} {level[1]}",
                    f"model_requests_per_second{{{labels}}} {level[2] if len(level) > 2 else 10}",
                ]
        return "\n".join(lines) + "\n"

    def stop(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Daemon:
    """The daemon, turned by hand: `tick()` is one turn of its real loop."""

    def __init__(self, app, logs):
        self.app = app
        self.logs = logs

    def tick(self):
        """The report of one tick over all policies."""
        self.app.store.refresh()
        return self.app.once(self.app.store.policies)

    def tick_until(self, condition, timeout_seconds=15.0):
        """Ticks until the report fulfils the condition; that report."""

        def turn():
            report = self.tick()
            told = [plan.sentence() for plan in report.plans], report.outcomes[-3:], report.snapshot.problems
            assert condition(report), told
            return report

        return eventually(turn, timeout_seconds, every_seconds=0.25)

    def decisions(self):
        """What the log says of decisions, as one text."""
        return "\n".join(json.dumps(entry, default=str) for entry in self.logs if entry["event"] == "decision")


class World:
    """One namespace. Every workload and its HPA carry the name of their policy."""

    def __init__(self, cluster, namespace, folder, *, redis, prometheus, exporter):
        self.cluster = cluster
        self.api = cluster.api()
        self.namespace = namespace
        self.paths = Paths(namespace)
        self.folder = folder
        self.redis = redis
        self.exporter = exporter
        self.prometheus_url = prometheus.url
        self.policies = folder / "policies"
        self.policies.mkdir(exist_ok=True)
        exporter.set(namespace, CALM)
        cluster.metrics.set(namespace, "*", 0.7, 0.5 * 2**30)

    def policy(self, name="web", kind="Deployment", least=(2, 6), most=(10, 20), sections=None, **scaling):
        """Write a policy; bounds as (floor, ceiling). `sections` replaces others than scaling."""
        section = {
            "hpa": name,
            "target": {"kind": kind, "name": name},
            "min": {"floor": least[0], "ceiling": least[1]},
            "max": {"floor": most[0], "ceiling": most[1]},
            "steps": {"replicas": 2, "every": "1s", "lowerEvery": "1s"},
            **scaling,
        }
        spec = {
            "interval": "1s",
            "instances": {"selector": {"namespace": self.namespace, "service": name}},
            "signals": SIGNALS,
            # In step with the bounds, which move once a second here: nothing is lowered while a pod still warms up.
            "routing": {"slowStart": "2s"},
            "concurrency": {"queue": f"{name}_jobs"},
            "scaling": section,
            **(sections or {}),
        }
        document = {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }
        (self.policies / f"{name}.yaml").write_text(yaml.safe_dump(document))

    def key(self, name="web"):
        return f"{self.namespace}/{name}"

    def backlog(self, depth, name="web"):
        """So many requests wait in the policy's queue."""
        waiting = Keys(self.key(name)).queue(f"{name}_jobs").waiting
        self.redis.delete(waiting)
        if depth:
            self.redis.zadd(waiting, {f"job-{n}": n for n in range(depth)})

    def deploy(self, name="web", replicas=2):
        """A Deployment with ready pods, that Prometheus knows."""
        self.api.post(self.paths.deployments, deployment(name, replicas))
        eventually(lambda: self.ready(name) == replicas)
        eventually(lambda: self.series() >= replicas)

    def series(self):
        query = f'count(model_latency_seconds{{namespace="{self.namespace}"}})'
        url = f"{self.prometheus_url}/api/v1/query"
        with requests.get(url, params={"query": query}, timeout=5) as answer:
            result = answer.json()["data"]["result"]
        return int(result[0]["value"][1]) if result else 0

    def ready(self, name="web"):
        return self.api.get(f"{self.paths.deployments}/{name}")["status"].get("readyReplicas", 0)

    def replicas(self, name="web"):
        return self.api.get(f"{self.paths.deployments}/{name}")["spec"].get("replicas", 0)

    def hpa(self, name="web"):
        """The live HPA, None when there is none."""
        try:
            return self.api.get(f"{self.paths.hpas}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def bounds(self, name="web"):
        spec = self.hpa(name)["spec"]
        return spec["minReplicas"], spec["maxReplicas"]

    def events(self, name="web"):
        """(reason, note) of the Events about the HPA that the server holds."""
        items = self.api.get(self.paths.new_events)["items"]
        items = [e for e in items if e["regarding"].get("name") == name and e["reason"].startswith("Trimtab")]
        return [(e["reason"], e["note"]) for e in items]

    def kubectl(self, *args, body=None, **options):
        stdin = None if body is None else json.dumps(body)
        more = () if body is None else ("-f", "-")
        return self.cluster.kubectl("-n", self.namespace, *args, *more, stdin=stdin, **options)

    def settings(self, **changes):
        base = {
            "policies": str(self.policies),
            "prometheus_url": self.prometheus_url,
            "redis_url": f"redis://127.0.0.1:{self.redis.connection_pool.connection_kwargs['port']}/0",
            "kubernetes": "kubeconfig",
            "kubeconfig": str(self.cluster.kubeconfig),
            "identity": "daemon-under-test",
            "lease_namespace": self.namespace,
        }
        return Settings(**{**base, **changes})

    def flags(self):
        """Of a daemon that runs as a process: the whole world is its own."""
        return (
            f"--policies={self.policies}",
            f"--prometheus-url={self.prometheus_url}",
            f"--redis-url={self.settings().redis_url}",
            "--kubernetes=kubeconfig",
            f"--kubeconfig={self.cluster.kubeconfig}",
        )

    @contextlib.contextmanager
    def daemon(self, **settings):
        """The daemon, built by its own composition root."""
        with structlog.testing.capture_logs() as logs, build(self.settings(**settings), dry_run=False) as app:
            try:
                yield Daemon(app, logs)
            finally:
                app.loop.leader.stop()


class History:
    """Every state that the API server held of some kinds of a namespace, in the order in which it held them, and when.

    `instants` are those at which they were seen, by resourceVersion.
    """

    def __init__(self, cluster, *paths):
        self._lock = threading.Lock()
        self._states = []
        self.instants = {}
        self._stopped = threading.Event()
        version = cluster.api().get(paths[0])["metadata"]["resourceVersion"]
        self._threads = [
            threading.Thread(target=self._follow, args=(cluster, path, version), daemon=True) for path in paths
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _follow(self, cluster, path, version):
        api = cluster.api()
        while not self._stopped.is_set():
            params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "1"}
            with api._session.get(cluster.server + path, params=params, stream=True, timeout=10) as answer:
                for line in answer.iter_lines():
                    state = json.loads(line)
                    version = state["object"]["metadata"]["resourceVersion"]
                    self.instants[version] = time.monotonic()
                    with self._lock:
                        self._states.append((state["type"], state["object"]))

    def states(self):
        """(type of the event, object), by resourceVersion: one order for all kinds."""
        with self._lock:
            return sorted(self._states, key=lambda state: int(state[1]["metadata"]["resourceVersion"]))


def outcome_of(report, actuator, result=None):
    """The outcomes of one actuator in a tick's report."""
    return [o for o in report.outcomes if o.actuator == actuator and (result is None or o.result is result)]


def done(actuator):
    """A condition for `tick_until`."""
    return lambda report: outcome_of(report, actuator, Result.DONE)


def holds(report):
    return "; ".join(f"{hold.field}: {hold.reason}" for plan in report.plans for hold in plan.holds)


def overlay_for(folder, namespace, more=""):
    """A copy of manifests/ whose single-namespace overlay is edited as a user would edit it; the overlay's folder."""
    for part in ("manifests", "policies"):
        shutil.copytree(ROOT / part, folder / part)
    overlay = folder / "manifests" / "overlays" / "single-namespace"
    file = overlay / "kustomization.yaml"
    file.write_text(file.read_text().replace("namespace: models", f"namespace: {namespace}") + f"{more}\n")
    return overlay
