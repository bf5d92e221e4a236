"""Which endpoint should this request go to? Reads the published ranking, and adds what this client knows itself.

    Balancer, AsyncBalancer   for threads and for asyncio
    Ticket                    one request's claim on one endpoint; what `pick()` returns
    Status, State             what a balancer knows, and how good it is

Inside: `core` chooses and counts, with `health` (what is believed of an endpoint) and `table` (drawing by weight); `feed` turns documents
into tables; `heartbeat` shares counts; `session` is the conversation with Redis, which the two forms carry out.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trimtab.balancer.base import Status
from trimtab.balancer.feed import State
from trimtab.balancer.ticket import Ticket

if TYPE_CHECKING:
    from trimtab.balancer.asynchronous import AsyncBalancer
    from trimtab.balancer.synchronous import Balancer

__all__ = ["AsyncBalancer", "Balancer", "State", "Status", "Ticket"]

_HOMES = {"Balancer": "trimtab.balancer.synchronous", "AsyncBalancer": "trimtab.balancer.asynchronous"}


def __getattr__(name: str) -> Any:
    """Import the one form that is used: redis.asyncio is not for those who need threads only."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
