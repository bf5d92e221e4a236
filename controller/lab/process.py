"""Start programs, wait until they serve, break them on purpose, and leave none behind.

Each program leads a process group of its own, so a Ctrl-C in the terminal reaches us only and we decide the order of
stopping. A guard process (`controller.lab.guard`) kills the groups when we die without stopping them, kill -9 included.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Self
from urllib.parse import urlsplit

from controller.errors import TrimtabError
from controller.lab import guard

POLL_SECONDS = 0.02
LOG_LINES_IN_ERROR = 8

Ready = Callable[[], bool]


class LabError(TrimtabError):
    """A part of the lab did not start or did not do as asked: one message, with the last lines of its log."""


class Process:
    """One program that we started. Also a context manager that stops it.

    Args:
        name: how messages call it.
        log: the file that holds its stdout and stderr.
    """

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._popen = popen
        self._lock = threading.Lock()
        self._released = False

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        stdout: Path | None = None,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
        ready: Ready | None = None,
        ready_within_seconds: float = 20.0,
    ) -> Process:
        """Start a program and wait until it is ready.

        `log` gets stderr, and stdout unless `stdout` names another file; both are appended to. `env` is its whole
        environment, by default ours; `folder` its working folder. `ready` is asked every few milliseconds: see
        `tcp_ready` and `http_ready`.

        Raises:
            LabError: it cannot be started, ended, or is not ready in time; it is stopped then.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        # The shell waits for a line before it becomes the program: by then the guard knows the group, so there is no
        # moment at which our death leaves it running. Without the line (we died) it ends.
        gate = ["/bin/sh", "-c", 'read -r go || exit 1; exec "$@" </dev/null', "sh", *command]
        try:
            with log.open("ab") as err, contextlib.ExitStack() as stack:
                out: IO[bytes] = stack.enter_context(stdout.open("ab")) if stdout is not None else err
                popen = subprocess.Popen(  # noqa: S603 - the lab's own programs
                    gate, stdin=subprocess.PIPE, stdout=out, stderr=err, env=env, cwd=folder, start_new_session=True
                )
        except OSError as error:
            raise LabError(f"{name}: cannot be started: {error}") from error
        _guard.add(popen.pid)
        process = cls(name, popen, log)
        assert popen.stdin is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(BrokenPipeError), popen.stdin as go:
            go.write(b"go\n")
        if ready is not None:
            try:
                process.wait_ready(ready, ready_within_seconds)
            except BaseException:
                process.kill()
                raise
        return process

    @property
    def pid(self) -> int:
        """Its process id, which is its group's id too."""
        return self._popen.pid

    def running(self) -> bool:
        """Whether it has not ended (a paused one runs)."""
        return self._popen.poll() is None

    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    def wait(self, timeout_seconds: float) -> int | None:
        """Its exit status once it ended by itself, or None when it did not within the time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._popen.wait(timeout_seconds)
        return None

    def wait_ready(self, ready: Ready, within_seconds: float) -> None:
        """Wait until `ready()`.

        Raises:
            LabError: it ended, or it is not ready in time.
        """
        deadline = time.monotonic() + within_seconds
        while not ready():
            if not self.running():
                raise LabError(f"{self.name}: ended with status {self.returncode()} before it was ready{self._tail()}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: not ready after {within_seconds:g} s{self._tail()}")
            time.sleep(POLL_SECONDS)

    def last_lines(self, count: int = LOG_LINES_IN_ERROR) -> list[str]:
        """The end of its log."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
        except OSError:
            return []

    def signal(self, number: int) -> None:
        """Send a signal to the program itself."""
        with contextlib.suppress(ProcessLookupError):
            self._popen.send_signal(number)

    def pause(self) -> None:
        """Freeze the whole group: its sockets stay open and answer nothing."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused group go on."""
        self._signal_group(signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9 the whole group, and wait until the program is gone."""
        with self._lock:
            self._signal_group(signal.SIGKILL)
            self._popen.wait()
            self._release()

    def stop(self, grace_seconds: float = 5.0) -> int:
        """TERM, then KILL what is left of the group after `grace_seconds`. Returns the exit status; may be repeated."""
        with self._lock:
            if self._popen.poll() is None:
                self._signal_group(signal.SIGTERM)
                self._signal_group(signal.SIGCONT)  # a paused program cannot stop
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._popen.wait(grace_seconds)
            # Its own children, or the program itself if it would not go.
            self._signal_group(signal.SIGKILL)
            status = self._popen.wait()
            self._release()
            return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _signal_group(self, number: int) -> None:
        if not self._released:  # else the id may be another group's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)

    def _release(self) -> None:
        if not self._released:
            self._released = True
            _guard.remove(self._popen.pid)

    def _tail(self) -> str:
        lines = self.last_lines()
        return "; its last lines:\n  " + "\n  ".join(lines) if lines else f" (nothing in {self.log})"


class _Guard:
    """Our end of the guard's pipe. The pipe closes when we die, and only then: no child inherits it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._popen: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()

    def add(self, group: int) -> None:
        with self._lock:
            self._groups.add(group)
            self._tell(b"+%d\n" % group)

    def remove(self, group: int) -> None:
        with self._lock:
            self._groups.discard(group)
            self._tell(b"-%d\n" % group)

    def close(self) -> None:
        """End the guard, which kills what is still listed."""
        with self._lock:
            if self._popen is not None and self._popen.stdin is not None:
                with contextlib.suppress(OSError):
                    self._popen.stdin.close()
                self._popen.wait()
                self._popen = None

    def _tell(self, line: bytes) -> None:
        if self._popen is None or self._popen.poll() is not None:
            line = b"".join(b"+%d\n" % group for group in self._groups)
            self._popen = subprocess.Popen(  # noqa: S603 - our own file
                [sys.executable, "-I", "-S", guard.__file__], stdin=subprocess.PIPE, start_new_session=True
            )
        assert self._popen.stdin is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.write(line)
            self._popen.stdin.flush()


_guard = _Guard()
atexit.register(_guard.close)


def wait_until(condition: Ready, within_seconds: float, what: str) -> None:
    """Wait until `condition()`.

    Raises:
        LabError: it did not come true in time; the message says `what` was waited for.
    """
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {within_seconds:g} s in vain for {what}")
        time.sleep(POLL_SECONDS)


def tcp_ready(host: str, port: int) -> Ready:
    """Ready when somebody accepts a connection there."""

    def ready() -> bool:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            return False
        return True

    return ready


def http_ready(url: str, statuses: Collection[int] = (200,)) -> Ready:
    """Ready when the URL answers with one of `statuses`. Certificates are not checked: this only asks for a sign of life."""
    parts = urlsplit(url)

    def ready() -> bool:
        connection = (
            http.client.HTTPSConnection(
                parts.hostname or "",
                parts.port,
                timeout=1,
                context=ssl._create_unverified_context(),  # noqa: S323, SLF001 - see above
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=1)
        )
        try:
            connection.request("GET", parts.path or "/")
            return connection.getresponse().status in statuses
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready
