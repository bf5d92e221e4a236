"""What the adapters agree on: where a request goes, what its answer says of the endpoint, what may be sent twice. Pure."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from trimtab.errors import TrimtabError

IDEMPOTENT = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})
"""Methods that RFC 9110 calls idempotent: they may be sent again when it is not known whether they arrived."""


def verdict(status: int) -> bool | None:
    """What an HTTP status says of the endpoint: True served, False failed, None neither.

    429 is a failure, or an endpoint that refuses at once would look fast. The other 4xx are the caller's doing: they must neither
    punish the endpoint nor make it look fast.
    """
    if status >= 500 or status == 429:
        return False
    return None if status >= 400 else True


def base_of(endpoint: str) -> SplitResult:
    """The parts of a published endpoint. `10.0.0.7:8000` is taken for http. Raises `TrimtabError` when it is no address."""
    parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TrimtabError(f"endpoint {endpoint!r} is not an http address; see `instances.endpoint` in the policy")
    return parts


def join_path(base: str, path: str) -> str:
    """`/v1` + `/chat` -> `/v1/chat`; an endpoint may have a path of its own."""
    return base.rstrip("/") + path
