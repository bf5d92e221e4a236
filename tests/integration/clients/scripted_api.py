"""A small HTTP server on loopback that answers as scripted: an API server's refusals and its ways to hang."""

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import urllib3


@dataclass
class Request:
    method: str
    path: str
    query: dict
    body: object
    headers: dict


@dataclass
class Answer:
    """`how` is one of: answer, hang, drip_headers, drip_body, drip_unsized, close."""

    status: int = 200
    body: object = field(default_factory=dict)
    headers: dict = field(default_factory=dict)
    how: str = "answer"


def refusal(status, message, *, causes=(), headers=None):
    body = {
        "kind": "Status",
        "status": "Failure",
        "code": status,
        "message": message,
        "details": {"causes": list(causes)},
    }
    return Answer(status, body, dict(headers or {}))


def field_conflict(*managers, field=".spec.minReplicas"):
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{name}" using autoscaling/v2', "field": field}
        for name in managers
    ]
    return refusal(409, f"Apply failed with {len(causes)} conflict(s)", causes=causes)


class ScriptedApi:
    """Answers from `script` first, then by `handler(request) -> Answer | None`, then 404."""

    def __init__(self):
        self.requests = []
        self.script = deque()
        self.handler = lambda _request: None
        self._released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self):
                outer._serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # clients that were cut leave resets behind
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self):
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def sent(self, method):
        return [request for request in self.requests if request.method == method]

    def _serve(self, http):
        size = int(http.headers.get("Content-Length") or 0)
        raw = http.rfile.read(size)
        parts = urlsplit(http.path)
        request = Request(
            http.command, parts.path, dict(parse_qsl(parts.query)), json.loads(raw) if raw else None, dict(http.headers)
        )
        self.requests.append(request)
        answer = self.script.popleft() if self.script else self.handler(request)
        answer = answer or refusal(404, f"{request.path} not found")
        try:
            self._send(http, answer)
        except OSError:
            http.close_connection = True

    def _send(self, http, answer):
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        if answer.how == "hang":
            self._released.wait(30)
        if answer.how in {"hang", "close"}:
            http.close_connection = True
            return
        if answer.how == "drip_headers":
            self._drip(http, b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1_000)
            return
        http.send_response(answer.status)
        http.send_header("Content-Type", "application/json")
        for name, value in answer.headers.items():
            http.send_header(name, value)
        if answer.how == "drip_unsized":
            http.send_header("Connection", "close")
            http.end_headers()
            self._drip(http, b" " * 1_000)
            return
        http.send_header("Content-Length", str(1_000 if answer.how == "drip_body" else len(body)))
        http.end_headers()
        if answer.how == "drip_body":
            self._drip(http, b" " * 1_000)
        else:
            http.wfile.write(body)

    def _drip(self, http, content):
        http.close_connection = True
        for byte in content:
            if self._released.wait(0.02):
                return
            http.wfile.write(bytes([byte]))
            http.wfile.flush()


def fake_client(url, token=None):
    """What KubeApi needs of an ApiClient, without importing half a second of generated code."""
    auth = {"BearerToken": {"value": f"Bearer {token}"}} if token else {}
    configuration = SimpleNamespace(host=url, auth_settings=lambda: auth)
    return SimpleNamespace(configuration=configuration, rest_client=SimpleNamespace(pool_manager=urllib3.PoolManager()))
