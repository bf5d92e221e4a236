"""Celery's workers, told through its remote control how many processes each may use, so that all together have `limit`.

Celery has no limit for a fleet. What it has is `pool_grow`, `pool_shrink`, `autoscale`, `cancel_consumer` and `add_consumer`, for
one worker each; so the limit is shared out over the workers that answer. Through Celery's own library (the extra `celery`), not
by imitating its messages: their form is not promised, and it differs with the broker.

A tick: stats -> which worker has how many slots; active_queues -> which takes from the queue; shrink; and only then grow, into
what has become free, so that all together never have more than the limit, nor more than they had if that was above it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from controller.decide.pools import grow, share_out
from controller.errors import Rejected, Unreachable
from controller.model.outcome import Result
from controller.policy.output import Output

SYSTEM = "Celery"
MISSES = 2
"""A worker that has not answered so often in a row is gone; until then its slots are left to it."""


SETTLE_SECONDS = 6.0
"""A pool is not asked to change again for so long, unless it is seen to have the size asked for. Celery's own count moves with each
request, its processes follow, new ones within 5 s: a process on its way out would be counted twice, down to a pool that holds none and never recovers."""


class Control(Protocol):
    """Celery's remote control."""

    def ask(self, command: str, workers: Sequence[str] | None = None, **arguments: Any) -> dict[str, Any]:
        """Send a command to these workers, or to all that the policy names. Returns the replies that came, by worker."""


@contextmanager
def connect(url: str, pattern: str, reply_seconds: float) -> Iterator[Control]:
    """The remote control over the broker at `url`, of the workers whose names match `pattern`.

    Raises:
        DependencyError: the library or the broker is not there, or the broker stopped answering meanwhile.
    """
    try:
        from celery import Celery  # noqa: PLC0415 - an optional extra
        from kombu.exceptions import KombuError  # noqa: PLC0415
    except ImportError:
        raise Rejected(
            SYSTEM, "its library is not installed beside the daemon: pip install 'trimtab[celery]'"
        ) from None
    app = Celery("trimtab", broker=url, set_as_current=False)
    app.conf.update(
        broker_connection_timeout=reply_seconds,
        broker_transport_options={"socket_timeout": 2 * reply_seconds, "socket_connect_timeout": reply_seconds},
    )
    try:
        with app.connection_for_write(connect_timeout=reply_seconds) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=reply_seconds)
            yield _Broadcasts(app.control, connection, pattern, reply_seconds)
    except (KombuError, OSError, *connection.connection_errors, *connection.channel_errors) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise Unreachable(SYSTEM, f"the broker: {words}") from error
    finally:
        app.close()


class _Broadcasts:
    def __init__(self, control: Any, connection: Any, pattern: str, reply_seconds: float) -> None:
        self._control, self._connection = control, connection
        self._pattern, self._reply_seconds = pattern, reply_seconds

    def ask(self, command: str, workers: Sequence[str] | None = None, **arguments: Any) -> dict[str, Any]:
        to: dict[str, Any] = {"pattern": self._pattern, "matcher": "glob"}
        if workers is not None:
            to = {"destination": list(workers), "limit": len(workers)}
        replies = self._control.broadcast(
            command, arguments=arguments, reply=True, timeout=self._reply_seconds, connection=self._connection, **to
        )
        return {worker: reply for answer in replies or () for worker, reply in answer.items()}


@dataclass(slots=True)
class _Worker:
    """One that answered. `slots` is what counts against the limit: 0 for one that takes nothing."""

    processes: int
    takes: bool
    autoscaled: bool = False
    least: int = 0
    settling: bool = False
    """Its pool may still be changing."""

    @property
    def slots(self) -> int:
        return self.processes if self.takes else 0


