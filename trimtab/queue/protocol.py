"""What both forms of the queue say to Redis: settings, arguments of the scripts, replies. Pure: no sockets, no clock.

Settings -> arguments() -> [link] -> reply -> Job, Inspection, ...
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import random
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from trimtab.contract import Keys
from trimtab.errors import QueueError, QueueFull, RequestDead, RequestExpired, UnknownRequest
from trimtab.queue.counters import Counters, Inspection
from trimtab.queue.job import DeadLetter, Job, Reject, Retry

MAX_BATCH = 500
"""Requests per call. Lua's unpack and the time for which one script may hold Redis both ask for a bound."""
MAX_ID_BYTES = 200
MAX_PRIORITY = 1000
MAX_COST = 1_000_000

LEAST_BLOCK_SECONDS = 0.002
"""Redis before 7.0 cuts a wait to whole milliseconds, takes 0.001 s for none of them, and that for a wait without end."""
ALL_KEYS = 13
"""Keys of a queue, as the scripts take them."""
FRESH_KEYS = 8
"""Of these `enqueue` needs only the first when no id can be known yet; each key costs Redis some time."""

Verb = Literal[b"done", b"retry", b"dead", b"back"]
Settlement = tuple[Verb, Job, bytes]


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua file and the name under which Redis caches it."""

    name: str
    text: bytes
    sha: bytes


@cache
def script(name: str) -> Script:
    """Read `trimtab/lua/NAME.lua`, once."""
    text = (files("trimtab") / "lua" / f"{name}.lua").read_bytes()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


@dataclass(frozen=True, slots=True)
class Request:
    """One request of `enqueue_many`. See `enqueue` for the fields."""

    payload: bytes
    id: str | None = None
    priority: int = 0
    deadline: float | None = None
    cost: int = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """How a queue behaves. Producers and workers of one queue should use the same values."""

    default_limit: int
    lease_seconds: float
    max_length: int | None
    max_attempts: int
    result_ttl_seconds: float
    priority_seconds: float
    backoff_seconds: float
    timeout_seconds: float

    def __post_init__(self) -> None:
        """Refuse what cannot work, by name."""
        for name, least in (
            *(("default_limit", 0), ("lease_seconds", 0.1), ("max_attempts", 1), ("result_ttl_seconds", 1)),
            *(("priority_seconds", 0), ("backoff_seconds", 0), ("timeout_seconds", 0.01)),
        ):
            value = getattr(self, name)
            if not least <= value < math.inf:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"max_length is {self.max_length}; it must be at least 1, or None for no bound")

    def backoff(self, attempt: int) -> float:
        """Seconds before the next attempt: doubles with each, at most 60, and spread by half so that none march in step."""
        return min(60.0, self.backoff_seconds * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


def _number(value: float) -> bytes:
    return b"%d" % value


class Protocol:
    """Arguments and replies of one queue's scripts."""

    def __init__(self, policy: str, name: str, settings: Settings) -> None:
        if not policy or any(character in policy for character in "{}"):
            raise ValueError(f"policy is {policy!r}; it must be namespace/name, with no braces")
        keys = Keys(policy)
        self.name = name
        self.settings = settings
        self.keys = keys.queue(name)
        self.limit = keys.limit
        self.changed = keys.changed
        self.all_keys = tuple(key.encode() for key in self.keys.script_keys(keys.limit))
        self.default_limit = _number(settings.default_limit)
        self.lease_ms = _number(settings.lease_seconds * 1000)
        self.aging_us = _number(settings.priority_seconds * 1e6)
        self._enqueue_head = [self.default_limit, _number(settings.max_length or 0), self.aging_us, b"1"]
        self._next_head = [
            self.lease_ms,
            self.default_limit,
            _number(settings.max_attempts),
            _number(settings.result_ttl_seconds * 1000),
            self.aging_us,
        ]
        self._prefix = secrets.token_hex(4)
        self._calls = itertools.count()

    def enqueue(self, requests: Sequence[Request]) -> tuple[list[bytes], list[str]]:
        """Arguments, and the ids in order; ids that were not given are made here, so that a repeated call repeats them."""
        if len(requests) > MAX_BATCH:
            raise ValueError(f"{len(requests)} requests in one call; at most {MAX_BATCH}")
        arguments = self._enqueue_head.copy()
        if any(request.id is not None for request in requests):
            arguments[FRESH] = b"0"
        ids = []
        for request in requests:
            given = request.id
            raw = os.urandom(16).hex().encode() if given is None else given.encode()
            if given is not None and not (0 < len(raw) <= MAX_ID_BYTES and given.isprintable()):
                raise ValueError(f"id {given!r} must be 1 to {MAX_ID_BYTES} bytes of printable text")
            if not isinstance(request.payload, bytes):
                raise TypeError(f"payload must be bytes, not {type(request.payload).__name__}; to_json() makes some")
            if not 1 <= request.cost <= MAX_COST:
                raise ValueError(f"cost is {request.cost}; it must be 1 to {MAX_COST}")
            if not -MAX_PRIORITY <= request.priority <= MAX_PRIORITY:
                raise ValueError(f"priority is {request.priority}; it must be -{MAX_PRIORITY} to {MAX_PRIORITY}")
            wait_ms = 0
            if request.deadline is not None:
                if not 0 < request.deadline < math.inf:
                    raise ValueError(f"deadline is {request.deadline}; it is in seconds from now, above 0")
                wait_ms = max(1, math.ceil(request.deadline * 1000))
            arguments += (raw, request.payload, b"%d" % request.priority, b"%d" % wait_ms, b"%d" % request.cost)
            ids.append(raw.decode())
        return arguments, ids

    def check_accepted(self, reply: Any) -> None:
        """Raise QueueFull if the call was refused."""
        if reply[0] != b"ok":
            raise QueueFull(self.name, int(reply[2]), int(reply[1]) / 1000)

    def nonce(self) -> bytes:
        """A name for one call of `next`, never used again by any process, forked ones included."""
        return f"{self._prefix}{os.getpid():x}x{next(self._calls):x}".encode()

    def next(self, n: int, settlements: Sequence[Settlement]) -> list[bytes]:
        """Arguments of the script `next`. Set `[REPEATED]` before the same call goes out again."""
        if not 0 <= n <= MAX_BATCH or len(settlements) > MAX_BATCH:
            raise ValueError(f"{n} to take and {len(settlements)} to settle; each must be 0 to {MAX_BATCH}")
        arguments = [b"%d" % n, *self._next_head, self.nonce(), b"0"]
        for verb, job, value in settlements:
            arguments += (verb, job.lease, value)
        return arguments

    def failure(self, job: Job, reason: str, retry: bool, after_seconds: float | None) -> Settlement:
        """How to settle an attempt that failed."""
        if not retry:
            return b"dead", job, reason.encode(errors="replace")
        delay = self.settings.backoff(job.attempt) if after_seconds is None else after_seconds
        return b"retry", job, f"{max(0, math.ceil(delay * 1000))}:{reason}".encode(errors="replace")

    def outcome(self, job: Job, error: Exception) -> Settlement:
        """How to settle a request whose handler raised."""
        if isinstance(error, Reject):
            return self.failure(job, str(error) or "rejected", retry=False, after_seconds=None)
        if isinstance(error, Retry):
            return self.failure(job, str(error), retry=True, after_seconds=error.after_seconds)
        return self.failure(job, f"{type(error).__name__}: {error}", retry=True, after_seconds=None)


