"""Every error that the client library raises on purpose.

* TrimtabError
  + NoEndpoints             there is nowhere to send a request: none was ever known, or all are excluded
"""

from __future__ import annotations

from collections.abc import Collection


class TrimtabError(Exception):
    """The root of the tree above."""


class NoEndpoints(TrimtabError):
    """There is nowhere to send a request.

    Args:
        message: one line, what is missing and what to do.
        excluded: the endpoints that the caller excluded, when that is why none is left.
    """

    def __init__(self, message: str = "", *, excluded: Collection[str] = ()) -> None:
        if not message:
            message = (
                f"every endpoint is excluded ({', '.join(sorted(excluded))})"
                if excluded
                else "no endpoint is known: no ranking has been read yet and no fallback endpoints were given"
            )
        super().__init__(message)
        self.excluded = frozenset(excluded)
