"""Transports for httpx that send each request to the endpoint that a balancer picks. Needs `pip install trimtab[httpx]`.

client = httpx.Client(transport=BalancedTransport(balancer), base_url="http://model-service")

The host in the URL is a name for the service; it is replaced by the endpoint's scheme, host, port and path, and so is the Host header.
A request counts as in flight until its response is closed, so a streamed answer counts until its last token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

import httpx

from trimtab.balancer.base import BalancerBase
from trimtab.balancer.ticket import Ticket
from trimtab.balancer.ticket import verdict as left_with
from trimtab.errors import NoEndpoints
from trimtab.integrations.target import IDEMPOTENT, base_of, join_path, verdict

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
"""No connection was made, so any request may go elsewhere."""
PERHAPS_SENT = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
"""The connection broke; only an idempotent request whose body is at hand may go elsewhere. A read timeout is not retried."""


class _Attempts:
    """The attempts of one request, whatever does the sending."""

    def __init__(self, balancer: BalancerBase, request: httpx.Request, retries: int) -> None:
        self._balancer = balancer
        self._request = request
        self._left = retries
        self._tried: list[str] = []
        self._error: Exception | None = None
        self.ticket: Ticket

    def next(self) -> httpx.Request:
        """The request, rewritten for a newly picked endpoint. Raises the last error when there is no other endpoint."""
        try:
            self.ticket = self._balancer.pick(exclude=self._tried)
        except NoEndpoints as error:
            if self._error is not None:
                raise self._error from None
            raise httpx.ConnectError(str(error), request=self._request) from error
        request, base = self._request, base_of(self.ticket.endpoint)
        raw_path = join_path(base.path, request.url.raw_path.decode("ascii")).encode("ascii")
        url = request.url.copy_with(scheme=base.scheme, host=base.hostname, port=base.port, raw_path=raw_path)
        headers = request.headers.copy()
        headers["Host"] = url.netloc.decode("ascii")
        return httpx.Request(request.method, url, headers=headers, stream=request.stream, extensions=request.extensions)

    def failed(self, error: BaseException) -> None:
        """Release the ticket; raise `error` unless the request may be sent to another endpoint."""
        self.ticket.release(left_with(type(error)))
        resendable = self._request.method in IDEMPOTENT and isinstance(self._request.stream, httpx.ByteStream)
        again = isinstance(error, NEVER_SENT) or (resendable and isinstance(error, PERHAPS_SENT))
        if not again or not isinstance(error, Exception) or not self._left:
            raise error
        self._left -= 1
        self._tried.append(self.ticket.endpoint)
        self._error = error


class _Stream(httpx.SyncByteStream):
    """A response's body; releases the ticket when it is closed, whoever closes it, and however far it was read."""

    def __init__(self, stream: httpx.SyncByteStream, ticket: Ticket, ok: bool | None) -> None:
        self._stream, self._ticket, self._ok = stream, ticket, ok

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except BaseException as error:
            self._ticket.release(left_with(type(error)))
            raise

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._ticket.release(self._ok)


class _AsyncStream(httpx.AsyncByteStream):
    """The same for asyncio."""

    def __init__(self, stream: httpx.AsyncByteStream, ticket: Ticket, ok: bool | None) -> None:
        self._stream, self._ticket, self._ok = stream, ticket, ok

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except BaseException as error:
            self._ticket.release(left_with(type(error)))
            raise

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._ticket.release(self._ok)


class BalancedTransport(httpx.BaseTransport):
    """Sends each request to the endpoint that `balancer` picks.

    Args:
        balancer: either form: picking waits for nothing.
        transport: what does the sending; `httpx.HTTPTransport()` by default. It keeps one pool for all endpoints.
        retries: how many other endpoints may be tried when the connection fails.

    Raises:
        httpx.ConnectError: no endpoint is known; and whatever `transport` raises.
    """

    def __init__(
        self, balancer: BalancerBase, transport: httpx.BaseTransport | None = None, *, retries: int = 2
    ) -> None:
        self._balancer = balancer
        self._transport = transport or httpx.HTTPTransport()
        self._retries = retries

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request, to as many endpoints as it takes, `retries` + 1 at most."""
        attempts = _Attempts(self._balancer, request, self._retries)
        while True:
            sent = attempts.next()
            try:
                response = self._transport.handle_request(sent)
            except BaseException as error:  # noqa: BLE001 - raised again in there, unless it may be retried
                attempts.failed(error)
            else:
                ok = verdict(response.status_code)
                if isinstance(response.stream, httpx.SyncByteStream):
                    response.stream = _Stream(response.stream, attempts.ticket, ok)
                return response

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._transport.__exit__(exc_type, exc_value, traceback)

    def close(self) -> None:
        """Close the transport beneath. The balancer stays: it may serve others."""
        self._transport.close()


class AsyncBalancedTransport(httpx.AsyncBaseTransport):
    """`BalancedTransport` for `httpx.AsyncClient`."""

    def __init__(
        self, balancer: BalancerBase, transport: httpx.AsyncBaseTransport | None = None, *, retries: int = 2
    ) -> None:
        self._balancer = balancer
        self._transport = transport or httpx.AsyncHTTPTransport()
        self._retries = retries

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request, to as many endpoints as it takes, `retries` + 1 at most."""
        attempts = _Attempts(self._balancer, request, self._retries)
        while True:
            sent = attempts.next()
            try:
                response = await self._transport.handle_async_request(sent)
            except BaseException as error:  # noqa: BLE001 - raised again in there, unless it may be retried
                attempts.failed(error)
            else:
                ok = verdict(response.status_code)
                if isinstance(response.stream, httpx.AsyncByteStream):
                    response.stream = _AsyncStream(response.stream, attempts.ticket, ok)
                return response

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc_value, traceback)

    async def aclose(self) -> None:
        """Close the transport beneath. The balancer stays: it may serve others."""
        await self._transport.aclose()
