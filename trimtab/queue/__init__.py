"""The request queue: at most `limit` requests in flight across the fleet, and none lost.

    RequestQueue        for threads and processes
    AsyncRequestQueue   for asyncio
    Job                 one leased request; what a handler is given
    Reject, Retry       what a handler raises to say what should become of its request
    Counters            the counters that the scripts keep, parsed
    inspect_command, parse_inspection, between   read them in a pipeline of your own; rates of two readings

Both forms run the same Lua scripts; docs/queue.md documents these for other languages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trimtab.queue.counters import Counters, Inspection
from trimtab.queue.job import DeadLetter, Job, Reject, Retry, to_json
from trimtab.queue.meter import Discontinuity, Window, between, inspect_command, parse_inspection

if TYPE_CHECKING:
    from trimtab.queue.asynchronous import AsyncRequestQueue
    from trimtab.queue.synchronous import RequestQueue

__all__ = [
    "AsyncRequestQueue",
    "Counters",
    "DeadLetter",
    "Discontinuity",
    "Inspection",
    "Job",
    "Reject",
    "RequestQueue",
    "Retry",
    "Window",
    "between",
    "inspect_command",
    "parse_inspection",
    "to_json",
]

_HOMES = {"RequestQueue": "trimtab.queue.synchronous", "AsyncRequestQueue": "trimtab.queue.asynchronous"}


def __getattr__(name: str) -> Any:
    """Import the one form that is used: redis.asyncio is not for those who need threads only."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
