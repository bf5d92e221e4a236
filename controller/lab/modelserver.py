"""A model server to put load on: `python -m controller.lab.modelserver --host 127.1.0.3 --port 8000`.

A few slots serve requests first come, first served; serving is sleeping, so many of them fit on one machine. It exports
what prometheus-fastapi-instrumentator exports, and how full it is. `POST /lab` slows or breaks it at run time.
Standard library only, so that a fleet starts fast and stays small.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import signal
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

BUCKETS_SECONDS = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
FINE_BUCKETS_SECONDS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5),
    *(3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0, 30.0, 60.0),
)
"""Of the instrumentator's histogram without labels."""
PATHS = ("/v1/completions", "/predict")
MEMORY_BASE_BYTES = 400e6
MEMORY_PER_REQUEST_BYTES = 20e6
DRAIN_SECONDS = 3.0
# A lognormal's spread: the 99th percentile of the service time is about 3 times its mean.
SIGMA = 0.5


@dataclass(slots=True)
class Behaviour:
    """What `POST /lab` changes: work is done `speed` times as fast, a share `errors` fails at once, `hang` stops all.

    `slots` is how many requests are served at a time; 0 leaves that as the server was made.
    """

    speed: float = 1.0
    errors: float = 0.0
    hang: bool = False
    slots: int = 0

    def update(self, changes: dict[str, Any]) -> None:
        """Take over known fields.

        Raises:
            ValueError: a field is unknown or its value out of range; nothing is changed then.
        """
        speed = float(changes.get("speed", self.speed))
        errors = float(changes.get("errors", self.errors))
        hang = changes.get("hang", self.hang)
        slots = int(changes.get("slots", self.slots))
        unknown = set(changes) - {"speed", "errors", "hang", "slots"}
        wrong = not speed > 0 or not math.isfinite(speed) or not 0 <= errors <= 1 or not isinstance(hang, bool)
        if unknown or wrong or slots < 0:
            raise ValueError('give {"speed": above 0, "errors": 0..1, "hang": true or false, "slots": 1 or more}')
        self.speed, self.errors, self.hang, self.slots = speed, errors, hang, slots


