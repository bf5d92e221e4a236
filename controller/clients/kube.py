"""The Kubernetes API as raw JSON: one ApiClient, a limit on every call, and our own errors.

Typed models would drop what a newer server knows and erase it on the way back; dicts do not, and read the same on
kubernetes 36 and 37. Of the client library only the credentials and the connection pool are used: its retries sleep on
`Retry-After`, and nothing here may sleep.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from urllib3 import exceptions as http

from controller.clients.transport import Cut, watch_connections
from controller.deadline import Deadline
from controller.errors import (
    ConfigError,
    Conflict,
    Denied,
    DependencyError,
    NotFound,
    Rejected,
    Throttled,
    TimedOut,
    Unreachable,
)
from controller.settings import Settings
from trimtab import __version__

SYSTEM = "Kubernetes"
FIELD_MANAGER = "trimtab"
BODY_LIMIT_BYTES = 64 << 20
MESSAGE_LIMIT = 400
SERVICE_ACCOUNT_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path, no secret

_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_BY_CODE: Mapping[int, type[DependencyError]] = {
    HTTPStatus.UNAUTHORIZED: Denied,
    HTTPStatus.FORBIDDEN: Denied,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.REQUEST_TIMEOUT: TimedOut,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.TOO_MANY_REQUESTS: Throttled,
    HTTPStatus.GATEWAY_TIMEOUT: TimedOut,
}


class FieldConflict(Conflict):
    """A server-side apply without force met fields that others own.

    Args:
        managers: who owns them, as their managedFields entries are named.
        fields: which, as paths: `.spec.minReplicas`.
    """

    def __init__(self, message: str, managers: tuple[str, ...], fields: tuple[str, ...]) -> None:
        super().__init__(SYSTEM, message)
        self.managers = managers
        self.fields = fields


def path_of(api: str, plural: str, namespace: str, name: str = "") -> str:
    """The path of namespaced objects: `path_of("autoscaling/v2", "horizontalpodautoscalers", "models", "x")`."""
    root = "/api" if api == "v1" else "/apis"
    path = f"{root}/{api}/namespaces/{quote(namespace, safe='')}/{plural}"
    return f"{path}/{quote(name, safe='')}" if name else path


class KubeApi:
    """The API server. Safe to share between threads. Every method raises the errors of controller.errors.

    Paths start with `/api` or `/apis`; bodies and answers are JSON objects as dicts.
    """

    def __init__(self, client: Any, *, timeout_seconds: float) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        watch_connections(client.rest_client.pool_manager)

    @classmethod
    def connect(cls, settings: Settings) -> KubeApi | None:
        """A client by the setting `kubernetes`; None when that is `off`. Nothing is sent yet.

        Raises:
            ConfigError: neither a pod's credentials nor a kubeconfig is there, or they cannot be read.
        """
        if settings.kubernetes == "off":
            return None
        from kubernetes import client, config  # noqa: PLC0415 - half a second and 35 MB that `validate` must not pay

        load: Any = config  # without types in one of the versions
        configuration = client.Configuration()
        try:
            if _use_pod_credentials(settings):
                load.load_incluster_config(client_configuration=configuration)
            else:
                load.load_kube_config(
                    config_file=settings.kubeconfig or None, client_configuration=configuration, persist_config=False
                )
        except Exception as error:  # the loaders raise whatever the file makes them stumble on
            raise ConfigError(_no_credentials(settings, error)) from error
        return cls(client.ApiClient(configuration), timeout_seconds=settings.kubernetes_timeout_seconds)

    def get(self, path: str, *, query: Mapping[str, str] | None = None, deadline: Deadline) -> dict[str, Any]:
        """One object, or a list."""
        return self._call("GET", path, query=query, deadline=deadline)

    def create(
        self, path: str, body: Mapping[str, Any], *, query: Mapping[str, str] | None = None, deadline: Deadline
    ) -> dict[str, Any]:
        """POST to a collection."""
        return self._call("POST", path, body=body, query=query, deadline=deadline)

    def replace(self, path: str, body: Mapping[str, Any], *, deadline: Deadline) -> dict[str, Any]:
        """PUT; a resourceVersion in the body makes it fail with Conflict when the object has changed since."""
        return self._call("PUT", path, body=body, deadline=deadline)

    def apply(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        force: bool = False,
        dry_run: bool = False,
        field_manager: str = FIELD_MANAGER,
        deadline: Deadline,
    ) -> dict[str, Any]:
        """Server-side apply, which also creates. Fields that we own and leave out fall back to the server's defaults.

        Raises:
            FieldConflict: not forced, and others own some of the fields.
        """
        query = {"fieldManager": field_manager, "fieldValidation": "Strict", "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        return self._call("PATCH", path, body=body, query=query, content_type=_APPLY, deadline=deadline)

    def patch_json(
        self,
        path: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        query: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> dict[str, Any]:
        """JSON Patch. A `test` operation that fails answers Rejected."""
        return self._call(
            "PATCH",
            path,
            body=list(operations),
            query=query,
            content_type="application/json-patch+json",
            deadline=deadline,
        )

    def patch_merge(
        self, path: str, body: Mapping[str, Any], *, query: Mapping[str, str] | None = None, deadline: Deadline
    ) -> dict[str, Any]:
        """JSON merge patch: None removes a field."""
        return self._call(
            "PATCH", path, body=body, query=query, content_type="application/merge-patch+json", deadline=deadline
        )

    def delete(self, path: str, *, query: Mapping[str, str] | None = None, deadline: Deadline) -> dict[str, Any]:
        """Delete one object."""
        return self._call("DELETE", path, query=query, deadline=deadline)

    def close(self) -> None:
        """Close idle connections."""
        self._client.rest_client.pool_manager.clear()

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        deadline: Deadline,
    ) -> dict[str, Any]:
        what = f"{method} {path}"
        if deadline.expired():
            raise TimedOut(SYSTEM, f"{what}: not asked, no time left in this tick")
        seconds = deadline.cap(self._timeout_seconds)
        url = f"{self._client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
        headers = self._headers(None if data is None else content_type)
        with Cut(seconds) as cut:
            try:
                status, content = self._exchange(method, url, data, headers, seconds)
            except (http.HTTPError, OSError, ValueError) as error:
                raise _transport_error(what, error, seconds, cut=cut.fired) from error
        if cut.fired:  # a body without a length ends quietly when its connection is shut
            raise TimedOut(SYSTEM, f"{what}: not complete after {seconds:.3g} s")
        if content is None:
            raise Unreachable(SYSTEM, f"{what}: the answer is larger than {BODY_LIMIT_BYTES >> 20} MiB")
        answer = _parse(content)
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _refusal(what, status, answer)
        if answer is None:
            raise Unreachable(SYSTEM, f"{what}: the answer is no JSON object")
        return answer

    def _exchange(
        self, method: str, url: str, data: bytes | None, headers: dict[str, str], seconds: float
    ) -> tuple[int, bytes | None]:
        response = self._client.rest_client.pool_manager.urlopen(
            method,
            url,
            body=data,
            headers=headers,
            timeout=urllib3.Timeout(total=seconds, connect=seconds, read=seconds),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            return response.status, _read(response)
        except BaseException:
            response.close()
            raise

    def _headers(self, content_type: str | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": f"trimtab/{__version__}"}
        if content_type:
            headers["Content-Type"] = content_type
        try:
            # Asked anew for each call: the client's hook re-reads a projected token that rotates.
            auth = self._client.configuration.auth_settings().get("BearerToken")
        except Exception as error:  # an unreadable or empty token file, a credential plugin that fails
            raise Denied(SYSTEM, f"credentials cannot be read: {_one_line(error)}") from error
        if auth and auth.get("value"):
            headers["Authorization"] = str(auth["value"]).strip()
        return headers


def _use_pod_credentials(settings: Settings) -> bool:
    if settings.kubernetes == "auto":
        return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and Path(SERVICE_ACCOUNT_TOKEN).exists()
    return settings.kubernetes == "in-cluster"


def _no_credentials(settings: Settings, error: Exception) -> str:
    reason = _one_line(error)
    if settings.kubernetes == "in-cluster":
        return f"--kubernetes in-cluster: {reason}; this needs a pod with a service account token"
    if settings.kubeconfig:
        return f"--kubeconfig {settings.kubeconfig}: {reason}"
    if settings.kubernetes == "kubeconfig":
        return f"--kubernetes kubeconfig: {reason}; give --kubeconfig FILE"
    return f"no Kubernetes found ({reason}); give --kubeconfig FILE, or --kubernetes off to do without"


def _read(response: Any) -> bytes | None:
    """The body; None when it is larger than the limit."""
    content = bytearray()
    for chunk in response.stream(1 << 16):
        content += chunk
        if len(content) > BODY_LIMIT_BYTES:
            response.close()
            return None
    return bytes(content)


def _parse(content: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(content)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _refusal(what: str, status: int, answer: dict[str, Any] | None) -> DependencyError:
    told = answer.get("message") if answer else None
    message = f"{what}: {status} {_one_line(told) if told else _phrase(status)}"
    if status == HTTPStatus.CONFLICT and answer:
        details = answer.get("details")
        causes = details.get("causes") if isinstance(details, dict) else None
        conflicts = [
            cause
            for cause in (causes if isinstance(causes, list) else ())
            if isinstance(cause, dict) and cause.get("reason") == "FieldManagerConflict"
        ]
        if conflicts:
            managers = dict.fromkeys(_manager_of(str(cause.get("message", ""))) for cause in conflicts)
            fields = dict.fromkeys(str(cause.get("field", "")) for cause in conflicts)
            return FieldConflict(message, tuple(managers), tuple(fields))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status < HTTPStatus.BAD_REQUEST:
        kind = _BY_CODE.get(status, Unreachable)
    else:
        kind = _BY_CODE.get(status, Rejected)
    return kind(SYSTEM, message)


def _manager_of(message: str) -> str:
    """The name quoted in `conflict with "kubectl" using autoscaling/v2`; the whole text when none is quoted."""
    parts = message.split('"')
    return parts[1] if len(parts) > 2 else message


def _transport_error(what: str, error: Exception, seconds: float, *, cut: bool) -> DependencyError:
    cause = error.original_error if isinstance(error, http.ProxyError) else error
    if cut or (isinstance(cause, http.TimeoutError | TimeoutError) and not isinstance(cause, http.NewConnectionError)):
        return TimedOut(SYSTEM, f"{what}: no answer within {seconds:.3g} s")
    return Unreachable(SYSTEM, f"{what}: {_one_line(_innermost(cause))}")


def _innermost(error: BaseException) -> BaseException:
    """The operating system's own words, without the library's wrapping (and the address of its objects)."""
    seen = {id(error)}
    while True:
        inner = error.__cause__ or next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        if inner is None or id(inner) in seen:
            return error
        seen.add(id(inner))
        error = inner


def _one_line(text: object) -> str:
    line = " ".join(str(text).split()) or type(text).__name__
    return line if len(line) <= MESSAGE_LIMIT else f"{line[:MESSAGE_LIMIT]}..."


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"
