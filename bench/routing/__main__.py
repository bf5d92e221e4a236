"""`make bench-routing`: the tables and the picture in docs/, and one check per promise.

BENCH_SEEDS (5) seeds a cell, BENCH_ONLY a part of a setting's name. Figures are medians over the seeds.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from statistics import median

from bench.report import Report, text
from bench.routing.peers import (
    A58,
    Chooser,
    InverseLatency,
    LeastRequest,
    MinMean,
    PeakEwma,
    Prequal,
    RoundRobin,
    ShortestDelay,
    ShortestQueue,
)
from bench.routing.picture import picture
from bench.routing.product import FourHeartbeats, Trimtab, WithoutHeartbeat
from bench.routing.run import Result, Setting, run
from bench.routing.scale import routing_seconds
from bench.routing.scenarios import EQUAL_FLEET, LOADS, MANY_CLIENTS, OLD_DATA, OTHERS, SINKHOLE_AT, UNEQUAL_FLEET

SEEDS = range(1, 1 + int(os.environ.get("BENCH_SEEDS", "5")))
OTHER_SEEDS = min(3, len(SEEDS))
"""Of the mishaps, which are many."""
ONLY = os.environ.get("BENCH_ONLY", "")
DOCS = Path(__file__).parents[2] / "docs"
WITHOUT_PROBES: tuple[type[Chooser], ...] = (RoundRobin, MinMean, InverseLatency, A58, LeastRequest, PeakEwma)
EVERYBODY: tuple[type[Chooser], ...] = (
    *(Trimtab, FourHeartbeats, WithoutHeartbeat, *WITHOUT_PROBES),
    *(Prequal, ShortestQueue, ShortestDelay),
)
ORACLES = (ShortestQueue.name, ShortestDelay.name)
FLOOR_SHARE = 0.1
MOST_SECONDS = 0.5


def play(
    settings: dict[str, Setting], seeds: int = len(SEEDS), without: tuple[type[Chooser], ...] = ()
) -> dict[str, dict[str, list[Result]]]:
    """Results by setting, chooser and seed."""
    found: dict[str, dict[str, list[Result]]] = {}
    for name, setting in settings.items():
        if ONLY not in name:
            continue
        began = time.monotonic()
        found[name] = {c.name: [run(setting, c, seed) for seed in SEEDS[:seeds]] for c in EVERYBODY if c not in without}
        shown = ", ".join(f"{chooser} {p99(by):.2f}" for chooser, by in found[name].items())
        print(f"{name} ({time.monotonic() - began:.0f} s): {shown}", file=sys.stderr, flush=True)
    return found


def p99(results: list[Result]) -> float:
    return median(r.p99 for r in results)


def against(report: Report, results: dict[str, dict[str, list[Result]]], peer: str, most: float) -> None:
    for name, by in results.items():
        theirs = min(p99(by[oracle]) for oracle in ORACLES) if peer == "the oracle" else p99(by[peer])
        ratio = p99(by[Trimtab.name]) / theirs
        report.check(f"{name}: p99 / {peer}", round(ratio, 3), f"<= {most:g}", ratio <= most)


def nobody_better(report: Report, results: dict[str, dict[str, list[Result]]]) -> None:
    for name, by in results.items():
        best = min((p99(by[c.name]), c.name) for c in WITHOUT_PROBES if c.name in by)
        ratio = p99(by[Trimtab.name]) / best[0]
        report.check(f"{name}: p99 / best without probes ({best[1]})", round(ratio, 3), "<= 1.05", ratio <= 1.05)


def sinkhole(report: Report, results: dict[str, dict[str, list[Result]]]) -> None:
    if "fails fast" not in results:
        return
    # Two scrapes of 5 s later, and what is sent in the 5 s after that.
    slot = int((SINKHOLE_AT + 2 * OTHERS["fails fast"].scrape) / 5.0)
    shares = [r.shares[slot][5] / sum(r.shares[slot]) for r in results["fails fast"][Trimtab.name]]
    most = FLOOR_SHARE / 10 + 0.01
    report.check("fails fast: share two scrapes later", round(median(shares), 4), f"< {most:g}", median(shares) < most)


def markdown(title: str, results: dict[str, dict[str, list[Result]]]) -> list[str]:
    names = [c.name for c in EVERYBODY if all(c.name in by for by in results.values())]
    lines = [f"### {title}", "", "| p99, s | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for setting, by in results.items():
        cells = [p99(by[name]) for name in names]
        best = min(cell for name, cell in zip(names, cells, strict=True) if name not in ORACLES)
        shown = [f"**{text(c)}**" if c == best else text(c) for c in cells]
        lines.append(f"| {setting} | " + " | ".join(shown) + " |")
    return [*lines, ""]


def main() -> int:
    report = Report("routing")
    parts = {
        "Unequal fleet, 20 clients, scrape every 5 s": play(UNEQUAL_FLEET),
        "The same with 200 clients": play(MANY_CLIENTS, without=(FourHeartbeats,)),
        "The same with a scrape every 15 s": play(OLD_DATA),
        "Equal fleet": play(EQUAL_FLEET, without=(FourHeartbeats,)),
        "Other fleets and mishaps, load 0.75 unless said": play(OTHERS, OTHER_SEEDS, (FourHeartbeats,)),
    }
    unequal, many, old, equal, others = parts.values()
    for results in parts.values():
        for name, by in results.items():
            report.row(setting=name, **{chooser: p99(runs) for chooser, runs in by.items()})
    against(report, unequal, Prequal.name, 0.95)
    against(report, unequal, "the oracle", 1.3)
    against(report, many, Prequal.name, 1.1)
    against(report, old, Prequal.name, 1.1)
    against(report, equal, RoundRobin.name, 1.03)
    sinkhole(report, others)
    for results in parts.values():
        nobody_better(report, results)
    seconds = routing_seconds(20_000)
    report.check(
        "CPU seconds to route 20,000 instances", round(seconds, 3), f"<= {MOST_SECONDS:g}", seconds <= MOST_SECONDS
    )
    if not ONLY:
        lines = [line for title, results in parts.items() for line in markdown(title, results)]
        checks = [
            f"| {c['name']} | {text(c['value'])} | {c['target']} | {'yes' if c['ok'] else 'no'} |"
            for c in report.checks
        ]
        head = [
            "# Routing: measured",
            "",
            f"Made by `make bench-routing`; medians of {len(SEEDS)} seeds, of {OTHER_SEEDS} for the last table. See routing.md.",
            "",
        ]
        table = ["### Promises", "", "| promise | measured | target | met |", "|---|---|---|---|", *checks, ""]
        (DOCS / "routing-results.md").write_text(
            "\n".join([*head, "![p99 over load](routing.svg)", "", *table, *lines])
        )
        curves = {c.name: [p99(by[c.name]) for by in unequal.values()] for c in EVERYBODY if c is not ShortestQueue}
        title = "Unequal fleet with antagonists, 20 clients, scrape every 5 s"
        (DOCS / "routing.svg").write_text(picture(title, LOADS, curves))
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
