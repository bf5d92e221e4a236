"""metrics.k8s.io for the real control plane, with the numbers of a PodNumbers table.

An HTTPS server on loopback behind the API server's aggregation layer. It takes calls from the front proxy only, as an
aggregated server must: whoever reaches it directly, without the proxy's client certificate, could claim any identity.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from controller.lab.cluster.api import ApiError, KubeApi
from controller.lab.cluster.certificates import FRONT_PROXY_NAME
from controller.lab.cluster.numbers import PodNumbers

GROUP = "metrics.k8s.io"
VERSION = f"{GROUP}/v1beta1"
ROOT = f"/apis/{VERSION}"
_RESOURCES = [{"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}]


class MetricsServer:
    """Serves until `stop()`. `api` reads the pods (and their labels, which selectors are about) from the API server."""

    def __init__(self, pki: Path, numbers: PodNumbers, api: KubeApi) -> None:
        self.numbers = numbers
        self._api = api
        self._api_lock = threading.Lock()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "metrics.crt", pki / "metrics.key")
        context.load_verify_locations(pki / "front-proxy-ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.tls = context
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="metrics-server", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._server.server_address[1])

    def register(self, api: KubeApi, ca_bundle: str) -> None:
        """Make the API server send metrics.k8s.io here. `ca_bundle` is the PEM in base64."""
        service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": self.port}]}
        meta: dict[str, Any] = {"name": "metrics-server", "namespace": "kube-system"}
        api.post("/api/v1/namespaces/kube-system/services", {"metadata": meta, "spec": service})
        spec = {
            "group": GROUP,
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": ca_bundle,
            "service": {**meta, "port": self.port},
        }
        body = {"metadata": {"name": f"v1beta1.{GROUP}"}, "spec": spec}
        api.post("/apis/apiregistration.k8s.io/v1/apiservices", body)

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, params: dict[str, str]) -> Any:
        """The document for a path; ApiError when there is none."""
        if path == f"/apis/{GROUP}":
            version = {"groupVersion": VERSION, "version": "v1beta1"}
            return {
                "kind": "APIGroup",
                "apiVersion": "v1",
                "name": GROUP,
                "versions": [version],
                "preferredVersion": version,
            }
        if path == ROOT:
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": VERSION, "resources": _RESOURCES}
        match path.removeprefix(ROOT).strip("/").split("/"):
            case ["pods"]:
                return self._list("/api/v1/pods", params)
            case ["namespaces", namespace, "pods"]:
                return self._list(f"/api/v1/namespaces/{namespace}/pods", params)
            case ["namespaces", namespace, "pods", name]:
                found = self._list(f"/api/v1/namespaces/{namespace}/pods", {"fieldSelector": f"metadata.name={name}"})[
                    "items"
                ]
                if found:
                    return {"kind": "PodMetrics", "apiVersion": VERSION, **found[0]}
        raise ApiError(404, "NotFound", f"the server could not find {path}")

    def _list(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        selectors = {key: params[key] for key in ("labelSelector", "fieldSelector") if key in params}
        with self._api_lock:
            pods = self._api.get(path, **selectors)["items"]
        items = [item for pod in pods if (item := self._pod_metrics(pod)) is not None]
        return {"kind": "PodMetricsList", "apiVersion": VERSION, "metadata": {}, "items": items}

    def _pod_metrics(self, pod: dict[str, Any]) -> dict[str, Any] | None:
        meta = pod["metadata"]
        if pod.get("status", {}).get("phase") != "Running":
            return None
        usage = self.numbers.usage(meta["namespace"], meta["name"])
        if usage is None:
            return None
        amounts = {"cpu": f"{round(usage.cpu_cores * 1e9)}n", "memory": str(round(usage.memory_bytes))}
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "metadata": {key: meta[key] for key in ("name", "namespace", "labels", "creationTimestamp") if key in meta},
            "timestamp": now,
            "window": "1s",
            # The first container stands for the pod: the HPA adds them up.
            "containers": [{"name": pod["spec"]["containers"][0]["name"], "usage": amounts}],
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    tls: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread, so that a silent client does not stop the others."""
        request.settimeout(30)
        request.getpeername()  # wrapping a socket whose peer is gone would leak it
        with self.tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller without the certificate, or one that hung up, is no event for this program."""


def _handler(metrics: MetricsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30  # an idle or silent connection gives its thread back

        def do_GET(self) -> None:
            certificate = self.connection.getpeercert() or {}
            names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
            if names != [FRONT_PROXY_NAME]:
                self._send(403, _status(403, "Forbidden", "only the front proxy may call"))
                return
            url = urlsplit(self.path)
            try:
                self._send(200, metrics.answer(url.path, dict(parse_qsl(url.query))))
            except ApiError as error:
                self._send(error.status, _status(error.status, error.reason, error.message))

        def _send(self, code: int, document: Any) -> None:
            body = json.dumps(document).encode()
            with contextlib.suppress(OSError):
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: the API server logs what matters."""

    return Handler


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
