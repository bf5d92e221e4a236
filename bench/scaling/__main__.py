"""`make bench-scaling TRACE=path[,path]`: Trimtab's floor from demand against the frontier of plain HPAs.

Each scaler has one curve of replica-hours against the share of requests over SLO: plain HPAs by their CPU target, and
Trimtab by the utilisation it plans for. BENCH_DAYS cuts long traces; BENCH_PICTURES names a folder for one SVG per trace.
"""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from math import exp, log
from pathlib import Path

from bench.report import Report
from bench.scaling.picture import draw
from bench.scaling.scalers import Trimtab, oracle, plain
from bench.scaling.traces import Trace, read
from bench.scaling.world import Outcome, arrivals, run

TARGETS = range(50, 91, 5)
PLANNED = (0.7, 0.75, 0.8)
HPA_TARGET = 85
SEED = 1
LEAST_SHARE = 1e-5


def at_hours(frontier: list[Outcome], hours: float) -> float | None:
    """The frontier's share at so many hours, its logarithm linear in between; None outside it."""
    rows = sorted((o.hours, max(o.share, LEAST_SHARE)) for o in frontier)
    for (h0, s0), (h1, s1) in pairwise(rows):
        if h0 <= hours <= h1:
            part = 0.0 if h1 == h0 else (hours - h0) / (h1 - h0)
            return exp(log(s0) + part * (log(s1) - log(s0)))
    return None


def at_share(frontier: list[Outcome], share: float) -> float | None:
    """The hours that the frontier needs for such a share; None outside it."""
    wanted = max(share, LEAST_SHARE)
    rows = sorted((max(o.share, LEAST_SHARE), o.hours) for o in frontier)
    for (s0, h0), (s1, h1) in pairwise(rows):
        if s0 <= wanted <= s1:
            part = 0.0 if s1 == s0 else (log(wanted) - log(s0)) / (log(s1) - log(s0))
            return h0 + part * (h1 - h0)
    return None


def ratio(value: float, other: float | None) -> float | None:
    return None if not other else value / other


def backtest(report: Report, trace: Trace) -> None:
    steps = arrivals(trace, SEED)
    interval = 15 if trace.seconds <= 86400.0 else 60
    frontier = [run(steps, target, plain()) for target in TARGETS]
    seventy = frontier[list(TARGETS).index(70)]
    rows: list[tuple[str, Outcome]] = [(f"HPA {t}", o) for t, o in zip(TARGETS, frontier, strict=True)]
    rows += [
        (f"Trimtab {planned:.0%}", run(steps, HPA_TARGET, Trimtab(HPA_TARGET, planned, interval)))
        for planned in PLANNED
    ]
    rows.append(("oracle", run(steps, 85, oracle(steps))))
    picture(trace, rows)
    for name, outcome in rows:
        report.row(
            scaler=name, trace=trace.name, scale=round(trace.scale, 2), hours=round(outcome.hours, 1),
            over_slo_percent=round(100.0 * outcome.share, 4), turns=outcome.turns,
            share_of_frontier=ratio(outcome.share, at_hours(frontier, outcome.hours)),
            hours_of_frontier=ratio(outcome.hours, at_share(frontier, outcome.share)),
            turns_of_hpa_70=ratio(outcome.turns, seventy.turns),
        )  # fmt: skip


def picture(trace: Trace, rows: list[tuple[str, Outcome]]) -> None:
    folder = os.environ.get("BENCH_PICTURES")
    if not folder:
        return
    kinds = {"plain HPA, 50-90 %": "HPA", "Trimtab": "Trimtab", "oracle": "oracle"}
    curves = {words: [(o.hours, o.share) for name, o in rows if name.startswith(kind)] for words, kind in kinds.items()}
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{Path(trace.name).stem}.svg").write_text(draw(f"Requests over SLO, {trace.name}", curves))


def main() -> int:
    paths = [Path(p) for p in (os.environ.get("TRACE") or ",".join(sys.argv[1:])).split(",") if p]
    missing = [str(p) for p in paths if not p.is_file()]
    if missing or not paths:
        print(f"no trace: {', '.join(missing) or 'give TRACE=path[,path] or paths as arguments'}", file=sys.stderr)
        return 2
    report = Report("scaling")
    for path in paths:
        backtest(report, read(path, float(os.environ.get("BENCH_DAYS", "14"))))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
