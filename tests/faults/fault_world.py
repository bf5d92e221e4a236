"""Everything that the daemon talks to, real, each part behind a proxy that breaks it on demand.

Two policies: `chat` is a Deployment in Kubernetes with an HPA; `plain` has no Kubernetes, only series of a preset.
"""

import contextlib
import json
import math
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml
from plugins.planes import fresh_namespace
from support.daemon import Daemon
from support.eventually import eventually
from support.objects import Paths, deployment

from controller.lab.cluster.api import ApiError
from controller.lab.prometheus import PrometheusServer, Target
from controller.lab.proxy import FaultProxy
from controller.lab.redis import RedisServer

INTERVAL = 1.5
PODS = 3
JITTER_RATIO = {"chat": 0.03, "plain": 0.15}
"""How far a weight may be off: rates over counters that are scraped on a busy machine jitter, gauges do not. What is lost for
want of data is more than that."""
GAUGES = ("lab_rate", "lab_latency", "lab_errors", "lab_cpu", "lab_in_flight")


class Exporter:
    """The model servers' metrics: one HTTP server, a path per instance. `spoil` changes what they say."""

    def __init__(self):
        self.values = {}
        """By path: what to say instead of a good value, None for no series, "down" for no answer."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = outer._body(self.path.strip("/"))
                if body is None:
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _body(self, path):
        bad = self.values.get(path, self.values.get("*", "good"))
        size = 1 + int(path.rpartition("-")[2]) if path.rpartition("-")[2].isdigit() else 1
        if bad == "down":
            return None
        if bad is None:
            return b"other 1\n"
        done = 10.0 * size * (time.time() % 1e6)
        good = {"lab_rate": 10.0 * size, "lab_latency": 0.05, "lab_errors": 0.0, "lab_cpu": 0.5, "lab_in_flight": 1.0}
        labels = 'handler="/predict",method="POST"'
        good |= {
            f"http_request_duration_seconds_count{{{labels}}}": done,
            f"http_request_duration_seconds_sum{{{labels}}}": done * 0.05,
            f'http_requests_total{{{labels},status="2xx"}}': done,
            "http_requests_inprogress": 1.0,
        }
        shown = good if bad == "good" else dict.fromkeys(good, bad)
        return "".join(f"{name} {_prometheus_text(value)}\n" for name, value in shown.items()).encode()


def _prometheus_text(value):
    return "NaN" if math.isnan(value) else "+Inf" if value == math.inf else repr(float(value))


class World:
    """Parts, proxies and the daemon between them; `World.start` makes one."""

    def __init__(self, folder, cluster, stack):
        self.folder, self.cluster = folder, cluster
        self.namespace = stack.enter_context(fresh_namespace(cluster))
        self.paths = Paths(self.namespace)
        self.chat, self.plain = f"{self.namespace}/chat", f"{self.namespace}/plain"
        self.policies = folder / "policies"
        self.policies.mkdir()
        self.api = cluster.api()
        self._deploy()
        self.exporter = Exporter()
        stack.callback(self.exporter.close)
        self.prometheus = stack.enter_context(PrometheusServer.start(folder / "prometheus", targets=self._targets()))
        self.redis = stack.enter_context(RedisServer.start(folder / "redis"))
        self.look = self.redis.client()
        stack.callback(self.look.close)
        self.prometheus_proxy = stack.enter_context(FaultProxy(self.prometheus.host, self.prometheus.port))
        self.redis_proxy = stack.enter_context(FaultProxy(self.redis.host, self.redis.port))
        self.kubernetes_proxy = stack.enter_context(self._tls_proxy())
        self.most = 10
        self.write_chat(self.most)
        (self.policies / "plain.yaml").write_text(yaml.safe_dump(self._plain()))

    def flags(self, **given):
        """What the daemon is started with."""
        flags = {
            "policies": self.policies,
            "prometheus-url": f"http://{self.prometheus_proxy.address}",
            "redis-url": f"redis://{self.redis_proxy.address}/0",
            "kubernetes": "kubeconfig",
            "kubeconfig": self.kubeconfig(),
        }
        flags |= {name.replace("_", "-"): value for name, value in given.items()}
        return [f"--{name}={value}" for name, value in flags.items()]

    def daemon(self, *more, **options):
        """One more daemon on this world."""
        return Daemon(self.folder, *self.flags(), *more, **options)

    def kubeconfig(self, token=None):
        """A kubeconfig with the rights of manifests/managed-namespace, that leads through the proxy."""
        made = yaml.safe_load(self.cluster.kubeconfig_for(self.namespace, "trimtab").read_text())
        made["clusters"][0]["cluster"]["server"] = f"https://{self.kubernetes_proxy.address}"
        if token is not None:
            made["users"][0]["user"] = {"token": token}
        path = self.folder / f"kubeconfig{'' if token is None else '-' + token}"
        path.write_text(yaml.safe_dump(made))
        return path

    def write_chat(self, most, **spec):
        """The policy `chat`, with this floor of maxReplicas: raising it makes the daemon write the HPA."""
        part = self.folder / "chat.part"
        part.write_text(yaml.safe_dump(self._chat(most, **spec)))
        part.replace(self.policies / "chat.yaml")

    def ask_for_more(self):
        """Ask for one more maxReplica; the HPA has it once the daemon could write it."""
        self.most += 1
        self.write_chat(self.most)
        return self.most

    def hpa(self):
        """(minReplicas, maxReplicas) as the API server holds them."""
        spec = self.api.get(f"{self.paths.hpas}/chat")["spec"]
        return spec["minReplicas"], spec["maxReplicas"]

    def ranking(self, policy):
        """The ranking document in Redis, or None."""
        text = self.look.get(f"trimtab:{{{policy}}}:ranking")
        return None if text is None else json.loads(text)

    def seq(self, policy):
        """How often the policy was published."""
        return int(self.look.hget(f"trimtab:{{{policy}}}:fence", "seq") or 0)

    def numbers(self, policy):
        """(limit, weights by instance) as workers and clients read them."""
        ranking = self.ranking(policy)
        limit = self.look.get(f"trimtab:{{{policy}}}:limit")
        weights = {row["instance"]: row["weight"] for row in ranking["endpoints"]} if ranking else {}
        return None if limit is None else int(limit), weights

    def _deploy(self):
        self.cluster.metrics.set(self.namespace, "*", 0.7, 5e8)
        self.api.post(self.paths.deployments, deployment("chat", PODS))
        self.api.post(f"/api/v1/namespaces/{self.namespace}/serviceaccounts", {"metadata": {"name": "trimtab"}})
        self.cluster.kubectl("apply", "-n", self.namespace, "-f", "manifests/base/role.yaml")
        self.cluster.kubectl("apply", "-n", self.namespace, "-f", "manifests/components/leader-election/role.yaml")
        eventually(lambda: len(self.ready_pods()) == PODS, 60)

    def ready_pods(self):
        """Names of the pods that are ready, sorted."""
        pods = self.api.get(self.paths.pods)["items"]
        conditions = {p["metadata"]["name"]: p.get("status", {}).get("conditions", ()) for p in pods}
        return sorted(
            n for n, cs in conditions.items() if any(c["type"] == "Ready" and c["status"] == "True" for c in cs)
        )

    def _targets(self):
        common = {"namespace": self.namespace}
        pods = [
            Target(self.exporter.address, {**common, "service": "chat", "pod": pod, "__metrics_path__": f"/chat-{i}"})
            for i, pod in enumerate(self.ready_pods())
        ]
        plain = [
            Target(
                self.exporter.address,
                {**common, "service": "plain", "replica": f"plain-{i}", "__metrics_path__": f"/plain-{i}"},
            )
            for i in range(PODS)
        ]
        return [*pods, *plain]

    def _tls_proxy(self):
        pki = self.cluster.ca_file.parent
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.load_cert_chain(pki / "server.crt", pki / "server.key")
        host, port = self.cluster.server.removeprefix("https://").split(":")
        upstream = ssl.create_default_context(cafile=str(self.cluster.ca_file))
        return FaultProxy(host, int(port), tls=served, upstream_tls=upstream)

    def _chat(self, most, **spec):
        signals = dict(zip(("rate", "latency", "errors", "cpu", "inFlight"), GAUGES, strict=True))
        return self._policy(
            "chat",
            instances={"selector": {"namespace": self.namespace, "service": "chat"}},
            signals={
                "freshFor": "3s",
                **{name: {"query": f"max by ($by) ({metric}{{$selector}})"} for name, metric in signals.items()},
            },
            scaling={
                "hpa": "chat",
                "target": {"name": "chat"},
                "min": {"floor": PODS, "ceiling": 6},
                "max": {"floor": most, "ceiling": 60},
                "steps": {"every": "0s"},
            },
            **spec,
        )

    def _plain(self):
        return self._policy(
            "plain",
            instances={
                "selector": {"namespace": self.namespace, "service": "plain"},
                "key": "replica",
                "endpoint": "http://{replica}:8000",
            },
            signals={"preset": "fastapi", "window": "4s", "freshFor": "3s"},
        )

    def _policy(self, name, **spec):
        return {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"interval": f"{INTERVAL:g}s", "routing": {}, "concurrency": {"queue": name}, **spec},
        }


@contextlib.contextmanager
def world_of(folder, cluster):
    """A world with a daemon that has published both rankings and made the HPA."""
    with contextlib.ExitStack() as stack:
        world = World(folder, cluster, stack)
        world.main = stack.enter_context(world.daemon())
        eventually(lambda: is_settled(world), 60)
        yield world


def is_settled(world):
    """Whether everything is published and written, weights have converged, and nothing is in trouble."""
    with contextlib.suppress(ApiError):
        policies = (world.chat, world.plain)
        whole = all(world.numbers(policy)[0] == 5 * PODS and has_converged(world, policy) for policy in policies)
        states = {row["state"] for p in policies for row in (world.ranking(p) or {"endpoints": ()})["endpoints"]}
        quiet = len(world.main.lines("problem")) == len(world.main.lines("recovered"))
        return whole and states == {"serving"} and quiet and world.hpa() == (PODS, world.most)
    return False


def has_converged(world, policy):
    """Whether its weights are as the capacities, 1 : 2 : 3, to within half of what they may move by later."""
    _, weights = world.numbers(policy)
    sizes = [size / sum(range(1, PODS + 1)) for size in range(1, PODS + 1)]
    close = jitter_ratio(policy) / 2
    return len(weights) == PODS and all(
        abs(weight / size - 1) < close for weight, size in zip(sorted(weights.values()), sizes, strict=True)
    )


def jitter_ratio(policy):
    """Of a policy's key."""
    return JITTER_RATIO[policy.rpartition("/")[2]]
