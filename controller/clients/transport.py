"""A total time limit for urllib3 calls: its own timeouts count anew for each read, so that a dripping server has no limit."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Any, Self

_calling = threading.local()


class Cut:
    """Shuts the connection of the call made inside `with` once `seconds` have passed. `fired` says whether it did."""

    def __init__(self, seconds: float) -> None:
        self.fired = False
        self._lock = threading.Lock()
        self._over = False
        self._sock: Any = None
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        _calling.cut = self
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _calling.cut = None
        self._timer.cancel()
        with self._lock:
            self._over = True

    def watch(self, sock: Any) -> None:
        """The socket to shut. Not its connection, which lets go of it early when the server will close it."""
        with self._lock:
            self._sock = sock
            if self.fired:
                self._shut()

    def _fire(self) -> None:
        with self._lock:
            if self._over:  # the connection may already serve another call
                return
            self.fired = True
            self._shut()

    def _shut(self) -> None:
        if self._sock is None:
            return
        try:
            # Not SSLSocket.shutdown, which takes the TLS state away from the thread that is reading.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            return  # closed already


def watch_connections(pool_manager: Any) -> None:
    """Make every connection of this urllib3 PoolManager known to the Cut of the thread that uses it."""
    pool_manager.pool_classes_by_scheme = {
        scheme: _watched_pool(pool) for scheme, pool in pool_manager.pool_classes_by_scheme.items()
    }


def _watched_pool(pool: type[Any]) -> type[Any]:
    base: type[Any] = pool.ConnectionCls

    def request(self: Any, *args: Any, **kwargs: Any) -> None:
        base.request(self, *args, **kwargs)  # connects, if need be, under urllib3's own limits
        cut = getattr(_calling, "cut", None)
        if cut is not None:
            cut.watch(self.sock)

    connection = type(f"Watched{base.__name__}", (base,), {"request": request})
    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": connection})
