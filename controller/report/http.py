"""/metrics, /healthz and /readyz, on the standard library's server: four routes need no framework."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST

from controller.errors import TrimtabError
from controller.report.health import Health
from controller.report.metrics import Metrics

SOCKET_TIMEOUT_SECONDS = 5.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    metrics: Metrics
    health: Health

    def handle_error(self, *_args: object) -> None:
        """A client that went away is its own business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SOCKET_TIMEOUT_SECONDS
    server_version = "trimtab"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(HTTPStatus.OK, self.server.metrics.render(), CONTENT_TYPE_LATEST)
        elif path in ("/healthz", "/readyz"):
            good, sentence = self.server.health.alive() if path == "/healthz" else self.server.health.ready()
            status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
            self._answer(status, f"{sentence}\n".encode(), "text/plain; charset=utf-8")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"try /metrics, /healthz or /readyz\n", "text/plain; charset=utf-8")

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Probes and scrapes are not news."""


class HttpServer:
    """Listens from construction on, so that a taken port is known before the first tick."""

    def __init__(self, address: tuple[str, int], metrics: Metrics, health: Health) -> None:
        try:
            self._server = _Server(address, _Handler)
        except OSError as error:
            host, port = address
            raise TrimtabError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        self._server.metrics, self._server.health = metrics, health
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that was bound, which is news when 0 was asked for."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve from a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
