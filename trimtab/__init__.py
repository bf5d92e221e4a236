"""Trimtab's client library: what a model-serving application imports. Depends on redis only."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trimtab._version import __version__

if TYPE_CHECKING:
    from trimtab.balancer import AsyncBalancer, Balancer
    from trimtab.errors import NoEndpoints

__all__ = ["AsyncBalancer", "Balancer", "NoEndpoints", "__version__"]

_HOMES = {"AsyncBalancer": "trimtab.balancer", "Balancer": "trimtab.balancer", "NoEndpoints": "trimtab.errors"}


def __getattr__(name: str) -> Any:
    """Import a public name's home when it is first used, so that `import trimtab` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
