"""The ranking document, parsed: what the controller publishes for clients. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite
from typing import Any

from trimtab.contract import DOCUMENT_VERSION
from trimtab.errors import BadDocument


@dataclass(frozen=True, slots=True)
class RankedEndpoint:
    """One row: how to reach it, its share of requests (0 to 1; 0 means not now), its state, and its place (1 is best)."""

    endpoint: str
    weight: float
    rank: int = 0
    instance: str = ""
    state: str = "serving"


@dataclass(frozen=True, slots=True)
class Ranking:
    """One published ranking, endpoints in order of rank. `published_at` is Unix time in seconds."""

    policy: str
    seq: int
    epoch: int
    published_at: float
    valid_for: float
    endpoints: tuple[RankedEndpoint, ...]


def parse_ranking(text: str | bytes) -> Ranking:
    """The document in the key `Keys.ranking`. Unknown fields are ignored. Raises `BadDocument`, one line."""
    try:
        raw = json.loads(text)
        if not isinstance(raw, dict) or raw.get("v") != DOCUMENT_VERSION:
            version = raw.get("v") if isinstance(raw, dict) else None
            raise BadDocument(f"ranking: version {version!r} is not {DOCUMENT_VERSION}")
        rows = [_row(row) for row in raw["endpoints"]]
        if len({row.endpoint for row in rows}) != len(rows):
            raise BadDocument("ranking: an endpoint is listed twice")
        return Ranking(
            policy=str(raw["policy"]),
            seq=int(raw["seq"]),
            epoch=int(raw.get("epoch", 0)),
            published_at=_number(raw["published_at"]),
            valid_for=_number(raw["valid_for"]),
            endpoints=tuple(sorted(rows, key=lambda row: row.rank)),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadDocument(f"ranking: malformed: {type(error).__name__} {error}") from error


def _row(raw: Any) -> RankedEndpoint:
    endpoint, weight = raw["endpoint"], _number(raw["weight"])
    if not isinstance(endpoint, str) or not endpoint:
        raise BadDocument(f"ranking: endpoint is {endpoint!r}")
    return RankedEndpoint(
        endpoint, weight, int(raw.get("rank", 0)), str(raw.get("instance", "")), str(raw.get("state", "serving"))
    )


def _number(value: Any) -> float:
    number = float(value)
    if not isfinite(number) or number < 0.0:
        raise BadDocument(f"ranking: {value!r} is not a finite number, 0 or more")
    return number