@dataclass(slots=True)
class Meter:
    """Counts and times of one server, and their text exposition."""

    slots: int
    started: float = field(default_factory=time.time)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By handler and status class, such as 2xx."""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Sum of response times by handler."""
    buckets: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Observations by handler and index of the smallest bucket that holds them."""
    fine: Counter[int] = field(default_factory=Counter)
    """The same of all handlers, by index in FINE_BUCKETS_SECONDS."""
    inside: int = 0
    busy: int = 0
    _busy_seconds: float = 0.0
    _busy_since: float = field(default_factory=time.monotonic)

    def change_busy(self, by: int) -> None:
        """A slot was taken (+1) or left (-1)."""
        self._busy_seconds = self.busy_seconds()
        self._busy_since = time.monotonic()
        self.busy += by

    def busy_seconds(self) -> float:
        """Slot-seconds spent serving so far, up to this moment."""
        return self._busy_seconds + self.busy * (time.monotonic() - self._busy_since)

    def finished(self, handler: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self.requests[handler, f"{status // 100}xx"] += 1
        self.seconds[handler] += seconds
        self.buckets[handler, bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self.fine[bisect_left(FINE_BUCKETS_SECONDS, seconds)] += 1

    def expose(self) -> str:
        """The Prometheus text format."""
        lines = ["# TYPE http_requests_total counter"]
        for (handler, status), count in sorted(self.requests.items()):
            lines.append(f'http_requests_total{{handler="{handler}",method="POST",status="{status}"}} {count}')
        lines.append("# TYPE http_request_duration_seconds histogram")
        for handler in sorted(self.seconds):
            labels = f'handler="{handler}",method="POST"'
            total = 0
            for index, bound in enumerate((*BUCKETS_SECONDS, math.inf)):
                total += self.buckets[handler, index]
                le = "+Inf" if bound == math.inf else f"{bound}"
                lines.append(f'http_request_duration_seconds_bucket{{{labels},le="{le}"}} {total}')
            lines.append(f"http_request_duration_seconds_sum{{{labels}}} {self.seconds[handler]:.6f}")
            lines.append(f"http_request_duration_seconds_count{{{labels}}} {total}")
        lines.append("# TYPE http_request_duration_highr_seconds histogram")
        total = 0
        for index, bound in enumerate((*FINE_BUCKETS_SECONDS, math.inf)):
            total += self.fine[index]
            le = "+Inf" if bound == math.inf else f"{bound}"
            lines.append(f'http_request_duration_highr_seconds_bucket{{le="{le}"}} {total}')
        lines.append(f"http_request_duration_highr_seconds_sum {sum(self.seconds.values()):.6f}")
        lines.append(f"http_request_duration_highr_seconds_count {total}")
        gauges = {
            "http_requests_inprogress": self.inside,
            "model_slots": self.slots,
            "model_busy_slots_ratio": self.busy / self.slots,
            "model_queue_length": self.inside - self.busy,
            "container_memory_working_set_bytes": MEMORY_BASE_BYTES + MEMORY_PER_REQUEST_BYTES * self.inside,
            "process_start_time_seconds": self.started,
        }
        for name, value in gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value}"]
        # A busy slot stands for a busy core: the work is played by sleeping.
        for name in ("model_slot_busy_seconds_total", "container_cpu_usage_seconds_total"):
            lines += [f"# TYPE {name} counter", f"{name} {self.busy_seconds():.6f}"]
        return "\n".join(lines) + "\n"


class ModelServer:
    """Slots, a queue before them, and a small HTTP/1.1 server around both."""

    def __init__(self, slots: int, service_seconds: float, behaviour: Behaviour, seed: int, queue: int) -> None:
        self.behaviour = behaviour
        self.meter = Meter(slots)
        self._slots = asyncio.Semaphore(slots)  # wakes waiters in their order of arrival
        self._service_seconds = service_seconds
        self._random = random.Random(seed)  # noqa: S311 - a simulation
        self._most_inside = slots + queue
        self._going_on = asyncio.Event()
        self._going_on.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._taken: set[asyncio.Future[Any]] = set()

    async def run(self, host: str, port: int, stop: asyncio.Event) -> None:
        """Serve until `stop`, then let what is inside finish, for a few seconds."""
        server = await asyncio.start_server(self._connection, host, port, backlog=512)
        print(f"listening on {host}:{port}", flush=True)  # noqa: T201 - its log
        await stop.wait()
        server.close()
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.meter.inside and not self.behaviour.hang and time.monotonic() < deadline:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(0.01)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            while (request := await _read_request(reader)) is not None:
                method, path, body = request
                status, text, kind = await self._answer(method, path, body)
                head = f"HTTP/1.1 {status} {'OK' if status < 300 else 'Error'}\r\n"
                head += f"Content-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n"
                writer.write(head.encode() + text)
                await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client went away or spoke no HTTP, or we stop
        finally:
            writer.close()

    async def _answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes, str]:
        """Status, body and content type."""
        if path in PATHS and method == "POST":
            return await self._predict(path, body)
        match path:
            case "/metrics":
                return 200, self.meter.expose().encode(), "text/plain; version=0.0.4"
            case "/health":
                return 200, b"ok\n", "text/plain"
            case "/lab":
                return self._lab(_json(body) if method == "POST" else {})
        return 404, b'{"error": "no such page"}', "application/json"

    def _lab(self, changes: Any) -> tuple[int, bytes, str]:
        try:
            self.behaviour.update(changes)
        except (ValueError, TypeError, AttributeError) as error:
            return 400, json.dumps({"error": str(error)}).encode(), "application/json"
        (self._going_on.clear if self.behaviour.hang else self._going_on.set)()
        self._resize(self.behaviour.slots or self.meter.slots)
        return 200, self._state(), "application/json"

    def _resize(self, slots: int) -> None:
        """More slots at once; fewer as soon as what holds them, or waits for them already, is done."""
        more, self.meter.slots = slots - self.meter.slots, slots
        for _ in range(more):
            self._slots.release()
        for _ in range(-more):
            taking = asyncio.ensure_future(self._slots.acquire())
            self._taken.add(taking)
            taking.add_done_callback(self._taken.discard)

    async def _predict(self, path: str, body: bytes) -> tuple[int, bytes, str]:
        arrived = time.monotonic()
        work = _work_of(body)
        if work is None:
            work = self._random.lognormvariate(-SIGMA * SIGMA / 2, SIGMA)
        self.meter.inside += 1
        status = 200
        try:
            if self._random.random() < self.behaviour.errors:
                status = 500
            elif self.meter.inside > self._most_inside:
                status = 503
            else:
                async with self._slots:
                    self.meter.change_busy(+1)
                    try:
                        await self._going_on.wait()
                        await asyncio.sleep(work * self._service_seconds / self.behaviour.speed)
                    finally:
                        self.meter.change_busy(-1)
        finally:
            self.meter.inside -= 1
        self.meter.finished(path, status, time.monotonic() - arrived)
        return status, b'{"done": true}' if status == 200 else b'{"error": "failed"}', "application/json"

    def _state(self) -> bytes:
        behaviour = self.behaviour
        state = {"speed": behaviour.speed, "errors": behaviour.errors, "hang": behaviour.hang}
        inside = {"inside": self.meter.inside, "busy": self.meter.busy, "busy_seconds": self.meter.busy_seconds()}
        return json.dumps({**state, **inside}).encode()


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, bytes] | None:
    """Method, path and body; None at the end of the connection."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        length = 0
        for line in head[1:]:
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                length = int(value)
        body = await reader.readexactly(length) if length else b""
        return method, target.partition("?")[0], body
    return None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _work_of(body: bytes) -> float | None:
    """The request's own share of work, as a multiple of the mean, if it says so: then two fleets can get the same work."""
    try:
        work = float(json.loads(body)["work"])
    except (ValueError, TypeError, KeyError):
        return None
    return work if 0 <= work < 1000 else None


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="A model server to put load on; its work is played by sleeping.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--slots", type=int, default=4, help="requests served at a time")
    parser.add_argument("--queue", type=int, default=10_000, help="requests that may wait; more are answered 503")
    parser.add_argument("--service-seconds", type=float, default=0.1, help="mean service time at speed 1")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        behaviour = Behaviour(speed=given.speed)
        server = ModelServer(given.slots, given.service_seconds, behaviour, given.seed, given.queue)
        await server.run(given.host, given.port, stop)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
