"""The emulator's HTTP side: paths to store calls, errors to Status documents, faults in front."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from controller.lab.cluster.api import APPLY, ApiError
from controller.lab.emulator.faults import Faults
from controller.lab.emulator.kinds import SCALABLE, SERVED, Kind, validate_new_event
from controller.lab.emulator.selectors import matches_fields, matches_labels, written
from controller.lab.emulator.store import Object, Store

_PATH = re.compile(
    r"^/(?:api/(?P<core>v1)|apis/(?P<group>[\w.-]+)/(?P<version>\w+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[^/]))?/(?P<resource>\w+)(?:/(?P<name>[^/]+)(?:/(?P<sub>\w+))?)?$"
)
_MERGES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
_REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 422: "Invalid"}
_REASONS |= {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}
Answer = tuple[int, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read."""

    method: str
    path: str
    params: dict[str, str]
    body: Any
    content_type: str
    agent: str

    @property
    def manager(self) -> str:
        """The field manager: the parameter, else the first part of the User-Agent."""
        return self.params.get("fieldManager") or self.agent.split("/", maxsplit=1)[0] or "unknown"

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be kept."""
        return self.params.get("dryRun") == "All"


@dataclass(frozen=True, slots=True)
class Place:
    """What a path names. `namespace`, `name` and `sub` (the subresource) may be empty."""

    kind: Kind
    namespace: str
    name: str
    sub: str

    @property
    def key(self) -> tuple[str, str, str]:
        """The store's key."""
        return self.kind.resource, self.namespace, self.name


