"""A real Redis on a free port, and a proxy in front of it that breaks connections on purpose."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_cluster_port():
    """One whose bus, 10,000 above, is free too; before Redis 7 it cannot be put elsewhere."""
    while True:
        port = free_port()
        with contextlib.suppress(OSError, OverflowError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port + 10_000))
            return port


def until(condition, timeout_seconds=20.0, every_seconds=0.02):
    """The first truthy value of `condition()`; an AssertionError when there is none in time."""
    end = time.monotonic() + timeout_seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not true within {timeout_seconds:g} s"
        time.sleep(every_seconds)
    return value


class RedisServer:
    """`redis-server` with the given options, in `folder`. Ends with its context."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, tls: bool = False) -> None:
        self.port = port or free_port()
        self.folder = folder
        self.tls = tls
        folder.mkdir(parents=True, exist_ok=True)
        where = ["--port", "0", "--tls-port", str(self.port)] if tls else ["--port", str(self.port)]
        self.command = ["redis-server", *where, "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options) -> Redis:
        options.setdefault("retry", Retry(NoBackoff(), 0))
        return Redis(port=self.port, protocol=2, **options)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        until(self.answers)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        if self.tls:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False
        with contextlib.suppress(RedisError), self.client() as client:
            return bool(client.ping())
        return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
            self.process.wait()
            self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()


class Proxy:
    """Forwards to a port, and drops replies when told: what was asked is carried out, and the asker never hears of it."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.to_drop = 0
        self.dropped = 0
        self.lock = threading.Lock()
        self.open: set[socket.socket] = set()
        self.closing = False
        self.threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def drop_replies(self, count: int = 1) -> None:
        """The next so many replies are swallowed, each with its connection."""
        with self.lock:
            self.to_drop += count

    def _spawn(self, target, *arguments) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.upstream_port))
            except OSError:
                near.close()
                continue
            with self.lock:
                self.open |= {near, far}
            self._spawn(self._pump, near, far, False)
            self._spawn(self._pump, far, near, True)

    def _pump(self, source, target, replies) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if replies:
                    with self.lock:
                        drop = self.to_drop > 0
                        self.to_drop -= drop
                        self.dropped += drop
                    if drop:
                        break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        self._spawn(self._accept)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in self.open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(5)
        for end in self.open:
            end.close()
