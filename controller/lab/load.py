"""An open-loop load generator: the same requests, at the same instants, to contestants that choose servers differently.

`python -m controller.lab.load PLAN.json` runs as a process of its own, so that nothing else holds it up, and writes one
JSON line when it begins, one per finished request, one at its end. Arrivals are Poisson and come whether or not the servers keep up; latency counts from the
instant a request was due, so waiting at a limit and lateness of this generator are both inside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from controller.lab.connections import Client
from controller.lab.gate import Gate
from controller.lab.pickers import LeastInFlight, Picker, RoundRobin
from trimtab import AsyncBalancer, NoEndpoints
from trimtab.contract import Keys, QueueKeys

ROUND_ROBIN = "round robin"
LEAST_IN_FLIGHT = "least in flight"
TRIMTAB = "trimtab"
TRIES = 2
POLL_SECONDS = 0.5
LEASE_SECONDS = 5
FIRST_LOOK_SECONDS = 5.0
SIGMA = 0.5
LIMIT = "limit"


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
        contestants: by name (ROUND_ROBIN, LEAST_IN_FLIGHT, TRIMTAB), a file with the JSON list of its endpoints, which is
            read again when it changes. Trimtab's is its fallback: read once, and used until a ranking was seen.
        policy: `namespace/name` of the policy whose ranking and limit Trimtab's side follows.
        queue: the request queue's name; what waits at the limit is shown in its keys.
    """

    phases: tuple[Phase, ...]
    contestants: dict[str, str]
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


class Side:
    """One contestant: who chooses for it, and the limit that it keeps to."""

    def __init__(self, name: str, picker: Picker, client: Client, timeout_seconds: float) -> None:
        self.name = name
        self.gate = Gate()
        self._picker = picker
        self._client = client
        self._timeout_seconds = timeout_seconds

    async def serve(self, arrival: Arrival, due: float, write: Callable[[dict[str, Any]], None]) -> None:
        """One request from its due time (monotonic) to its answer, and its row. One retry, elsewhere, when a server is gone."""
        late = time.monotonic() - due
        row = {"kind": "request", "side": self.name, "phase": arrival.phase, "due": round(arrival.at, 3)}
        body = json.dumps({"work": arrival.work}).encode()
        tried: list[str] = []
        status, waited = 0, 0.0
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self._timeout_seconds - late):
                await self.gate.enter()
                try:
                    waited = time.monotonic() - due
                    status = await self._send(body, tried)
                finally:
                    self.gate.leave()
        except TimeoutError:
            pass  # status 0
        except asyncio.CancelledError:
            row["unfinished"] = True
            raise
        finally:
            seconds = time.monotonic() - due
            endpoint = tried[-1] if tried else None
            write({**row, "seconds": seconds, "late": late, "waited": waited, "status": status, "endpoint": endpoint})

    async def _send(self, body: bytes, tried: list[str]) -> int:
        """The status of the answer, 0 without one; `tried` grows by the endpoints that were asked."""
        with contextlib.suppress(NoEndpoints):
            for _ in range(TRIES):
                claim = self._picker.pick(exclude=tried)
                with contextlib.suppress(OSError, EOFError), claim as endpoint:
                    tried.append(endpoint)
                    status = await self._client.post(endpoint, body)
                    claim.release(ok=status < 500)
                    return status
        return 0


class Watch(threading.Thread):
    """Reads the limit and the endpoint files twice a second, hands on what changed, and shows the gate."""

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
                for name, path in self._plan.contestants.items():
                    if name != TRIMTAB:
                        with contextlib.suppress(OSError, ValueError):
                            self._hand_on(name, Path(path).read_text(encoding="utf-8"))
                with contextlib.suppress(RedisError, ValueError, KeyError):
                    self._hand_on(LIMIT, redis.get(keys.limit))
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
    balancer = AsyncBalancer(plan.policy, plan.redis_url, fallback=_fallback(plan))
    in_turn, least = RoundRobin(), LeastInFlight(seed=plan.seed)
    pickers: dict[str, Picker] = {ROUND_ROBIN: in_turn, LEAST_IN_FLIGHT: least, TRIMTAB: balancer}
    sides = [Side(name, pickers[name], client, plan.timeout_seconds) for name in plan.contestants]
    gate = next((side.gate for side in sides if side.name == TRIMTAB), Gate())
    hands: dict[str, Callable[[Any], None]] = {
        ROUND_ROBIN: in_turn.replace,
        LEAST_IN_FLIGHT: least.replace,
        LIMIT: gate.change,
    }

    def changed(name: str, value: Any) -> None:
        loop.call_soon_threadsafe(hands[name], value)

    watch = Watch(plan, changed, gate)
    watch.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await loop.run_in_executor(None, watch.looked.wait, FIRST_LOOK_SECONDS)
    await balancer.start()
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
        await balancer.close()


def _fallback(plan: Plan) -> list[str]:
    """Trimtab's endpoints before any ranking; none when the file is not there."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return [str(name) for name in json.loads(Path(plan.contestants[TRIMTAB]).read_text(encoding="utf-8"))]
    return []


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
