"""An adapter for requests that sends each request to the endpoint that a balancer picks. Needs `pip install trimtab[requests]`.

session.mount("http://model-service/", BalancedAdapter(balancer))

The host in the URL is a name for the service; it is replaced by the endpoint's scheme, host, port and path. A request counts as in flight
until its body was read or the response closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError, NewConnectionError

from trimtab.balancer.base import BalancerBase
from trimtab.balancer.ticket import Ticket
from trimtab.balancer.ticket import verdict as left_with
from trimtab.errors import NoEndpoints
from trimtab.integrations.target import IDEMPOTENT, base_of, join_path, verdict


class BalancedAdapter(HTTPAdapter):
    """Sends each request to the endpoint that `balancer` picks.

    Args:
        balancer: either form: picking waits for nothing.
        retries: how many other endpoints may be tried when the connection fails.
        options: passed on to `requests.adapters.HTTPAdapter`: `pool_connections`, `pool_maxsize`, `pool_block`.

    Raises:
        requests.ConnectionError: no endpoint is known; and whatever requests raises.
    """

    def __init__(self, balancer: BalancerBase, *, retries: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self._balancer = balancer
        self._retries = retries

    def send(  # noqa: PLR0917 - requests' own signature
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """One request, to as many endpoints as it takes, `retries` + 1 at most."""
        tried: list[str] = []
        last: Exception | None = None
        while True:
            try:
                ticket = self._balancer.pick(exclude=tried)
            except NoEndpoints as error:
                if last is not None:
                    raise last from None
                raise requests.ConnectionError(str(error), request=request) from error
            try:
                sent = _rewritten(request, ticket.endpoint)
                response = super().send(sent, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=proxies)
            except BaseException as error:
                ticket.release(left_with(type(error)))
                if len(tried) >= self._retries or not _may_go_elsewhere(request, error):
                    raise
                tried.append(ticket.endpoint)
                last = error if isinstance(error, Exception) else None
                continue
            # Redirects and cookies belong to the service's name, not to one endpoint of it.
            response.url = str(request.url)
            response.request = request
            response.raw = _Body(response.raw, ticket, verdict(response.status_code))
            return response


def _rewritten(request: requests.PreparedRequest, endpoint: str) -> requests.PreparedRequest:
    base, parts = base_of(endpoint), urlsplit(str(request.url))
    copy = request.copy()
    copy.url = urlunsplit((base.scheme, base.netloc, join_path(base.path, parts.path), parts.query, parts.fragment))
    return copy


def _may_go_elsewhere(request: requests.PreparedRequest, error: BaseException) -> bool:
    if isinstance(error, requests.ConnectTimeout):
        return True
    if not isinstance(error, requests.ConnectionError) or isinstance(error, requests.Timeout):
        return False
    cause = error.args[0] if error.args else None
    if isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError):
        return True
    # The connection broke: perhaps the request arrived. Its body must be at hand to be sent again.
    return str(request.method) in IDEMPOTENT and isinstance(request.body, bytes | str | None)


class _Body:
    """urllib3's response, which releases the ticket when it was read to its end or closed; all else is passed on."""

    def __init__(self, raw: Any, ticket: Ticket, ok: bool | None) -> None:
        self._raw, self._ticket, self._ok = raw, ticket, ok

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """The body in pieces."""
        try:
            yield from self._raw.stream(*args, **kwargs)
        except BaseException as error:
            self._ticket.release(left_with(type(error)))
            raise
        self._ticket.release(self._ok)

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        """The body, or a part of it."""
        try:
            data: bytes = self._raw.read(*args, **kwargs)
        except BaseException as error:
            self._ticket.release(left_with(type(error)))
            raise
        if not data or (not args and "amt" not in kwargs):
            self._ticket.release(self._ok)
        return data

    def __iter__(self) -> Iterator[bytes]:
        return self.stream()

    def close(self) -> None:
        """Give up what was not read."""
        self._ticket.release(self._ok)
        self._raw.close()

    def release_conn(self) -> None:
        """Give the connection back to the pool."""
        self._ticket.release(self._ok)
        self._raw.release_conn()
