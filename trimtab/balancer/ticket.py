"""One request's claim on one endpoint: counted from `pick()` until it is released, on every way out."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trimtab.balancer.core import Core
    from trimtab.balancer.health import Endpoint


class Ticket:
    """What `pick()` returns. Use it in `with` or `async with`, which give the endpoint, or call `release()` yourself.

    Leaving the block counts as a success; an exception as a failure; a cancellation, `GeneratorExit` or `KeyboardInterrupt`
    as neither, except that the endpoint is known to need longer than it was given. A ticket that is dropped without
    being released is released when it is collected. Only the first release counts.

    Attributes:
        endpoint: how to reach it, as published.
        started: seconds on the balancer's monotonic clock when it was picked.
        met: requests in flight that it met there, as far as was known.
        open: whether it is still counted as in flight.
    """

    __slots__ = ("_core", "endpoint", "generation", "met", "open", "slot", "started")

    def __init__(self, core: Core, slot: Endpoint, started: float) -> None:
        self._core = core
        self.slot = slot
        self.endpoint = slot.name
        self.started = started
        self.generation = core.generation
        self.met = slot.in_flight + slot.shared
        self.open = False

    def release(self, ok: bool | None = True, seconds: float | None = None) -> None:
        """The request is over.

        Args:
            ok: whether the endpoint served it; None when that cannot be told (given up, or the caller's own mistake).
            seconds: how long it took; by default, the time since it was picked.
        """
        self._core.release(self, ok, seconds)

    def __enter__(self) -> str:
        return self.endpoint

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._core.release(self, verdict(kind), None)

    async def __aenter__(self) -> str:
        return self.endpoint

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._core.release(self, verdict(kind), None)

    def __del__(self) -> None:
        if self.open:
            self._core.drop(self)

    def __repr__(self) -> str:
        return f"<Ticket {self.endpoint} {'open' if self.open else 'released'}>"


def verdict(kind: type[BaseException] | None) -> bool | None:
    """What leaving a block with this exception type says of the endpoint: True, False, or None for neither."""
    if kind is None:
        return True
    return False if issubclass(kind, Exception) else None
