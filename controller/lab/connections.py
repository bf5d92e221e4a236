"""HTTP/1.1 by hand: a load generator must cost less than what it measures."""

from __future__ import annotations

import asyncio
import itertools
from urllib.parse import urlsplit


class Client:
    """Keep-alive HTTP/1.1 connections, as many as there are requests at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: dict[str, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {}

    async def post(self, endpoint: str, body: bytes) -> int:
        """The status of one POST.

        Raises:
            OSError, EOFError: the connection failed.
        """
        idle = self._idle.setdefault(endpoint, [])
        while idle and idle[-1][0].at_eof():
            idle.pop()[1].close()
        parts = urlsplit(endpoint)
        reader, writer = idle.pop() if idle else await asyncio.open_connection(parts.hostname, parts.port)
        try:
            head = f"POST {self._path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(answer.partition("content-length:")[2].partition("\r\n")[0])
            await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        idle.append((reader, writer))
        return int(answer.split(" ", 2)[1])

    def close(self) -> None:
        """Close what is idle."""
        for _, writer in itertools.chain.from_iterable(self._idle.values()):
            writer.close()
        self._idle.clear()
