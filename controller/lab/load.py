"""An open-loop load generator: the same requests, at the same instants, to two sides that choose servers differently.

`python -m controller.lab.load PLAN.json` runs as a process of its own, so that nothing else holds it up, and writes one
JSON line when it begins, one per finished request, one at its end. Arrivals are Poisson and come whether or not the servers keep up; latency counts from the
instant a request was due, so waiting at a limit and lateness of this generator are both inside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import resource
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from trimtab.contract import Keys, QueueKeys

ROUND_ROBIN = "round robin"
TRIMTAB = "trimtab"
POLL_SECONDS = 0.5
LEASE_SECONDS = 5
FIRST_LOOK_SECONDS = 5.0
SIGMA = 0.5


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the load: requests/s to each side, for so many seconds."""

    name: str
    seconds: float
    rate: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, as the plan file holds it.

    Args:
        endpoints_file: JSON list of the endpoints of the round-robin side, read again when it changes.
        fallback_file: the same for the other side, used until a ranking was seen.
        policy: `namespace/name` of the policy whose ranking and limit the other side follows.
        queue: the request queue's name; what waits at the limit is shown in its keys.
    """

    phases: tuple[Phase, ...]
    endpoints_file: str
    fallback_file: str
    redis_url: str
    policy: str
    queue: str = "model_requests"
    path: str = "/v1/completions"
    timeout_seconds: float = 30.0
    seed: int = 1

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan of a file that `write` made."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**raw, "phases": tuple(Phase(**phase) for phase in raw["phases"])})

    def write(self, path: Path) -> None:
        """Write it to a file."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to come: seconds after the start, its phase, and its work as a multiple of the mean."""

    at: float
    phase: str
    work: float


