"""A bare Kubernetes API client for the lab: JSON in, JSON out, and the server's own words on failure.

The daemon has its own adapter over the official client; the lab does not share it, so that a fault there cannot hide here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class ApiError(Exception):
    """The server refused: HTTP status, and the reason, the message and the causes of its Status answer."""

    def __init__(self, status: int, reason: str, message: str, causes: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.causes = causes
        self.status = status
        self.reason = reason
        self.message = message


class KubeApi:
    """One connection pool to one API server; use one per thread.

    Args:
        server: `https://127.0.0.1:PORT` or `http://...`.
        ca: the CA's file, for https.
        cert: files of a client certificate and its key.
        token: a bearer token, instead of a certificate.
        timeout_seconds: limit for connecting and for each read.
    """

    def __init__(
        self,
        server: str,
        *,
        ca: Path | None = None,
        cert: tuple[Path, Path] | None = None,
        token: str = "",
        timeout_seconds: float = 10.0,
    ) -> None:
        self.server = server
        self.timeout_seconds = timeout_seconds
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment has no business on loopback
        self._session.headers["User-Agent"] = "trimtab-lab/1"
        if ca is not None:
            self._session.verify = str(ca)
        if cert is not None:
            self._session.cert = (str(cert[0]), str(cert[1]))
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def call(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **params: Any
    ) -> Any:
        """The JSON answer (None for an empty one). Raises ApiError from 400 on, requests' errors when there is no answer."""
        answer = self._session.request(
            method,
            self.server + path,
            params=params,
            json=body,
            headers={"Content-Type": content_type, "Accept": "application/json"},
            timeout=self.timeout_seconds,
        )
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        document = answer.json() if is_json and answer.content else None
        if answer.status_code >= requests.codes.bad_request:
            status = document if isinstance(document, dict) else {}
            causes = (status.get("details") or {}).get("causes", ())
            reason, message = status.get("reason", answer.reason), status.get("message", answer.text)
            raise ApiError(answer.status_code, reason, message, causes)
        return document if is_json else answer.text

    def get(self, path: str, **params: Any) -> Any:
        """GET."""
        return self.call("GET", path, **params)

    def post(self, path: str, body: Any, **params: Any) -> Any:
        """POST."""
        return self.call("POST", path, body, **params)

    def put(self, path: str, body: Any, **params: Any) -> Any:
        """PUT."""
        return self.call("PUT", path, body, **params)

    def merge(self, path: str, body: Any, **params: Any) -> Any:
        """PATCH with a JSON merge patch."""
        return self.call("PATCH", path, body, MERGE, **params)

    def apply(self, path: str, body: Any, manager: str, **params: Any) -> Any:
        """PATCH by server-side apply, as that field manager."""
        return self.call("PATCH", path, body, APPLY, fieldManager=manager, **params)

    def delete(self, path: str, body: Any = None, **params: Any) -> Any:
        """DELETE."""
        return self.call("DELETE", path, body, **params)

    def answers(self, path: str) -> bool:
        """Whether a GET succeeds; False for a refusal and for no answer at all."""
        try:
            self.get(path)
        except (ApiError, requests.RequestException):
            return False
        return True

    def close(self) -> None:
        """Close its connections."""
        self._session.close()
