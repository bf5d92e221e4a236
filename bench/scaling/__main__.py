"""`make bench-scaling TRACE=path[,path]`: Trimtab's floors against the frontier of plain HPAs, and beside its peers.

Each scaler has one curve of replica-hours against the share of requests over SLO: plain HPAs by their CPU target, and
Trimtab by the utilisation it plans for. A trace may also be `synthetic:NAME[:SEED]` (season, jobs, noise, hump, steps).
BENCH_DAYS cuts long traces; BENCH_SEED (1) makes other arrivals and work of the same trace; BENCH_PICTURES names a
folder for one SVG per trace; BENCH_KNEE (0.85) and BENCH_CAPACITY (5) are what no scaler is told; BENCH_ONLY=1 runs the
frontier and Trimtab as it comes, nothing else. Trimtab runs twice: with figures of the moment, the last 15 s, and through the
windows that a policy has by default, a minute for rates and two for CPU. Rows "told ..." know what nobody can (told.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from bench.report import Report
from bench.scaling import synthetic
from bench.scaling.frontier import at_hours, at_share, ratio
from bench.scaling.picture import draw
from bench.scaling.scalers import Cron, LatencyLaw, Trimtab, oracle, plain
from bench.scaling.season import has_season, season_ratio
from bench.scaling.told import future, moment
from bench.scaling.traces import Trace, read
from bench.scaling.world import Outcome, Scaler, arrivals, run

TARGETS = range(50, 91, 5)
PLANNED = (0.7, 0.75)
SIGMAS = (3, 4, 5)
TOLD: dict[str, Callable[[Trace, float], Scaler]] = {"told the future": future, "told the moment": moment}
HPA_TARGET = 85
PROCESSES = 2
THROUGH_WINDOWS = "Trimtab, through windows"
SEED = int(os.environ.get("BENCH_SEED", "1"))

Job = tuple[str, int]
"""Who scales, and the CPU target of the HPA under it."""


def jobs() -> list[Job]:
    """Trimtab first: it takes longest."""
    found = [("Trimtab", HPA_TARGET), (THROUGH_WINDOWS, HPA_TARGET)]
    if not os.environ.get("BENCH_ONLY"):
        found += [
            ("Trimtab, no forecast", HPA_TARGET),
            ("Trimtab, killed every hour", HPA_TARGET),
            *((f"Trimtab {planned:.0%}", HPA_TARGET) for planned in PLANNED),
        ]
        found += [("latency law", 85), ("cron floor", 70), ("oracle", 85)]
        found += [(f"{kind}, {sigmas} sigma", HPA_TARGET) for kind in TOLD for sigmas in SIGMAS]
    return found + [(f"HPA {target}", target) for target in TARGETS]


def scaler(name: str, trace: Trace, steps: list[tuple[float, float]]) -> Scaler:
    made: dict[str, Callable[[], Scaler]] = {
        "Trimtab": lambda: Trimtab(HPA_TARGET),
        THROUGH_WINDOWS: lambda: Trimtab(HPA_TARGET, through_windows=True),
        "Trimtab, no forecast": lambda: Trimtab(HPA_TARGET, forecast=False),
        "Trimtab, killed every hour": lambda: Trimtab(HPA_TARGET, lives_seconds=3600.0),
        "latency law": LatencyLaw,
        "cron floor": Cron,
        "oracle": lambda: oracle(steps),
    }
    made |= {f"Trimtab {planned:.0%}": partial(Trimtab, HPA_TARGET, planned) for planned in PLANNED}
    made |= {
        f"{kind}, {sigmas} sigma": partial(told, trace, sigmas) for kind, told in TOLD.items() for sigmas in SIGMAS
    }
    return made.get(name, plain)()


def outcome(trace: Trace, job: Job) -> Outcome:
    steps = arrivals(trace, SEED)
    name, target = job
    return run(steps, target, scaler(name, trace, steps))


def backtest(report: Report, trace: Trace, pool: ProcessPoolExecutor) -> None:
    waiting = [(job, pool.submit(outcome, trace, job)) for job in jobs()]
    found = {name: future.result() for (name, _), future in waiting}
    frontier = [found[f"HPA {target}"] for target in TARGETS]
    rows = sorted(found.items(), key=lambda row: not row[0].startswith("HPA"))
    for name, o in rows:
        report.row(
            scaler=name, trace=trace.name, scale=round(trace.scale, 2), hours=round(o.hours, 1),
            over_slo_percent=round(100.0 * o.share, 4), turns=o.turns,
            share_of_frontier=ratio(o.share, at_hours(frontier, o.hours)),
            hours_of_frontier=ratio(o.hours, at_share(frontier, o.share)),
            turns_of_hpa_70=ratio(o.turns, found["HPA 70"].turns),
        )  # fmt: skip
    for name, words in (("Trimtab", ""), (THROUGH_WINDOWS, ", through windows")):
        check(report, trace, found[name], frontier, found["HPA 70"], words=words)
    picture(trace, rows)


def check(
    report: Report, trace: Trace, ours: Outcome, frontier: list[Outcome], seventy: Outcome, *, words: str
) -> None:
    season = has_season(trace)
    found = season_ratio(trace)
    kind = f"{'daily season' if season else 'no season'}{'' if found is None else f', F {found:.1f}'}"
    share, hours = ratio(ours.share, at_hours(frontier, ours.hours)), ratio(ours.hours, at_share(frontier, ours.share))
    most_share, most_hours = (0.3, 0.75) if season else (0.5, 0.95)
    where = f"{trace.name} ({kind}){words}"
    for name, value, most in (("share", share, most_share), ("hours", hours, most_hours)):
        report.check(f"{where}: {name} of the frontier's", value, f"<= {most}", value is not None and value <= most)
    report.check(
        f"{where}: direction changes of HPA 70's", ratio(ours.turns, seventy.turns), "<= 1.5", ours.turns <= 1.5 * seventy.turns
    )  # fmt: skip


def picture(trace: Trace, rows: list[tuple[str, Outcome]]) -> None:
    folder = os.environ.get("BENCH_PICTURES")
    if not folder:
        return
    kinds = {
        "plain HPA, 50-90 %": "HPA", "Trimtab": "Trimtab", "oracle": "oracle", "llm-d's latency law": "latency law",
        "KEDA's cron floor": "cron", THROUGH_WINDOWS: THROUGH_WINDOWS, **{kind: kind for kind in TOLD},
    }  # fmt: skip
    curves: dict[str, list[tuple[float, float]]] = {words: [] for words in kinds}
    for name, o in rows:
        # The longest that fits: one name begins as another does.
        words = max((w for w, kind in kinds.items() if name.startswith(kind)), key=lambda w: len(kinds[w]))
        curves[words].append((o.hours, o.share))
    Path(folder).mkdir(parents=True, exist_ok=True)
    drawn = draw(f"Requests over SLO, {trace.name}", {words: points for words, points in curves.items() if points})
    (Path(folder) / f"{Path(trace.name).stem}.svg").write_text(drawn)


def load(name: str, days: float) -> Trace | None:
    if name.startswith(synthetic.PREFIX):
        shape = name.removeprefix(synthetic.PREFIX).partition(":")[0]
        return synthetic.make(name, days) if shape in synthetic.SHAPES else None
    return read(Path(name), days) if Path(name).is_file() else None


def main() -> int:
    names = [p for p in (os.environ.get("TRACE") or ",".join(sys.argv[1:])).split(",") if p]
    traces = {name: load(name, float(os.environ.get("BENCH_DAYS", "14"))) for name in names}
    missing = [name for name, trace in traces.items() if trace is None]
    if missing or not names:
        print(f"no trace: {', '.join(missing) or 'give TRACE=path[,path] or paths as arguments'}", file=sys.stderr)
        return 2
    report = Report("scaling")
    with ProcessPoolExecutor(PROCESSES) as pool:
        for trace in traces.values():
            if trace is not None:
                backtest(report, trace, pool)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
