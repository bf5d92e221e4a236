"""Request rates over time from the formats in which public traces come."""

from __future__ import annotations

import csv
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

BIN_SECONDS = 60.0
LEAST_MEAN = 50.0
"""Requests/s: a trace of less is scaled up to it, so that a fleet has more than a replica or two."""


@dataclass(frozen=True)
class Trace:
    """Requests/s at instants `at`, linear in between, times `scale`."""

    name: str
    at: list[float]
    rate: list[float]
    scale: float

    @property
    def seconds(self) -> float:
        return self.at[-1]

    def __call__(self, seconds: float) -> float:
        index = min(max(bisect_right(self.at, seconds) - 1, 0), len(self.at) - 2)
        share = (seconds - self.at[index]) / (self.at[index + 1] - self.at[index])
        share = min(max(share, 0.0), 1.0)
        return self.scale * (self.rate[index] + share * (self.rate[index + 1] - self.rate[index]))


def read(path: Path, days: float) -> Trace:
    """A trace: rows of `t_s,req_per_s`, one `TIMESTAMP` a request, or one rate a second; cut after so many days."""
    with path.open(newline="") as file:
        header = file.readline()
        rows = (
            [r for r in csv.reader(file) if r]
            if "," in header
            else [[line.strip()] for line in [header, *file] if line.strip()]
        )
    if header.startswith("t_s,"):
        at, rate = [float(r[0]) for r in rows], [float(r[1]) for r in rows]
    elif header.startswith("TIMESTAMP"):
        at, rate = _binned([datetime.fromisoformat(r[0][:26]).timestamp() for r in rows])
    else:
        per_second = [float(r[0]) for r in rows]
        at, rate = [float(s) for s in range(len(per_second))], per_second
    kept = [(a - at[0], r) for a, r in zip(at, rate, strict=True) if a - at[0] <= days * 86400.0]
    at, rate = [a for a, _ in kept], [r for _, r in kept]
    mean = sum(rate) / len(rate)
    return Trace(path.name, at, rate, max(1.0, LEAST_MEAN / mean) if mean > 0.0 else 1.0)


def _binned(instants: list[float]) -> tuple[list[float], list[float]]:
    first = min(instants)
    counts = [0] * (int((max(instants) - first) / BIN_SECONDS) + 1)
    for instant in instants:
        counts[int((instant - first) / BIN_SECONDS)] += 1
    counts = counts[:-1]  # the last one is not full
    return [BIN_SECONDS * (n + 0.5) for n in range(len(counts))], [c / BIN_SECONDS for c in counts]
