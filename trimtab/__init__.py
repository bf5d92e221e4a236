"""Trimtab's client library: what a model-serving application imports. Depends on redis only."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trimtab._version import __version__

if TYPE_CHECKING:
    from trimtab.balancer import AsyncBalancer, Balancer
    from trimtab.errors import (
        LeaseLost,
        NoEndpoints,
        QueueError,
        QueueFull,
        QueueUnavailable,
        RequestDead,
        RequestExpired,
        TrimtabError,
        UnknownRequest,
        WaitTimedOut,
    )
    from trimtab.queue import AsyncRequestQueue, RequestQueue

__all__ = [
    "AsyncBalancer",
    "AsyncRequestQueue",
    "Balancer",
    "LeaseLost",
    "NoEndpoints",
    "QueueError",
    "QueueFull",
    "QueueUnavailable",
    "RequestDead",
    "RequestExpired",
    "RequestQueue",
    "TrimtabError",
    "UnknownRequest",
    "WaitTimedOut",
    "__version__",
]

_HOMES = {
    "AsyncBalancer": "trimtab.balancer",
    "AsyncRequestQueue": "trimtab.queue",
    "Balancer": "trimtab.balancer",
    "RequestQueue": "trimtab.queue",
    "LeaseLost": "trimtab.errors",
    "NoEndpoints": "trimtab.errors",
    "QueueError": "trimtab.errors",
    "QueueFull": "trimtab.errors",
    "QueueUnavailable": "trimtab.errors",
    "RequestDead": "trimtab.errors",
    "RequestExpired": "trimtab.errors",
    "TrimtabError": "trimtab.errors",
    "UnknownRequest": "trimtab.errors",
    "WaitTimedOut": "trimtab.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name's home when it is first used, so that `import trimtab` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
