"""What the demo shows while it runs: a live table on a terminal, else a plain line every few seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from controller.demo.stage import Stage
from controller.demo.summary import change_line, seconds
from controller.demo.tally import Change, Spread, Tally
from controller.lab.load import ROUND_ROBIN, TRIMTAB, Phase

WINDOW_SECONDS = 5.0
PLAIN_EVERY_SECONDS = 4.0
LAST_CHANGES = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One server of Trimtab's side, and its twin behind round robin. Rates in requests/s over the last seconds."""

    name: str
    speed: float
    slowed: bool
    weight: float | None
    state: str
    rate: float
    latency: float | None
    twin_rate: float
    twin_latency: float | None


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that is shown at one moment."""

    phase: Phase
    elapsed: float
    total: float
    rows: tuple[Row, ...]
    limit: int | None
    waiting: int
    hpa: dict[str, Any] | None
    spreads: dict[str, Spread]
    changes: tuple[Change, ...]


def observe(stage: Stage, tally: Tally, *, phase: Phase, elapsed: float, total: float, slowed: str) -> Moment:
    """Ask all parts for what they hold now."""
    ranking = stage.ranking() or {}
    by_instance = {row["instance"]: row for row in ranking.get("endpoints", ())}
    since = elapsed - WINDOW_SECONDS
    twins = {server.name: server for server in stage.twins.servers()}
    rows = []
    for server in stage.fleet.servers():
        published = by_instance.get(server.name, {})
        twin = twins.get(server.name)
        count, latency = tally.at(server.endpoint, since)
        twin_count, twin_latency = tally.at(twin.endpoint, since) if twin is not None else (0, None)
        rows.append(
            Row(
                name=server.name,
                speed=server.make.speed,
                slowed=server.name == slowed,
                weight=published.get("weight"),
                state=published.get("state", "unknown"),
                rate=count / WINDOW_SECONDS,
                latency=latency,
                twin_rate=twin_count / WINDOW_SECONDS,
                twin_latency=twin_latency,
            )
        )
    return Moment(
        phase=phase,
        elapsed=elapsed,
        total=total,
        rows=tuple(rows),
        limit=stage.limit(),
        waiting=stage.waiting(),
        hpa=stage.hpa(),
        spreads={side: tally.spread(side, [phase.name]) for side in (ROUND_ROBIN, TRIMTAB)},
        changes=tuple(change for change in tally.changes if not change.is_weight)[-LAST_CHANGES:],
    )


class View:
    """Where moments go. A context manager: a live table is on the screen while it is entered."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._next_plain = 0.0

    @contextlib.contextmanager
    def playing(self) -> Iterator[None]:
        """The time in which moments are shown."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, moment: Moment) -> None:
        """The table anew, or now and then a line."""
        if self._live is not None:
            self._live.update(_screen(moment), refresh=True)
        elif moment.elapsed >= self._next_plain:
            self._next_plain = moment.elapsed + PLAIN_EVERY_SECONDS
            self.say(plain(moment))


def plain(moment: Moment) -> str:
    """A moment in one line."""
    weights = " ".join("-" if row.weight is None else f"{row.weight:.2f}" for row in moment.rows)
    in_turn, trimtab = moment.spreads[ROUND_ROBIN], moment.spreads[TRIMTAB]
    return (
        f"{moment.elapsed:3.0f}s {moment.phase.name:<11} weights {weights}  {_knobs(moment)}  "
        f"p99 {ROUND_ROBIN} {seconds(in_turn.p99)}, {TRIMTAB} {seconds(trimtab.p99)}"
    )


def _knobs(moment: Moment) -> str:
    limit = "none" if moment.limit is None else str(moment.limit)
    hpa = "none"
    if moment.hpa is not None:
        spec, status = moment.hpa["spec"], moment.hpa.get("status", {})
        bounds = f"{spec.get('minReplicas', 1)}-{spec['maxReplicas']}"
        hpa = f"{bounds}, {status.get('currentReplicas', 0)} running"
    return f"limit {limit} ({moment.waiting} wait)  HPA {hpa}"


def _screen(moment: Moment) -> Group:
    title = f"{moment.elapsed:.0f} of {moment.total:.0f} s: {moment.phase.name}, {moment.phase.rate:.0f} requests/s to each side"
    servers = Table(title=title, title_justify="left", expand=False)
    servers.add_column("model server")
    for name in ("speed", "weight", "trimtab /s", "mean", "round robin /s", "mean"):
        servers.add_column(name, justify="right")
    servers.add_column("state")
    for row in moment.rows:
        servers.add_row(
            row.name,
            f"{row.speed:g}" + (" ÷ 4" if row.slowed else ""),
            "-" if row.weight is None else f"{row.weight:.3f}",
            f"{row.rate:.1f}",
            seconds(row.latency),
            f"{row.twin_rate:.1f}",
            seconds(row.twin_latency),
            row.state,
            style="yellow" if row.slowed else "",
        )
    sides = Table(expand=False)
    sides.add_column("in this phase")
    for name in ("requests", "p50", "p95", "p99"):
        sides.add_column(name, justify="right")
    for side, spread in moment.spreads.items():
        sides.add_row(side, str(spread.count), seconds(spread.p50), seconds(spread.p95), seconds(spread.p99))
    changes = [Text(change_line(change), style="cyan", overflow="ellipsis", no_wrap=True) for change in moment.changes]
    return Group(servers, Text(_knobs(moment)), sides, *changes)
