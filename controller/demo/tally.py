"""What came of the demo so far: the requests of both sides and the controller's decisions, read from their files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """Response times in seconds, of so many requests; None without any."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of sorted values: the smallest that at least that share does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def spread(seconds: Iterable[float]) -> Spread:
    """Count and percentiles."""
    ordered = sorted(seconds)
    return Spread(len(ordered), *(percentile(ordered, share) for share in (0.50, 0.95, 0.99)))


@dataclass(frozen=True, slots=True)
class Change:
    """One number that the controller changed, when (seconds since the epoch, 0 when its record has no time), and why."""

    at: float
    field: str
    before: float | str | None
    after: float | str | None
    reason: str

    @property
    def is_weight(self) -> bool:
        """Of one endpoint."""
        return self.field.startswith("weight")

    @property
    def moves_limit(self) -> bool:
        """From one number to another; the first one is no change."""
        return self.field == "limit" and self._moved()

    @property
    def moves_bounds(self) -> bool:
        """Likewise of the HPA's bounds."""
        return self.field in {"minReplicas", "maxReplicas"} and self._moved()

    def _moved(self) -> bool:
        return self.before is not None and self.after is not None and self.before != self.after


@dataclass
class Tally:
    """Everything read so far.

    Attributes:
        requests: rows as `controller.lab.load` writes them, of both sides.
        began_at: when the load began, seconds since the epoch; None before.
        load_cpu: cores that the load generator used; None until it ended.
        changes: every number that the controller changed, in order.
    """

    requests: list[dict[str, Any]] = field(default_factory=list)
    began_at: float | None = None
    load_cpu: float | None = None
    changes: list[Change] = field(default_factory=list)

    def take_row(self, row: dict[str, Any]) -> None:
        """One line of the load generator."""
        match row["kind"]:
            case "start":
                self.began_at = row["at"]
            case "end":
                self.load_cpu = row["cpu"]
            case _:
                self.requests.append(row)

    def since_start(self, at: float) -> float | None:
        """Seconds from the load's begin to that time; None when either is not known."""
        return round(at - self.began_at, 1) if at and self.began_at is not None else None

    def take_record(self, record: dict[str, Any]) -> None:
        """One line of the controller's log; those that decide nothing are passed over."""
        if record.get("event") != "decision":
            return
        at = _epoch(record.get("ts") or record.get("timestamp") or record.get("at"))
        for change in record.get("changes", ()):
            self.changes.append(
                Change(at, change["field"], change["before"], change["after"], str(change.get("reason", "")))
            )

    def spread(self, side: str, phases: Iterable[str], since: float = -math.inf) -> Spread:
        """Response times of one side in these phases, of requests due after `since` (seconds after the start)."""
        wanted = set(phases)
        rows = (r for r in self.requests if r["side"] == side and r["phase"] in wanted and r["due"] >= since)
        return spread(row["seconds"] for row in rows)

    def failed(self, side: str, phases: Iterable[str]) -> int:
        """Requests that were answered with an error or not at all in time."""
        wanted = set(phases)
        rows = (r for r in self.requests if r["side"] == side and r["phase"] in wanted)
        return sum(row["status"] != 200 and not row.get("unfinished") for row in rows)

    def unfinished(self, side: str) -> int:
        """Requests that still waited at the end; they count with the time they had waited by then."""
        return sum(row["side"] == side and bool(row.get("unfinished")) for row in self.requests)

    def late(self) -> Spread:
        """How late the load generator sent its requests."""
        return spread(row["late"] for row in self.requests)

    def at(self, endpoint: str, since: float) -> tuple[int, float | None]:
        """Requests answered by that endpoint that were due after `since`, and their mean response time."""
        seconds = [
            row["seconds"]
            for row in self.requests[-3000:]
            if row["endpoint"] == endpoint and row["due"] >= since and row["status"]
        ]
        return len(seconds), sum(seconds) / len(seconds) if seconds else None


class Tail:
    """The lines of a growing file of JSON, each read once. A line that is not whole yet waits; one that is no JSON is passed over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> list[dict[str, Any]]:
        """The objects of the lines that were added since the last time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                added = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        objects = []
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                objects.append(value)
        return objects


def _epoch(stamp: Any) -> float:
    if isinstance(stamp, int | float):
        return float(stamp)
    try:
        return datetime.fromisoformat(str(stamp)).timestamp()
    except ValueError:
        return 0.0
