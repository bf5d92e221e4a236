"""Aligned columns for people."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]], indent: str = "") -> str:
    """Rows under a header, columns two spaces apart; `None` shows as a dash. Ends without a newline."""
    cells = [list(header), *[["-" if cell is None else str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(indent + line for line in lines)


def number(value: float | None, unit: str = "") -> str | None:
    """A number short enough for a column."""
    return None if value is None else f"{value:.3g}{unit}"
