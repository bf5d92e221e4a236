"""`make bench-fleet`: round robin, a least-in-flight client, and Trimtab, on real HTTP servers of which one becomes 4 x slower.

Trimtab is the daemon with real Prometheus and Redis, and `trimtab.AsyncBalancer`; there is no limit and no scaling. BENCH_SEEDS
says how many runs of each fleet are pooled (3).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.fleet.lab import AFTER, BEFORE, SIDES, Story, play
from bench.report import Cell, Report
from controller.demo import script
from controller.demo.tally import spread
from controller.lab.fleet import Make
from controller.lab.load import LEAST_IN_FLIGHT, ROUND_ROBIN, TRIMTAB

SEEDS = range(1, 1 + int(os.environ.get("BENCH_SEEDS", "3")))
LOAD = 0.6
"""Share of what a fleet can do."""
TARGETS = {ROUND_ROBIN: 0.6, LEAST_IN_FLIGHT: 0.9}


def capacity(makes: Sequence[Make]) -> float:
    """Requests/s."""
    return sum(make.capacity() for make in makes)


def unequal() -> Story:
    """The demo's fleet, at 60 % of what it can do once the fastest is slowed: until then, round robin copes, too."""
    makes = script.MAKES[: script.REPLICAS]
    lost = makes[0].capacity() * (1.0 - 1.0 / script.SLOWDOWN)
    return Story(makes, LOAD * (capacity(makes) - lost))


def alike() -> Story:
    """Five equal servers, at 60 % of what all five can do."""
    makes = (Make(script.SLOTS, 2 * script.SERVICE_SECONDS),) * 5
    return Story(makes, LOAD * capacity(makes))


FLEETS = {"the demo's": unequal, "all alike": alike}


def measure(report: Report, name: str, runs: Sequence[list[dict[str, Any]]]) -> None:
    """Rows and checks of one fleet."""
    for phases in ((BEFORE,), (AFTER,), (BEFORE, AFTER)):
        when = " + ".join(phases)
        p99 = {}
        for side in SIDES:
            each = [[row for row in rows if row.get("side") == side and row["phase"] in phases] for rows in runs]
            cells = _cells(each)
            report.row(fleet=name, when=when, side=side, **cells)
            p99[side] = float(cells["p99_s"] or "inf")
        if AFTER in phases:
            for rival, target in TARGETS.items():
                ratio = round(p99[TRIMTAB] / p99[rival], 3)
                report.check(f"{name}, {when}: p99 / {rival}'s", ratio, f"<= {target}", ratio <= target)


def _cells(each: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Cell]:
    """What the requests of all runs together say. Those without an answer at the end count with their wait so far."""
    pooled = [row for rows in each for row in rows]
    all_of = spread(row["seconds"] for row in pooled)
    return {
        "requests": all_of.count,
        "failed": sum(row["status"] != 200 and not row.get("unfinished") for row in pooled),
        "unanswered": sum(bool(row.get("unfinished")) for row in pooled),
        "p50_s": _rounded(all_of.p50),
        "p95_s": _rounded(all_of.p95),
        "p99_s": _rounded(all_of.p99),
        "p99_by_seed": " ".join(str(_rounded(spread(row["seconds"] for row in rows).p99)) for rows in each),
        "late_p99_ms": round(1000.0 * (spread(row["late"] for row in pooled).p99 or 0.0), 1),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def main(names: Iterable[str] = tuple(FLEETS)) -> int:
    """Play all of it, one run at a time: two cores are not enough for more."""
    report = Report("fleet")
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as folder:
        for number, name in enumerate(names):
            runs = [play(FLEETS[name](), seed, Path(folder) / f"{number}-{seed}") for seed in SEEDS]
            measure(report, name, runs)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