def arrivals(phases: Sequence[Phase], seed: int) -> Iterator[Arrival]:
    """Poisson arrivals whose rate changes with the phase; the same seed gives the same requests."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    start = 0.0
    for phase in phases:
        at = start + rng.expovariate(phase.rate)
        while at < start + phase.seconds:
            yield Arrival(at, phase.name, rng.lognormvariate(-SIGMA * SIGMA / 2, SIGMA))
            at += rng.expovariate(phase.rate)
        start += phase.seconds


class RoundRobin:
    """Each endpoint in turn."""

    def __init__(self, endpoints: Sequence[str] = ()) -> None:
        self.replace(endpoints)

    def replace(self, endpoints: Sequence[str]) -> None:
        """Use these from now on."""
        self.endpoints = tuple(endpoints)
        self._turn = itertools.cycle(self.endpoints)

    def pick(self) -> str | None:
        """The next endpoint; None when there is none."""
        return next(self._turn, None)


class Ranking:
    """An endpoint at random, by the published weights; in turn until there are any. The last good weights stand."""

    def __init__(self, seed: int = 0) -> None:
        self.fallback = RoundRobin()
        self._rng = random.Random(seed)  # noqa: S311 - load balancing, not secrets
        self._endpoints: list[str] = []
        self._weights: list[float] = []

    def replace(self, document: dict[str, Any]) -> None:
        """Use this ranking document from now on, unless it holds no endpoint that may be used."""
        rows = [row for row in document["endpoints"] if row["weight"] > 0]
        if rows:
            self._endpoints, self._weights = [row["endpoint"] for row in rows], [row["weight"] for row in rows]

    def pick(self) -> str | None:
        """An endpoint; None when there is none."""
        if not self._endpoints:
            return self.fallback.pick()
        return self._rng.choices(self._endpoints, self._weights)[0]


class Gate:
    """At most `limit` at a time, first come, first served; None lets all pass."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def change(self, limit: int | None) -> None:
        """A new limit: who is inside stays."""
        self.limit = limit
        self._admit()

    def waiting(self) -> int:
        """How many wait."""
        return sum(not turn.done() for turn in tuple(self._waiting))

    async def enter(self) -> None:
        """Wait for a place."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place to the next one."""
        self.inside -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and (self.limit is None or self.inside < self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.inside += 1
                turn.set_result(None)


class Client:
    """Keep-alive HTTP/1.1 connections, as many as there are requests at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: dict[str, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {}

    async def post(self, endpoint: str, body: bytes) -> int:
        """The status of one POST.

        Raises:
            OSError, EOFError: the connection failed.
        """
        idle = self._idle.setdefault(endpoint, [])
        while idle and idle[-1][0].at_eof():
            idle.pop()[1].close()
        parts = urlsplit(endpoint)
        reader, writer = idle.pop() if idle else await asyncio.open_connection(parts.hostname, parts.port)
        try:
            head = f"POST {self._path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(answer.partition("content-length:")[2].partition("\r\n")[0])
            await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        idle.append((reader, writer))
        return int(answer.split(" ", 2)[1])

    def close(self) -> None:
        """Close what is idle."""
        for _, writer in itertools.chain.from_iterable(self._idle.values()):
            writer.close()
        self._idle.clear()


class Side:
    """One of the two ways to spread the load."""

    def __init__(self, name: str, pick: Callable[[], str | None], client: Client, timeout_seconds: float) -> None:
        self.name = name
        self.gate = Gate()
        self._pick = pick
        self._client = client
        self._timeout_seconds = timeout_seconds

    async def serve(self, arrival: Arrival, due: float, write: Callable[[dict[str, Any]], None]) -> None:
        """One request from its due time (monotonic) to its answer, and its row. One retry, elsewhere, when a server is gone."""
        late = time.monotonic() - due
        row = {"kind": "request", "side": self.name, "phase": arrival.phase, "due": round(arrival.at, 3)}
        body = json.dumps({"work": arrival.work}).encode()
        status, endpoint, waited = 0, None, 0.0
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self._timeout_seconds - late):
                await self.gate.enter()
                try:
                    waited = time.monotonic() - due
                    for _ in range(2):
                        endpoint = self._other_than(endpoint)
                        if endpoint is not None:
                            with contextlib.suppress(OSError, EOFError):
                                status = await self._client.post(endpoint, body)
                                break
                finally:
                    self.gate.leave()
        except TimeoutError:
            pass  # status 0
        except asyncio.CancelledError:
            row["unfinished"] = True
            raise
        finally:
            seconds = time.monotonic() - due
            write({**row, "seconds": seconds, "late": late, "waited": waited, "status": status, "endpoint": endpoint})

    def _other_than(self, failed: str | None) -> str | None:
        """The next pick; not the one that failed, unless it is picked again and again."""
        for _ in range(10):
            if (picked := self._pick()) != failed:
                break
        return picked


class Watch(threading.Thread):
    """Reads the ranking, the limit and the endpoint files twice a second, hands on what changed, and shows the gate."""

    def __init__(self, plan: Plan, changed: Callable[[str, Any], None], gate: Gate) -> None:
        super().__init__(name="watch", daemon=True)
        self._plan = plan
        self._changed = changed
        self._gate = gate
        self._seen: dict[str, Any] = {}
        self._halt = threading.Event()
        self.looked = threading.Event()
        """Everything was read once."""

    def stop(self) -> None:
        """End the thread."""
        self._halt.set()
        self.join(5)

    def run(self) -> None:
        """The thread's work."""
        keys = Keys(self._plan.policy)
        options = {"decode_responses": True, "socket_timeout": 1, "socket_connect_timeout": 1}
        redis = Redis.from_url(self._plan.redis_url, retry=Retry(NoBackoff(), 0), health_check_interval=0, **options)
        with redis:
            while True:
                for name in ("endpoints_file", "fallback_file"):
                    with contextlib.suppress(OSError, ValueError):
                        self._hand_on(name, Path(getattr(self._plan, name)).read_text(encoding="utf-8"))
                with contextlib.suppress(RedisError, ValueError, KeyError):
                    for name, key in (("ranking", keys.ranking), ("limit", keys.limit)):
                        self._hand_on(name, redis.get(key))
                    self._mirror(redis, keys.queue(self._plan.queue))
                self.looked.set()
                if self._halt.wait(POLL_SECONDS):
                    return

    def _mirror(self, redis: Redis, keys: QueueKeys) -> None:
        """Tell the controller who waits and who is inside, in the request queue's own keys."""
        now = time.time() * 1000
        waiting = {f"waiting-{i}": now for i in range(self._gate.waiting())}
        leases = {f"lease-{i}": now + LEASE_SECONDS * 1000 for i in range(self._gate.inside)}
        with redis.pipeline(transaction=True) as pipe:
            for key, members in ((keys.waiting, waiting), (keys.leases, leases)):
                pipe.delete(key)
                if members:
                    pipe.zadd(key, members)
                    pipe.expire(key, LEASE_SECONDS)
            pipe.execute()

    def _hand_on(self, name: str, text: Any) -> None:
        if isinstance(text, str) and self._seen.get(name) != text:
            self._changed(name, json.loads(text))
            self._seen[name] = text


async def run(plan: Plan, write: Callable[[dict[str, Any]], None]) -> None:
    """The whole plan. Requests that have no answer at its end are written as unfinished, with the time they waited."""
    loop = asyncio.get_running_loop()
    client = Client(plan.path)
    in_turn, ranked = RoundRobin(), Ranking(plan.seed)
    sides = [
        Side(ROUND_ROBIN, in_turn.pick, client, plan.timeout_seconds),
        Side(TRIMTAB, ranked.pick, client, plan.timeout_seconds),
    ]
    hands: dict[str, Callable[[Any], None]] = {
        "endpoints_file": in_turn.replace,
        "fallback_file": ranked.fallback.replace,
        "ranking": ranked.replace,
        "limit": sides[1].gate.change,
    }

    def changed(name: str, value: Any) -> None:
        loop.call_soon_threadsafe(hands[name], value)

    watch = Watch(plan, changed, sides[1].gate)
    watch.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await loop.run_in_executor(None, watch.looked.wait, FIRST_LOOK_SECONDS)
    start = time.monotonic()
    write({"kind": "start", "at": time.time()})
    tasks: set[asyncio.Task[None]] = set()

    async def until(moment: float) -> bool:
        """Sleep until that monotonic time; False when told to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, moment - time.monotonic())):
                await stop.wait()
        return not stop.is_set()

    try:
        for arrival in arrivals(plan.phases, plan.seed):
            due = start + arrival.at
            if due > time.monotonic() and not await until(due):
                break
            for side in sides:
                task = asyncio.create_task(side.serve(arrival, due, write))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        await until(start + sum(phase.seconds for phase in plan.phases))
    finally:
        unfinished = list(tasks)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        client.close()
        watch.stop()


def main(arguments: list[str]) -> None:
    """Run the plan of the file named on the command line; rows go to stdout."""
    plan = Plan.read(Path(arguments[0]))

    def write(row: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()  # a small write per request costs less than a lost last second

    began = time.monotonic()
    asyncio.run(run(plan, write))
    used = resource.getrusage(resource.RUSAGE_SELF)
    write({"kind": "end", "cpu": (used.ru_utime + used.ru_stime) / (time.monotonic() - began)})


if __name__ == "__main__":
    main(sys.argv[1:])
