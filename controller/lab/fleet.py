"""Model servers as processes, each on a loopback address of its own, as pods have."""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from controller.lab.ports import can_bind
from controller.lab.process import LabError, Process, tcp_ready


@dataclass(frozen=True, slots=True)
class Make:
    """How a model server is made: requests at a time, mean service time at speed 1, and how fast it is."""

    slots: int = 4
    service_seconds: float = 0.1
    speed: float = 1.0
    seed: int = 0

    def capacity(self) -> float:
        """Requests/s it can serve."""
        return self.slots * self.speed / self.service_seconds


@dataclass(frozen=True, slots=True)
class Server:
    """One running model server."""

    name: str
    index: int
    host: str
    port: int
    make: Make
    process: Process

    @property
    def endpoint(self) -> str:
        """How clients reach it."""
        return f"http://{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """`host:port`, as Prometheus wants it."""
        return f"{self.host}:{self.port}"

    def lab(self, **changes: Any) -> dict[str, Any]:
        """Change how it behaves (`speed`, `errors`, `hang`), or only ask: its state.

        Raises:
            LabError: it does not answer, or refuses the change.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=2)
        try:
            connection.request("POST", "/lab", body=json.dumps(changes))
            reply = connection.getresponse()
            state = json.loads(reply.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise LabError(f"model server {self.name} at {self.address}: {error}") from error
        finally:
            connection.close()
        if reply.status != 200:
            raise LabError(f"model server {self.name}: {state.get('error')}")
        return dict(state)


class Fleet:
    """The running servers by name. Safe to use from several threads; also a context manager that stops them all.

    Args:
        network: the first three numbers of the servers' addresses, such as 127.1.0.
        makes: how the first, second, ... server is made; those beyond are made as the last one.
        changed: called after each start and stop, with the servers that run.
    """

    def __init__(
        self,
        folder: Path,
        network: str,
        port: int,
        makes: Sequence[Make],
        changed: Callable[[list[Server]], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._network = network
        self._port = port
        self._makes = tuple(makes)
        self._changed = changed
        self._servers: dict[str, Server] = {}
        self._lock = threading.RLock()
        self._closed = False

    def start(self, name: str) -> Server:
        """Start one more server, or return the one of that name. The lowest address that is free is taken.

        Raises:
            LabError: it did not start, or the fleet is closed.
        """
        with self._lock:
            if self._closed:
                raise LabError(f"model server {name}: the fleet is closed")
            if name in self._servers:
                return self._servers[name]
            taken = {server.index for server in self._servers.values()}
            index = next(i for i in range(253) if i not in taken)
            make = self._makes[min(index, len(self._makes) - 1)]
            host = f"{self._network}.{index + 1}"
            command = [sys.executable, "-m", "controller.lab.modelserver", f"--host={host}", f"--port={self._port}"]
            command += [f"--slots={make.slots}", f"--service-seconds={make.service_seconds}"]
            command += [f"--speed={make.speed}", f"--seed={make.seed or index}"]
            process = Process.start(
                f"model server {name}",
                command,
                log=self._folder / f"{name}.log",
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                ready=tcp_ready(host, self._port),
            )
            server = Server(name, index, host, self._port, make, process)
            self._servers[name] = server
            self._changed(self.servers())
            return server

    def stop(self, name: str) -> None:
        """Stop one server; what it is serving is finished first. No such server: nothing happens."""
        with self._lock:
            server = self._servers.pop(name, None)
            if server is None:
                return
            self._changed(self.servers())
        server.process.stop()

    def servers(self) -> list[Server]:
        """Those that run, by address."""
        with self._lock:
            return sorted(self._servers.values(), key=lambda server: server.index)

    def close(self) -> None:
        """Stop them all, at once and without waiting for requests; none can be started afterwards."""
        with self._lock:
            self._closed = True
            servers, self._servers = list(self._servers.values()), {}
        for server in servers:
            server.process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def free_network(port: int, addresses: int = 16, fleets: int = 2) -> str:
    """Two numbers `127.N` such that the first addresses of 127.N.0, 127.N.1, one for each fleet, are free at `port`.

    Raises:
        LabError: there are none, most often because something listens on that port of all addresses.
    """
    first = os.getpid() % 200  # so that two at a time seldom try the same
    for n in range(200):
        network = f"127.{1 + (first + n) % 200}"
        if all(can_bind(f"{network}.{fleet}.{i + 1}", port) for fleet in range(fleets) for i in range(addresses)):
            return network
    raise LabError(f"port {port} is taken on every loopback network that was tried; stop what listens on it")
