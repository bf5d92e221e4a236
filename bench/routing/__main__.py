"""`make bench-routing`: the tables and the picture in docs/, and one check per promise.

BENCH_SEEDS (5) seeds a cell, from BENCH_FIRST_SEED (1) on; BENCH_ONLY a part of a setting's name, and then docs/ stays as it is.
BENCH_CLOSE_SEEDS (30) seeds where Trimtab is held against Prequal and the oracles on the unequal fleet: there seeds differ by half, the promise
is a matter of a few percent, and five seeds answer it a tenth too high or too low.
Figures are medians over the seeds. Runs are spread over the machine's cores, all settings with the first seed first. With BENCH_CACHE=FOLDER
what was played is kept there, so that an interrupted bench goes on where it was: a new folder for new code.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Iterable
from hashlib import sha256
from multiprocessing import Pool
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
from bench.routing.product import FourHeartbeats, OneHeartbeat, Trimtab, WithoutHeartbeat
from bench.routing.run import Result, Setting, run
from bench.routing.scale import routing_seconds
from bench.routing.scenarios import EQUAL_FLEET, LOADS, MANY_CLIENTS, OLD_DATA, OTHERS, SINKHOLE_AT, UNEQUAL_FLEET

FIRST = int(os.environ.get("BENCH_FIRST_SEED", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("BENCH_SEEDS", "5")))
CLOSE_SEEDS = range(FIRST, FIRST + max(len(SEEDS), int(os.environ.get("BENCH_CLOSE_SEEDS", "30"))))
ONLY = os.environ.get("BENCH_ONLY", "")
CACHE = os.environ.get("BENCH_CACHE", "")
DOCS = Path(__file__).parents[2] / "docs"
WITHOUT_PROBES: tuple[type[Chooser], ...] = (RoundRobin, MinMean, InverseLatency, A58, LeastRequest, PeakEwma)
EVERYBODY: tuple[type[Chooser], ...] = (
    *(Trimtab, FourHeartbeats, OneHeartbeat, WithoutHeartbeat, *WITHOUT_PROBES),
    *(Prequal, ShortestQueue, ShortestDelay),
)
RARER = (FourHeartbeats, OneHeartbeat)
ORACLES = (ShortestQueue.name, ShortestDelay.name)
CLOSE = (Trimtab, Prequal, ShortestQueue, ShortestDelay)
FLOOR_SHARE = 0.1
MOST_SECONDS = 0.5


Cell = tuple[str, Setting, type[Chooser], int]


def play(
    parts: Iterable[tuple[str, dict[str, Setting], tuple[type[Chooser], ...]]],
) -> dict[str, dict[str, dict[str, list[Result]]]]:
    """Results by part, setting, chooser and seed; of each part without the choosers that it leaves out."""
    found: dict[str, dict[str, dict[str, list[Result]]]] = {}
    cells: list[Cell] = []
    for title, settings, without in parts:
        found[title] = {name: {c.name: [] for c in EVERYBODY if c not in without} for name in settings if ONLY in name}
        cells += [
            (f"{title}\n{name}", settings[name], chooser, seed)
            for name in found[title]
            for chooser in EVERYBODY
            if chooser not in without
            for seed in (CLOSE_SEEDS if settings is UNEQUAL_FLEET and chooser in CLOSE else SEEDS)
        ]
    cells.sort(key=lambda cell: (cell[1] in OTHERS.values(), cell[3]))
    began = time.monotonic()
    with Pool() as pool:
        for done, (where, chooser, result) in enumerate(pool.imap(_play, cells), 1):
            title, name = where.split("\n")
            by = found[title][name]
            by[chooser].append(result)
            if chooser == ShortestDelay.name:
                shown = ", ".join(f"{other} {p99(results):.2f}" for other, results in by.items())
                took = time.monotonic() - began
                print(f"{done}/{len(cells)}, {took:.0f} s: {name}: {shown}", file=sys.stderr, flush=True)
    return found


def _play(cell: Cell) -> tuple[str, str, Result]:
    where, setting, chooser, seed = cell
    kept = Path(CACHE) / sha256(f"{setting} {chooser.name} {seed}".encode()).hexdigest() if CACHE else None
    if kept is not None and kept.exists():
        result: Result = pickle.loads(kept.read_bytes())
        return where, chooser.name, result
    result = run(setting, chooser, seed)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(".new")
        unfinished.write_bytes(pickle.dumps(result))
        unfinished.replace(kept)
    return where, chooser.name, result


def p99(results: list[Result], seeds: range = SEEDS) -> float:
    return median(r.p99 for r in results[: len(seeds)])


def _seeds(seeds: range) -> str:
    return f"seeds {seeds[0]} to {seeds[-1]}"


def against(
    report: Report, results: dict[str, dict[str, list[Result]]], peer: str, most: float, seeds: range = SEEDS
) -> None:
    for name, by in results.items():
        theirs = min(p99(by[other], seeds) for other in (ORACLES if peer == "the oracle" else (peer,)))
        ratio = p99(by[Trimtab.name], seeds) / theirs
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
    parts = play(
        (
            ("Unequal fleet, 20 clients, scrape every 5 s", UNEQUAL_FLEET, ()),
            ("The same with 200 clients", MANY_CLIENTS, RARER),
            ("The same with a scrape every 15 s", OLD_DATA, RARER),
            ("Equal fleet", EQUAL_FLEET, RARER),
            ("Other fleets and mishaps, load 0.75 unless said", OTHERS, RARER),
        )
    )
    unequal, many, old, equal, others = parts.values()
    for results in parts.values():
        for name, by in results.items():
            report.row(setting=name, **{chooser: p99(runs) for chooser, runs in by.items()})
    against(report, unequal, Prequal.name, 0.95, CLOSE_SEEDS)
    against(report, unequal, "the oracle", 1.3, CLOSE_SEEDS)
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
            f"Made by `make bench-routing`; medians of {_seeds(SEEDS)}, of the first six promises {_seeds(CLOSE_SEEDS)}. See routing.md.",
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
