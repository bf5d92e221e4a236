"""The owner's side of the guard: start, look at, signal and stop the control plane's processes."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_STOP_SECONDS = 15.0


class StartError(RuntimeError):
    """The control plane did not come up; the message ends with the failed process's last log lines."""


class Processes:
    """Processes that end with this one, whatever ends it.

    Args:
        logs: folder for one log file per process; made when absent, kept.
        remove: folders that are removed when everything has ended.
    """

    def __init__(self, logs: Path, remove: Sequence[Path] = ()) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._lock = threading.Lock()
        guard = str(Path(__file__).with_name("guard.py"))
        self._guard = subprocess.Popen(  # noqa: S603 - this interpreter and our own file
            [sys.executable, "-I", "-S", guard, *(str(folder) for folder in remove)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start(self, name: str, argv: Sequence[str]) -> int:
        """Start a process under that name and return its pid; StartError when the program cannot be run."""
        answer = self._ask({"do": "start", "name": name, "argv": list(argv), "log": str(self._log(name))})
        if "error" in answer:
            raise StartError(f"{name}: {answer['error']}")
        return int(answer["pid"])

    def exit_code(self, name: str) -> int | None:
        """None while it runs."""
        code: int | None = self._ask({"do": "look", "name": name})["exit"]
        return code

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the process's group; after SIGKILL it is gone when this returns."""
        self._ask({"do": "signal", "name": name, "signal": int(number)})

    def log_tail(self, name: str, lines: int = 8) -> str:
        """The last lines of its log."""
        log = self._log(name)
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    def wait(self, what: str, ready: Callable[[], bool], names: Sequence[str], timeout_seconds: float) -> None:
        """Poll until `ready()`; StartError with log lines when one of the named processes ends first or time is up."""
        until = time.monotonic() + timeout_seconds
        while not ready():
            for name in names:
                if (code := self.exit_code(name)) is not None:
                    raise StartError(f"{name} ended with {code}; its last lines:\n{self.log_tail(name)}")
            if time.monotonic() > until:
                logs = "\n".join(f"--- {name}\n{self.log_tail(name)}" for name in names)
                raise StartError(f"{what}: not ready after {timeout_seconds:.0f} s\n{logs}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End everything and remove the folders. May be called twice."""
        with contextlib.suppress(OSError):
            if self._guard.stdin is not None:
                self._guard.stdin.close()
        self._guard.terminate()  # a forked copy of this process may still hold the pipe
        try:
            self._guard.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        if self._guard.stdout is not None:
            self._guard.stdout.close()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            stdin, stdout = self._guard.stdin, self._guard.stdout
            if stdin is None or stdout is None or stdin.closed:
                raise StartError("the control plane is stopped")
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        if not line:
            raise StartError("the guard process has ended, and the control plane with it")
        answer: dict[str, Any] = json.loads(line)
        return answer


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that are free now; all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