class Router:
    """Answers one request from the store; knows no sockets."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def answer(self, request: Request) -> Answer:
        """Status code and document. Raises ApiError for what is refused."""
        if request.path in ("/readyz", "/livez", "/healthz"):
            return 200, "ok"
        if request.path == "/version":
            return 200, {"major": "1", "minor": "36", "gitVersion": "v1.36.2+emulator", "platform": "emulator"}
        place = _place(request.path)
        methods = {"GET": self._get, "POST": self._post, "PUT": self._put, "PATCH": self._patch, "DELETE": self._delete}
        return methods[request.method](place, request)

    def _get(self, place: Place, request: Request) -> Answer:
        if not place.name:
            return 200, self._list(place.kind, place.namespace, request.params)
        thing = self.store.get(place.kind.resource, place.namespace, place.name)
        return 200, _scale(thing) if place.sub == "scale" else {**thing, "apiVersion": place.kind.api_version}

    def _post(self, place: Place, request: Request) -> Answer:
        resource, namespace, name = place.key
        if place.sub == "binding":
            node = {"spec": {"nodeName": request.body["target"]["name"]}}
            self.store.merge(resource, namespace, name, node, request.manager)
            return 201, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        if place.kind.group == "events.k8s.io":
            validate_new_event(request.body)
        made = self.store.create(resource, namespace, request.body, request.manager, dry_run=request.dry_run)
        return 201, {**made, "apiVersion": place.kind.api_version}

    def _put(self, place: Place, request: Request) -> Answer:
        resource, namespace, name = place.key
        writer: dict[str, Any] = {"manager": request.manager, "dry_run": request.dry_run}
        if place.sub == "scale":
            replicas = {"spec": {"replicas": request.body["spec"]["replicas"]}}
            return 200, _scale(self.store.merge(resource, namespace, name, replicas, **writer))
        return 200, self.store.replace(resource, namespace, request.body, subresource=place.sub, **writer)

    def _patch(self, place: Place, request: Request) -> Answer:
        writer: dict[str, Any] = {"manager": request.manager, "dry_run": request.dry_run}
        if request.content_type == APPLY:
            if not request.params.get("fieldManager"):
                raise ApiError(422, "Invalid", "fieldManager: Required value: is required for apply patch")
            force = request.params.get("force") in ("1", "true", "True")
            thing, created = self.store.apply(*place.key, request.body, force=force, **writer)
            return 201 if created else 200, thing
        if request.content_type not in _MERGES:
            raise ApiError(415, "UnsupportedMediaType", f"the emulator does not know {request.content_type}")
        part = {"spec": request.body.get("spec", {})} if place.sub == "scale" else request.body
        thing = self.store.merge(*place.key, part, subresource=place.sub, **writer)
        return 200, _scale(thing) if place.sub == "scale" else thing

    def _delete(self, place: Place, request: Request) -> Answer:
        options = request.body or {}
        grace = options.get("gracePeriodSeconds", request.params.get("gracePeriodSeconds"))
        uid = options.get("preconditions", {}).get("uid", "")
        return 200, self.store.delete(*place.key, grace_seconds=None if grace is None else int(grace), uid=uid)

    def _list(self, kind: Kind, namespace: str, params: dict[str, str]) -> Object:
        if params.get("watch") in ("1", "true"):
            raise ApiError(405, "MethodNotAllowed", "the emulator has no watch; list instead")
        labels, fields = params.get("labelSelector", ""), params.get("fieldSelector", "")
        with self.store.lock:
            version, things = self.store.version, self.store.list(kind.resource, namespace)
        items = [
            {key: value for key, value in thing.items() if key not in ("apiVersion", "kind")}  # as a real list's items
            for thing in things
            if matches_labels(labels, thing["metadata"].get("labels", {})) and matches_fields(fields, thing)
        ]
        start, limit = int(params.get("continue") or 0), int(params.get("limit") or 0)
        end = start + limit if limit else len(items)
        meta: Object = {"resourceVersion": version}
        if end < len(items):
            meta |= {"continue": str(end), "remainingItemCount": len(items) - end}
        return {"apiVersion": kind.api_version, "kind": f"{kind.kind}List", "metadata": meta, "items": items[start:end]}


class Server:
    """HTTP on a free loopback port, from construction to `stop()`."""

    def __init__(self, router: Router, faults: Faults) -> None:
        self._server = _Threads(("127.0.0.1", 0), _handler(router, faults))
        self._faults = faults
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="emulator", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Cut what hangs and close the port."""
        self._faults.clear()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no event."""


def _handler(router: Router, faults: Faults) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 60  # an idle connection gives its thread back

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            fault = faults.take(self.command, url.path)
            if fault is not None:
                time.sleep(fault[0].latency_seconds)
                if fault[0].hang:
                    fault[1].wait()
                    self.close_connection = True
                    return
                if fault[0].status:
                    error = ApiError(fault[0].status, _REASONS.get(fault[0].status, "Injected"), fault[0].message)
                    self._send(error.status, _status(error), dict(fault[0].headers))
                    return
            try:
                request = Request(
                    self.command,
                    url.path,
                    dict(parse_qsl(url.query)),
                    json.loads(raw) if raw else None,
                    (self.headers.get("Content-Type") or "").partition(";")[0],
                    self.headers.get("User-Agent") or "",
                )
                code, document = router.answer(request)
            except ApiError as error:
                code, document = error.status, _status(error)
            except ValueError as error:
                code, document = 400, _status(ApiError(400, "BadRequest", str(error)))
            self._send(code, document, {})

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def _send(self, code: int, document: Any, headers: dict[str, str]) -> None:
            is_text = isinstance(document, str)
            body = document.encode() if is_text else json.dumps(document).encode()
            with contextlib.suppress(OSError):
                self.send_response(code)
                self.send_header("Content-Type", "text/plain" if is_text else "application/json")
                self.send_header("Content-Length", str(len(body)))
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: requests are many."""

    return Handler


def _place(path: str) -> Place:
    found = _PATH.match(path)
    kind = SERVED.get((found["group"] or "", found["version"] or "v1", found["resource"])) if found else None
    if found is None or kind is None:
        raise ApiError(404, "NotFound", f"the server could not find the requested resource: {path}")
    namespace = unquote(found["namespace"] or "") if kind.namespaced else ""
    return Place(kind, namespace, unquote(found["name"] or ""), found["sub"] or "")


def _scale(thing: Object) -> Object:
    if f"{thing['kind'].lower()}s" not in SCALABLE:
        raise ApiError(404, "NotFound", "the server could not find the requested resource")
    meta = {key: thing["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    selector = written(thing["spec"].get("selector") or {})
    status = {"replicas": thing["status"].get("replicas", 0), "selector": selector}
    spec = {"replicas": thing["spec"]["replicas"]}
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": meta, "spec": spec, "status": status}


def _status(error: ApiError) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "code": error.status,
        "reason": error.reason,
        "message": error.message,
        **({"details": {"causes": list(error.causes)}} if error.causes else {}),
    }
