"""Read one RESP2 reply from a socket.

redis-py's parser is made for every case and calls some twenty functions a value; half of what a call of the queue costs its
client was there. This one reads what scripts and BRPOP reply: errors, numbers, strings, and arrays of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FIRST_BYTES = 16_384
MORE_BYTES = 262_144


class Closed(Exception):
    """The other side ended the connection."""


class Malformed(Exception):
    """Not a reply that a script gives. The connection is of no more use."""


class Refusal(Exception):
    """An error reply; its text."""


def read(receive: Callable[[int], bytes]) -> Any:  # noqa: C901, PLR0912 - one pass with no calls is its whole point
    """The next reply: bytes, int, None, or a list of these.

    Args:
        receive: as `socket.recv`. It must hold nothing but this reply: one is asked for at a time.

    Raises:
        Refusal: the server replied with an error; the connection is good.
        Closed, Malformed: as they say.
    """
    data = receive(FIRST_BYTES)
    if not data:
        raise Closed
    at = 0
    items: list[Any] | None = None
    left = 1
    while True:
        end = data.find(b"\r\n", at)
        while end < 0:
            data, at = _more(receive, data[at:], 1), 0
            end = data.find(b"\r\n")
        kind = data[at]
        value: Any
        if kind == 36:  # $: bytes of a given length
            size = int(data[at + 1 : end])
            at = end + 2
            if size < 0:
                value = None
            else:
                short = at + size + 2 - len(data)
                if short > 0:
                    data, at = _more(receive, data[at:], short), 0
                value = data[at : at + size]
                at += size + 2
        elif kind == 58:  # :
            value = int(data[at + 1 : end])
            at = end + 2
        elif kind == 42 and items is None:  # *: an array; of arrays there is none
            left = int(data[at + 1 : end])
            at = end + 2
            if left > 0:
                items = []
                continue
            value = [] if left == 0 else None
            left = 1
        elif kind == 43:  # +
            value = data[at + 1 : end]
            at = end + 2
        elif kind == 45 and items is None:  # -
            raise Refusal(data[at + 1 : end].decode(errors="replace"))
        else:
            raise Malformed(f"unexpected reply: {data[at : at + 20]!r}")
        left -= 1
        if items is not None:
            items.append(value)
        if not left:
            if at != len(data):
                raise Malformed(f"{len(data) - at} bytes after the reply")
            return value if items is None else items


def _more(receive: Callable[[int], bytes], data: bytes, least: int) -> bytes:
    """`data` and at least so many bytes more."""
    parts = [data]
    while least > 0:
        part = receive(max(least, MORE_BYTES))
        if not part:
            raise Closed
        parts.append(part)
        least -= len(part)
    return b"".join(parts)
