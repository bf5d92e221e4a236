"""A TCP proxy that breaks things on purpose: between a client and a real Prometheus, Redis or API server.

It runs in a thread of this process and is told how to behave at run time, connections that are open included. Bytes pass
untouched unless `tls` is given: then it speaks TLS to the client, so that it can answer HTTP itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

T = TypeVar("T")

CHUNK_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Pass:
    """Forward everything, both ways."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody listens: connections are refused, open ones are reset."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Accept, read, and never answer. Nothing reaches the server."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Accept and reset at the first byte."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Forward, each piece of an answer late by so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DropReplies:
    """Requests reach the server and are carried out; the client never hears of it."""


@dataclass(frozen=True, slots=True)
class Drip:
    """Answers come a few bytes at a time, so that a read timeout for each piece never strikes."""

    bytes_at_a_time: int = 1
    every_seconds: float = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer HTTP requests with this, instead of the server.

    Args:
        when: which requests, by method and target (path and query); the others are forwarded. Default: all.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    when: Callable[[str, str], bool] | None = None


Fault = Pass | Refuse | Hang | Reset | Latency | DropReplies | Drip | Answer


class FaultProxy:
    """A proxy in front of one server. Also a context manager; it passes everything until told otherwise.

    `host` and `port` say where the server is. With `tls` it speaks TLS to clients, with `upstream_tls` to the server; by
    default bytes pass as they are. It listens on a free port of `listen_host`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        upstream_tls: ssl.SSLContext | None = None,
        listen_host: str = "127.0.0.1",
    ) -> None:
        self.host = listen_host
        self.connections = 0
        """How many connections were accepted so far."""
        self.answered = 0
        """How many requests were answered by the proxy itself."""
        self.held = 0
        """How many pieces of requests were read and dropped by a hang."""
        self._upstream = (host, port)
        self._tls = tls
        self._upstream_tls = upstream_tls
        self._fault: Fault = Pass()
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._server: asyncio.Server | None = None
        self.port = 0
        try:
            self._call(self._listen())
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """`host:port` to connect to."""
        return f"{self.host}:{self.port}"

    def behave(self, fault: Fault) -> None:
        """From now on do this, to new connections and to open ones. Returns once it holds.

        Whatever an earlier fault held back is lost with its connection: nothing is delivered late.
        """
        self._call(self._behave(fault))

    def heal(self) -> None:
        """Pass everything again."""
        self.behave(Pass())

    def close(self) -> None:
        """Stop listening and drop all connections; may be repeated."""
        if self._loop.is_closed():
            return
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _behave(self, fault: Fault) -> None:
        before, self._fault = self._fault, fault
        if isinstance(fault, Refuse) and self._server is not None:
            self._server.close()
            self._server = None
        elif not isinstance(fault, Refuse) and self._server is None:
            await self._listen()
        # A pass turns into any fault in the midst of a connection; a fault ends together with its connections.
        if not isinstance(before, Pass) or isinstance(fault, Refuse):
            await self._drop_all()

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._drop_all()

    async def _drop_all(self) -> None:
        tasks = list(self._open)
        for task, writer in list(self._open.items()):
            _reset(writer)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        self._open[task] = writer
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # either side went away, or we were told to end it
        except ValueError:
            pass  # not HTTP, though it was to be answered so
        finally:
            del self._open[task]
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        answers: asyncio.Task[None] | None = None
        try:
            while request := await reader.read(CHUNK_BYTES):
                match self._fault:
                    case Reset():
                        _reset(writer)
                        return
                    case Hang():
                        self.held += 1
                        continue
                    case Answer() as answer:
                        request, reply = await _canned(answer, request, reader)
                        if reply is not None:
                            self.answered += 1
                            writer.write(reply)
                            await writer.drain()
                            continue
                    case _:
                        pass
                if upstream is None or answers is None:
                    upstream = await asyncio.open_connection(*self._upstream, ssl=self._upstream_tls)
                    answers = asyncio.create_task(self._forward_answers(upstream[0], writer))
                upstream[1].write(request)
                await upstream[1].drain()
        finally:
            if upstream is not None:
                upstream[1].transport.abort()  # before the await below, which may be cancelled
            if answers is not None:
                answers.cancel()
                await asyncio.gather(answers, return_exceptions=True)

    async def _forward_answers(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while reply := await upstream.read(CHUNK_BYTES):
                match self._fault:
                    case Hang() | DropReplies():
                        continue
                    case Latency(seconds=seconds):
                        await asyncio.sleep(seconds)
                        writer.write(reply)
                    case Drip(bytes_at_a_time=size, every_seconds=every):
                        for start in range(0, len(reply), size):
                            writer.write(reply[start : start + size])
                            await writer.drain()
                            await asyncio.sleep(every)
                    case _:
                        writer.write(reply)
                await writer.drain()
        except OSError:
            pass  # the server went away: so do we
        writer.transport.close()  # flushes, then the reader above sees the end


async def _canned(answer: Answer, request: bytes, reader: asyncio.StreamReader) -> tuple[bytes, bytes | None]:
    """All that was read of the request whose first bytes are given, and the reply; None when it is to be forwarded.

    One request at a time: a second one that is pipelined behind it is not told apart, and clients of ours send none.
    """
    head = request
    while b"\r\n\r\n" not in head:
        more = await reader.read(CHUNK_BYTES)
        if not more:
            return head, None
        head += more
    request = head
    head, _, body = head.partition(b"\r\n\r\n")
    method, target, *_ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if answer.when is not None and not answer.when(method, target):
        return request, None
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    if length > len(body):
        await reader.readexactly(length - len(body))
    headers = {"Content-Type": "application/json", **answer.headers, "Content-Length": str(len(answer.body))}
    lines = [f"HTTP/1.1 {answer.status} Fault"] + [f"{name}: {value}" for name, value in headers.items()]
    return request, ("\r\n".join(lines) + "\r\n\r\n").encode() + answer.body


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST: linger 0 drops what is unsent, and the peer sees `connection reset`."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
