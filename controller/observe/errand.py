"""A call that may hang, run beside the tick and left behind when it does not return."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from controller.deadline import Deadline
from controller.errors import TimedOut

T = TypeVar("T")


@dataclass(slots=True)
class _Call(Generic[T]):
    done: threading.Event = field(default_factory=threading.Event)
    values: list[T] = field(default_factory=list)
    error: BaseException | None = None


class Errand(Generic[T]):
    """Runs one call at a time in a daemon thread, so that neither a tick nor the end of the process waits for it.

    Args:
        system: the system that is called, as a user would name it.
    """

    def __init__(self, system: str) -> None:
        self._system = system
        self._last: _Call[T] | None = None
        self._refused = False

    def start(self, work: Callable[[], T]) -> None:
        """Begin the call, unless the last one still runs: threads never pile up."""
        self._refused = self.busy()
        if self._refused:
            return
        call: _Call[T] = _Call()
        self._last = call
        threading.Thread(target=_run, args=(call, work), name=f"observe {self._system}", daemon=True).start()

    def busy(self) -> bool:
        """Whether the last call has not returned yet."""
        return self._last is not None and not self._last.done.is_set()

    def result(self, deadline: Deadline) -> T:
        """What the call returned.

        Raises:
            TimedOut: it has not returned by the deadline, or one before it still has not.
            Exception: whatever the call raised.
        """
        if self._last is None or self._refused:
            raise TimedOut(self._system, "still waiting for the last call")
        if not self._last.done.wait(deadline.cap(deadline.remaining_seconds())):
            raise TimedOut(self._system, "no answer within the tick")
        if self._last.error is not None:
            raise self._last.error
        return self._last.values[0]


def _run(call: _Call[T], work: Callable[[], T]) -> None:
    try:
        call.values.append(work())
    except BaseException as error:  # noqa: BLE001 - raised again in the thread that asks for the result
        call.error = error
    finally:
        call.done.set()
