"""Trimtab's client library: what a model-serving application imports. Depends on redis only."""

from trimtab._version import __version__

__all__ = ["__version__"]
