"""One Prometheus server behind prometheus-api-client: short timeouts, bounded answers, one error tree."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import requests
from prometheus_api_client import PrometheusConnect
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as WireTimeout
from urllib3.util.retry import Retry

from controller.deadline import Deadline
from controller.errors import (
    ConfigError,
    Denied,
    DependencyError,
    NotFound,
    Rejected,
    Throttled,
    TimedOut,
    TrimtabError,
    Unreachable,
)
from controller.settings import Settings, read_secret, redact_url

SYSTEM = "Prometheus"
BODY_MAX_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 65536
_ERROR_TEXT_MAX = 300
A = TypeVar("A")
_TIMEOUTS = (requests.Timeout, WireTimeout, TimeoutError)


@dataclass(frozen=True, slots=True)
class Series:
    """One element of an instant vector. `value` may be NaN or infinite."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What one query returned. `warnings` not empty: the server itself says that parts may be missing."""

    series: tuple[Series, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """What one range query returned: (instant, value) of its one series, none when there is none."""

    points: tuple[tuple[float, float], ...]
    warnings: tuple[str, ...] = ()


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Anonymous(AuthBase):
    """No credentials, and none from a .netrc either, which requests reads when it is given no auth at all."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class PrometheusServer:
    """One server, asked by one thread at a time.

    Args:
        url: its base URL.
        settings: timeouts and credentials. Credentials go to `settings.prometheus_url` and nowhere else; CA
            certificates are no secret and hold for every server.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url.rstrip("/")
        self._settings = settings
        self._own = self.url == settings.prometheus_url.rstrip("/")
        self._session = requests.Session()
        self._session.verify = settings.prometheus_ca_file or True
        if self._own and settings.prometheus_cert_file:
            key = settings.prometheus_key_file
            self._session.cert = (settings.prometheus_cert_file, key) if key else settings.prometheus_cert_file
        self._session.hooks["response"].append(self._received)
        # The next tick is the retry; a Retry-After is never slept on.
        retry = Retry(total=0, respect_retry_after_header=False, raise_on_status=False)
        self._connect = PrometheusConnect(url=self.url, session=self._session, retry=retry)
        self._until = Deadline.after(0)
        self._payload: dict[str, Any] = {}

    def begin(self) -> None:
        """Read the credentials anew, once a tick.

        Raises:
            Denied: a file with a credential cannot be read.
        """
        try:
            self._connect.auth = self._credentials()
        except ConfigError as error:
            raise Denied(SYSTEM, str(error)) from error

    def ask(self, query: str, at: float, deadline: Deadline) -> Answer:
        """The instant vector of `query` at the instant `at`, seconds since the epoch. A scalar has no labels.

        Raises:
            DependencyError: one of its leaves; the message names the server, never a credential.
        """
        seconds = deadline.cap(self._settings.prometheus_timeout_seconds)

        def send(params: dict[str, str]) -> None:
            self._connect.custom_query(query, params={"time": f"{at:.3f}", **params}, timeout=(seconds, seconds))

        return self._asked(send, _answer, seconds)

    def ask_range(self, query: str, start: float, end: float, step_seconds: float, deadline: Deadline) -> RangeAnswer:
        """The one series of `query` from `start` to `end`, whole seconds since the epoch, by steps.

        The deadline alone limits it: a range takes longer than an instant, and no tick waits for one.

        Raises:
            DependencyError: likewise.
        """
        seconds = deadline.cap(deadline.remaining_seconds())
        first, last = (datetime.fromtimestamp(instant, tz=UTC) for instant in (start, end))

        def send(params: dict[str, str]) -> None:
            step = f"{step_seconds:g}"
            self._connect.custom_query_range(query, first, last, step, params=params, timeout=(seconds, seconds))

        return self._asked(send, _range_answer, seconds)

    def _asked(
        self, send: Callable[[dict[str, str]], None], parse: Callable[[Mapping[str, Any]], A], seconds: float
    ) -> A:
        self._until = Deadline.after(seconds)
        try:
            send({"timeout": f"{max(1, round(seconds * 1000))}ms"})
            return parse(self._payload)
        except TrimtabError:
            raise
        except (requests.RequestException, HTTPError, OSError) as error:
            raise self._transport_error(error, seconds) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._error(Rejected, f"the answer is not Prometheus' ({type(error).__name__})") from error

    def close(self) -> None:
        """Close the connections."""
        self._connect.close()

    def _credentials(self) -> AuthBase | None:
        settings = self._settings
        if not self._own:
            return None if "@" in self.url else _Anonymous()
        if settings.prometheus_token_file:
            return _Bearer(read_secret(settings.prometheus_token_file, "prometheus_token_file"))
        if settings.prometheus_username:
            path = settings.prometheus_password_file
            password = read_secret(path, "prometheus_password_file") if path else ""
            return HTTPBasicAuth(settings.prometheus_username.encode(), password.encode())
        return None if "@" in self.url else _Anonymous()

    def _received(self, response: requests.Response, **_: Any) -> None:
        """Runs on the header of every reply, before requests follows redirects or reads the body."""
        try:
            self._refuse_redirect(response)
            body = self._body(response)
        except BaseException:
            response.close()
            raise
        response._content = body  # noqa: SLF001 - requests' own cache of a body that was streamed
        response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001 - same
        self._payload = self._checked(response.status_code, body)

    def _refuse_redirect(self, response: requests.Response) -> None:
        """Following one would hand credentials on, and a login page is no metric."""
        if 300 <= response.status_code < 400:
            where = redact_url(response.headers.get("location", "elsewhere"))
            raise self._error(Rejected, f"redirects to {where}; give the address it redirects to")

    def _body(self, response: requests.Response) -> bytes:
        """The body, bounded in size and in time as a whole: a read timeout alone starts again with every byte."""
        chunks: list[bytes] = []
        size = 0
        while True:
            remaining = self._until.remaining_seconds()
            if remaining <= 0:
                raise self._error(TimedOut, "the answer came too slowly")
            socket = getattr(getattr(response.raw, "connection", None), "sock", None)
            if socket is not None:
                socket.settimeout(max(0.01, remaining))
            chunk = response.raw.read1(_CHUNK_BYTES, decode_content=True)
            if not chunk:
                return b"".join(chunks)
            size += len(chunk)
            if size > BODY_MAX_BYTES:
                raise self._error(Rejected, f"the answer is larger than {BODY_MAX_BYTES // 2**20} MiB")
            chunks.append(chunk)

    def _checked(self, status: int, body: bytes) -> dict[str, Any]:
        try:
            payload = json.loads(body)
        except ValueError:
            payload = None
        said = str(payload.get("error", "")) if isinstance(payload, dict) else ""
        said = " ".join(said.split())[:_ERROR_TEXT_MAX]
        if status != requests.codes.ok:
            raise self._status_error(status, said)
        if not isinstance(payload, dict) or "status" not in payload:
            raise self._error(Rejected, "the answer is no JSON of Prometheus; is this its URL?")
        if payload["status"] != "success":
            raise self._error(Rejected, said or "the query failed")
        return payload

    def _status_error(self, status: int, said: str) -> DependencyError:
        leaf: type[DependencyError]
        if status in (401, 403):
            leaf = Denied
        elif status == 404:
            leaf = NotFound
        elif status == 429:
            leaf = Throttled
        elif status in (408, 504) or (status == 503 and "timed out" in said):
            leaf = TimedOut
        else:
            leaf = Unreachable if status >= 500 else Rejected
        return self._error(leaf, f"HTTP {status}{': ' + said if said else ''}")

    def _transport_error(self, error: Exception, seconds: float) -> DependencyError:
        chain = _causes(error)
        # To urllib3 a refused connection is a kind of connect timeout.
        if any(isinstance(cause, _TIMEOUTS) and not isinstance(cause, NewConnectionError) for cause in chain):
            return self._error(TimedOut, f"no answer within {seconds:.1f} s")
        if isinstance(error, requests.exceptions.SSLError):
            return self._error(Unreachable, f"TLS: {_innermost(chain)}")
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
            return self._error(Rejected, "this is no URL")
        return self._error(Unreachable, _innermost(chain))

    def _error(self, leaf: type[DependencyError], message: str) -> DependencyError:
        return leaf(SYSTEM, f"{redact_url(self.url)}: {message}")


def _answer(payload: Mapping[str, Any]) -> Answer:
    kind, result = payload["data"]["resultType"], payload["data"]["result"]
    warnings = tuple(str(warning) for warning in payload.get("warnings") or ())
    if kind == "scalar":
        return Answer((Series({}, float(result[1])),), warnings)
    if kind != "vector":
        raise Rejected(SYSTEM, f"the query returns a {kind}; it must return an instant vector")
    return Answer(tuple(Series(element["metric"], float(element["value"][1])) for element in result), warnings)


def _range_answer(payload: Mapping[str, Any]) -> RangeAnswer:
    kind, result = payload["data"]["resultType"], payload["data"]["result"]
    warnings = tuple(str(warning) for warning in payload.get("warnings") or ())
    if kind != "matrix":
        raise Rejected(SYSTEM, f"the query returns a {kind}; over a range it must return a matrix")
    if len(result) > 1:
        raise Rejected(SYSTEM, f"the query returns {len(result)} series; it must return one")
    values = result[0]["values"] if result else ()
    return RangeAnswer(tuple((float(at), float(value)) for at, value in values), warnings)


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it was made of, outermost first: requests and urllib3 wrap, by arguments and by `reason`."""
    chain: list[BaseException] = []
    current: object = error
    while isinstance(current, BaseException) and current not in chain:
        chain.append(current)
        inner = getattr(current, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((part for part in current.args if isinstance(part, BaseException)), None)
        current = inner or current.__cause__ or current.__context__
    return chain


def _innermost(chain: list[BaseException]) -> str:
    for cause in reversed(chain):
        text = getattr(cause, "strerror", None) or getattr(cause, "verify_message", None)
        if text:
            return str(text).lower()
    return " ".join(str(chain[-1]).split())[:_ERROR_TEXT_MAX] or type(chain[-1]).__name__
