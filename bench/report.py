"""One form for every benchmark's outcome: a table to read, a list of checks, and JSON where BENCH_JSON says."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

Cell = str | int | float | None


def machine() -> dict[str, Any]:
    """What the figures were taken on. The load average tells how far to trust them."""
    return {
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def text(value: Cell) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "-" if value is None else str(value)


class Report:
    """Rows and checks of one benchmark.

    `row()` takes any columns; the table shows them in the order in which they first came. `check()` names one promise,
    the value measured, the target in words (`>= 2.0`) and whether it holds. `finish()` prints both, writes
    `{"bench", "machine", "rows", "checks"}` to the file named by BENCH_JSON, and returns the exit code: 1 when a check failed.
    """

    def __init__(self, bench: str) -> None:
        self.bench = bench
        self.machine = machine()
        self.rows: list[dict[str, Cell]] = []
        self.checks: list[dict[str, Any]] = []

    def row(self, **cells: Cell) -> None:
        self.rows.append(cells)

    def check(self, name: str, value: Cell, target: str, ok: bool) -> None:
        self.checks.append({"name": name, "value": value, "target": target, "ok": bool(ok)})

    def table(self) -> str:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [columns, *([text(row.get(name)) for name in columns] for row in self.rows)]
        widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if index == 0 else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def finish(self) -> int:
        print(f"\n{self.bench}: {self.machine['cores']} cores, load {self.machine['load'][0]}\n")
        if self.rows:
            print(self.table())
        for check in self.checks:
            mark = "ok  " if check["ok"] else "MISS"
            print(f"{mark} {check['name']}: {text(check['value'])} (target {check['target']})")
        if target := os.environ.get("BENCH_JSON"):
            document = {"bench": self.bench, "machine": self.machine, "rows": self.rows, "checks": self.checks}
            Path(target).write_text(json.dumps(document, indent=1) + "\n")
        return 0 if all(check["ok"] for check in self.checks) else 1