@dataclass(slots=True)
class CeleryPools:
    """One policy's workers. Remembers who answered, so that one that is late does not lose its slots to the others."""

    known: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Worker -> its slots when it last answered, and how often it has not since."""
    clock: Callable[[], float] = time.monotonic
    changing: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Worker -> until when its pool may still be changing, and to how many processes."""

    def apply(self, control: Control, output: Output, limit: int, allowed: Callable[[], None]) -> tuple[Result, str]:
        """Bring the workers' slots to `limit` in all, as far as that is possible now.

        Args:
            allowed: called before each command that changes something; raises when it is not allowed any more.

        Raises:
            DependencyError: the broker did not answer.
        """
        workers, fixed = _workers(control, output)
        if not workers:  # nor is anybody counted as late: it may be the broker that is
            return Result.UNCHANGED, "no worker answered that takes from the queue and can be resized: held"
        elsewhere = self._elsewhere(workers) + fixed
        self._settle(workers)
        pools = {name: worker.slots for name, worker in workers.items()}
        # While somebody is late nobody is told to stop: a worker that was replaced may be all that there is.
        least = 1 if elsewhere and limit else 0
        plan = share_out(limit, pools, elsewhere=elsewhere, largest=output.maxPerWorker, least=least)
        done: list[str] = []
        refused: list[str] = []

        def resize(name: str, share: int) -> None:
            worker = workers[name]
            if worker.settling and share > 0:
                return
            allowed()
            if share != worker.processes and not worker.autoscaled and not worker.settling:
                self.changing[name] = self.clock() + SETTLE_SECONDS, max(share, 1)
            fault = _resize(control, output.queue, name, worker, share)
            if fault is None:
                done.append(f"{name} {pools[name]} -> {share}")
                pools[name] = share
            else:
                refused.append(f"{name}: {fault}")

        for name in plan.shrink:
            resize(name, plan.shares[name])
        for name, slots in grow(limit, pools, plan.wanted, elsewhere=elsewhere).items():
            resize(name, pools[name] + slots)
        self.known.update({name: (slots, 0) for name, slots in pools.items()})
        state = f"{sum(pools.values()) + elsewhere} slots for a limit of {limit}"
        detail = "; ".join([state, *done, *refused])
        return (Result.DONE if done else Result.UNCHANGED), detail

    def _settle(self, workers: Mapping[str, _Worker]) -> None:
        now = self.clock()
        self.changing = {
            name: (until, target)
            for name, (until, target) in self.changing.items()
            if now < until and (name not in workers or workers[name].processes != target)
        }
        for name in self.changing.keys() & workers.keys():
            workers[name].settling = True
            workers[name].processes = max(workers[name].processes, self.changing[name][1])

    def _elsewhere(self, workers: Mapping[str, _Worker]) -> int:
        late = {name: (slots, misses + 1) for name, (slots, misses) in self.known.items() if name not in workers}
        self.known = {name: (slots, misses) for name, (slots, misses) in late.items() if misses < MISSES}
        return sum(slots for slots, _ in self.known.values())


def _workers(control: Control, output: Output) -> tuple[dict[str, _Worker], int]:
    """Those that take from the queue, or were told to take nothing; and the slots of those that cannot be resized."""
    stats = control.ask("stats")
    queues = control.ask("active_queues", list(stats)) if stats else {}
    workers: dict[str, _Worker] = {}
    fixed = 0
    for name, of_queues in queues.items():
        taken = {queue.get("name") for queue in of_queues} if isinstance(of_queues, list) else {None}
        if taken and output.queue not in taken:
            continue  # it works for others
        found = _worker(stats[name], bool(taken))
        if found is None:
            pool = stats[name].get("pool")
            fixed += int(pool.get("max-concurrency", 0)) if isinstance(pool, dict) else 0
        else:
            workers[name] = found
    return workers, fixed


def _worker(stats: Mapping[str, Any], takes: bool) -> _Worker | None:
    """None for a pool that cannot be resized, or does not say its size: only processes can and do."""
    scale, pool = stats.get("autoscaler"), stats.get("pool")
    if isinstance(scale, dict):
        return _Worker(int(scale["max"]), takes, autoscaled=True, least=int(scale["min"]))
    if isinstance(pool, dict) and isinstance(pool.get("processes"), list):
        return _Worker(len(pool["processes"]), takes)
    return None


def _resize(control: Control, queue: str, name: str, worker: _Worker, share: int) -> str | None:
    """Tell one worker its share. Returns what it answered instead of yes."""
    if share == 0:  # a worker keeps one process at least, so that it must be told to take nothing
        return _tell(control, name, "cancel_consumer", queue=queue) or _processes(control, name, worker, 1)
    fault = _processes(control, name, worker, share)
    if fault is None and not worker.takes:
        fault = _tell(control, name, "add_consumer", queue=queue)
    return fault


def _processes(control: Control, name: str, worker: _Worker, count: int) -> str | None:
    if worker.settling:
        return None
    if worker.autoscaled:
        return _tell(control, name, "autoscale", max=count, min=min(worker.least, count))
    if count > worker.processes:
        return _tell(control, name, "pool_grow", n=count - worker.processes)
    if count < worker.processes:
        return _tell(control, name, "pool_shrink", n=worker.processes - count)
    return None


def _tell(control: Control, name: str, command: str, **arguments: Any) -> str | None:
    reply = control.ask(command, [name], **arguments).get(name)
    if isinstance(reply, dict) and "ok" in reply:
        return None
    words = reply.get("error", reply) if isinstance(reply, dict) else "no answer"
    return f"{command}: {words}"
