"""Faults that a test puts between a client and the emulator."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What happens to the requests it matches; the first fault that matches decides.

    Args:
        status: answer this instead (with a Status body); 0 lets the request through after the latency.
        method: HTTP method, empty for all.
        path: regular expression searched in the path, empty for all.
        message: the Status's message.
        headers: sent along, such as `Retry-After`.
        latency_seconds: wait before anything else.
        hang: never answer, until `Faults.clear()` or the emulator stops; the connection is then cut.
        times: for so many requests, None for ever.
    """

    status: int = 0
    method: str = ""
    path: str = ""
    message: str = "injected"
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_seconds: float = 0.0
    hang: bool = False
    times: int | None = None


class Faults:
    """The faults in force. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._cleared = threading.Event()

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """End all faults; hanging requests are cut."""
        with self._lock:
            self._faults.clear()
            self._cleared.set()
            self._cleared = threading.Event()

    def take(self, method: str, path: str) -> tuple[Fault, threading.Event] | None:
        """The fault for this request, and what a hanging one waits for."""
        with self._lock:
            for fault in self._faults:
                if fault.method in ("", method) and re.search(fault.path, path):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self._faults.remove(fault)
                    return fault, self._cleared
        return None