FRESH = 3
"""Where the arguments of `enqueue` say that no id can be known yet. Taken back before the same call goes out again."""
REPEATED = 7
"""Where the arguments of `next` say that the reply to the same call was lost."""


def enqueue_keys(arguments: Sequence[bytes]) -> int:
    """How many of the queue's keys this call of `enqueue` needs."""
    return FRESH_KEYS if arguments[FRESH] == b"1" else ALL_KEYS


def done(job: Job, result: bytes | None) -> Settlement:
    """How to settle a request with its result.

    Raises:
        TypeError: the result is neither bytes nor None.
    """
    if result is not None and not isinstance(result, bytes):
        raise TypeError(f"a result must be bytes or None, not {type(result).__name__}; to_json() makes some")
    return b"done", job, result or b""


def jobs(reply: Any) -> list[Job]:
    """The jobs in a reply of `next`."""
    return [Job(reply[i], reply[i + 1]) for i in range(2, len(reply), 2)]


def lost(reply: Any, settlements: Sequence[Settlement]) -> tuple[str, ...]:
    """Ids of the settled jobs whose lease had gone."""
    flags = reply[1]
    if 48 not in flags:  # ord("0")
        return ()
    return tuple(job.id for flag, (_, job, _) in zip(flags, settlements, strict=True) if flag == 48)


def final(request_id: str, reply: Any) -> bytes | None:
    """The result in a reply of `look`; None while the request is pending.

    Raises:
        RequestDead, RequestExpired, UnknownRequest: as they say.
    """
    state, text = reply
    if state == b"done":
        return bytes(text)
    if state == b"pending":
        return None
    if state == b"dead":
        raise RequestDead(request_id, text.decode(errors="replace"))
    if state == b"expired":
        raise RequestExpired(request_id)
    if state == b"unknown":
        raise UnknownRequest(request_id)
    raise QueueError(
        f"request {request_id} has a result of an unknown form, {state!r}: another version of trimtab wrote it"
    )


def dead_letters(reply: Any) -> list[DeadLetter]:
    """The dead letters in a reply of `dead list`."""
    rows: Iterable[Any] = zip(*[iter(reply)] * 5, strict=True)
    return [
        DeadLetter(name.decode(), float(died) / 1000, int(attempts), reason.decode(errors="replace"), payload)
        for name, died, attempts, reason, payload in rows
    ]


def inspection(reply: Any) -> Inspection:
    """The reply of `inspect`, decoded or not, with the integrals brought up to its instant: in flight has not changed since."""
    now, limit, waiting, delayed, leases, dead, oldest_us = (int(value) for value in reply[:7])
    counters = Counters.parse(dict(zip(reply[7::2], reply[8::2], strict=True)))
    extra = counters.extra if leases else 0
    if counters.at:
        span = max(0.0, now / 1000 - counters.at)
        counters = replace(
            counters,
            inflight_seconds=counters.inflight_seconds + leases * span,
            slots_seconds=counters.slots_seconds + (leases + extra) * span,
            at=now / 1000,
        )
    return Inspection(
        at=now / 1000,
        limit=limit,
        waiting=waiting,
        delayed=delayed,
        in_flight=leases,
        slots_in_use=leases + extra,
        dead=dead,
        oldest_seconds=max(0.0, now / 1000 - oldest_us / 1e6) if oldest_us else 0.0,
        counters=counters,
    )
