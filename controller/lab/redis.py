"""A real Redis on a free loopback port."""

from __future__ import annotations

import shutil
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from controller.lab.ports import free_port
from controller.lab.process import LabError, Process


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A server's certificate and key, and the authority that signed it, as PEM files."""

    cert: Path
    key: Path
    ca: Path


class RedisServer:
    """A running Redis. `url` carries no password; also a context manager."""

    def __init__(
        self, program: str, folder: Path, host: str, port: int, *, password: str, tls: TlsFiles | None
    ) -> None:
        self.folder = folder
        self.host = host
        self.port = port
        self.password = password
        self.tls = tls
        self.url = f"{'rediss' if tls else 'redis'}://{host}:{port}/0"
        self._program = program
        self.process: Process = self._start()

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        persistent: bool = False,
        password: str = "",
        tls: TlsFiles | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        program: str | None = None,
    ) -> RedisServer:
        """Start Redis with its files in `folder`, and wait until it answers.

        A `persistent` one keeps every write in an append-only file: a restart comes back full and not empty. With `tls`
        it serves TLS only. The port is a free one unless given.

        Raises:
            LabError: there is no `redis-server`, or it did not start.
        """
        program = program or shutil.which("redis-server")
        if program is None:
            raise LabError("redis-server is not installed (Debian, Ubuntu: apt-get install redis-server)")
        port = port or free_port(host)
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"bind {host}", f"dir {folder}", 'save ""', "daemonize no"]
        lines += ["appendonly yes", "appendfsync always"] if persistent else ["appendonly no"]
        if password:
            lines.append(f'requirepass "{password}"')
        if tls is None:
            lines.append(f"port {port}")
        else:
            lines += ["port 0", f"tls-port {port}", f"tls-cert-file {tls.cert}", f"tls-key-file {tls.key}"]
            lines += [f"tls-ca-cert-file {tls.ca}", "tls-auth-clients no"]
        config = folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return cls(program, folder, host, port, password=password, tls=tls)

    def client(self, **options: Any) -> Redis:
        """A client of this server, for looking; the caller closes it."""
        if self.tls is not None:
            options.setdefault("ssl_ca_certs", str(self.tls.ca))
        return Redis.from_url(
            self.url,
            password=self.password or None,
            decode_responses=True,
            socket_timeout=2,
            retry=Retry(NoBackoff(), 1),
            health_check_interval=0,
            **options,
        )

    def restart(self) -> None:
        """Start again on the same port, empty unless it is persistent."""
        self.process.stop()
        self.process = self._start()

    def stop(self) -> None:
        """Stop it; its files stay."""
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> Process:
        command = [self._program, str(self.folder / "redis.conf")]
        return Process.start("redis", command, log=self.folder / "redis.log", folder=self.folder, ready=self._answers)

    def _answers(self) -> bool:
        """Whether it answers PING; an error reply (authentication, still loading) tells which."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as plain:
                if self.tls is None:
                    return _ping(plain)
                context = ssl._create_unverified_context()  # noqa: S323, SLF001 - only a sign of life
                with context.wrap_socket(plain) as secure:
                    return _ping(secure)
        except OSError:
            return False


def _ping(connection: socket.socket) -> bool:
    connection.sendall(b"PING\r\n")
    return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
