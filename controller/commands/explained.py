"""A decision record as text for people: tables where they fit, a block per instance where they do not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from controller.commands.instant import ago
from controller.commands.table import number, table
from controller.decide.interlock import at_once

Row = Mapping[str, Any]
MOST_SINCE = 12
UNITS = {"latency": " s", "latencyQuantile": " s", "rate": "/s"}
PERCENT = ("errors", "cpu", "memory", "utilisation")


@dataclass(frozen=True, slots=True)
class Style:
    """How wide the page is, and whether headings may be bold."""

    width: int = 160
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """As the stream allows: a terminal's width and, unless NO_COLOR is set, its colours; else wide and plain."""
        if not stream.isatty():
            return cls()
        return cls(shutil.get_terminal_size().columns, not os.environ.get("NO_COLOR"))

    def head(self, words: str) -> str:
        """A heading."""
        return f"\x1b[1m{words}\x1b[0m" if self.colour else words


def text(shown: Mapping[str, Any], style: Style) -> str:
    """The whole answer of `explain`, without a newline at its end."""
    record = shown["record"]
    blocks = [
        _title(shown),
        _titled(style, "SIGNALS", _signals(record, style)),
        _titled(style, "WEIGHTS", _endpoints(record, style)),
        _titled(style, "LIMIT AND BOUNDS", _proposals(record, style)),
        _titled(style, "CHANGED", _changes(record, style)),
        _titled(style, "HELD: WHY NOT", _holds(record, style)),
        _titled(style, "WRITTEN", _written(shown, style)),
        _titled(style, "SINCE THEN", _since(shown)),
    ]
    return "\n\n".join(block for block in blocks if block)


def _title(shown: Mapping[str, Any]) -> str:
    record = shown["record"]
    at = datetime.fromtimestamp(record["at"], UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if shown["source"] == "now":
        how = "recomputed now, without the daemon's memory: waiting times begin anew, nothing was written"
    else:
        how = f"from the journal, {ago(shown['age_seconds'])} ago"
    return f"{record['policy']}  {at}  {how}"


def _titled(style: Style, title: str, body: str) -> str:
    return f"{style.head(title)}\n{body}" if body else ""


def _fitting(header: Sequence[str], rows: Sequence[Sequence[object]], style: Style) -> str:
    """A table; where that is too wide, a block of `NAME value` lines for each row."""
    whole = table(header, rows, indent="  ")
    if max(map(len, whole.splitlines())) <= style.width:
        return whole
    lines = []
    for first, *rest in rows:
        lines.append(f"  {'-' if first is None else first}")
        lines += [
            f"    {h.lower()}: {cell}" for h, cell in zip(header[1:], rest, strict=True) if cell not in (None, "")
        ]
    return "\n".join(lines)


def _signals(record: Row, style: Style) -> str:
    inputs = record.get("inputs")
    if not inputs:
        return "  this record holds no inputs"
    instances = inputs["instances"]
    names = list(dict.fromkeys(signal for seen in instances.values() for signal in seen["signals"]))
    rows = [
        (name, _readiness(seen), *(_sample(signal, seen["signals"].get(signal)) for signal in names))
        for name, seen in instances.items()
    ]
    lines = [f"  metrics: {inputs['metrics_problem']}"] if inputs["metrics_problem"] else []
    lines += [] if inputs["instances_complete"] else ["  not every instance is known"]
    lines += [_fitting(("INSTANCE", "READY", *(n.upper() for n in names)), rows, style)] if rows else ["  no instance"]
    lines += [f"  {line}" for line in _systems(inputs)]
    return "\n".join(lines)


def _readiness(seen: Row) -> str | None:
    if seen.get("terminating"):
        return "ending"
    return {True: "yes", False: "no", None: None}[seen["ready"]]


def _sample(signal: str, sample: Row | None) -> str | None:
    if sample is None:
        return None
    if "value" not in sample:
        return f"{sample['is']}: {sample['reason']}"
    value = sample["value"]
    shown = f"{value:.3g} = {value:.0%}" if signal in PERCENT and value > 1.0 else _amount(signal, value)
    return shown if sample["is"] == "fresh" else f"{shown}, {sample['is']} {ago(sample['age'])}"


def _amount(signal: str, value: float) -> str:
    return f"{value:.1%}" if signal in PERCENT else f"{value:.3g}{UNITS.get(signal, '')}"


def _systems(inputs: Row) -> Iterator[str]:
    for name in ("queue", "hpa", "scale"):
        reading = inputs.get(name)
        if reading is None:
            continue
        if "unknown" in reading:
            yield f"{name}: not known: {reading['unknown']}"
        elif "absent" in reading:
            yield f"{name}: there is none"
        else:
            yield f"{name}: " + ", ".join(
                f"{key} {_flat(value)}" for key, value in reading.items() if value is not None
            )


def _flat(value: object) -> str:
    return " ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)


def _endpoints(record: Row, style: Style) -> str:
    """In the order in which a weight is made: capacity, errors, memory, slow start, backlog, floor, clamp."""
    endpoints = record.get("endpoints") or []
    if not endpoints:
        return ""
    header = (
        "INSTANCE",
        "STATE",
        "CAPACITY",
        "ERRORS",
        "MEMORY",
        "START",
        "SHARE",
        "BACKLOG",
        "FLOOR",
        "CLAMP",
        "WEIGHT",
    )
    rows = [
        (row["instance"], row["state"], *_steps(row), _arrow(row.get("before"), row.get("weight"))) for row in endpoints
    ]
    lines = [_fitting(header, rows, style), *(f"  {row['instance']}: {row['why']}" for row in endpoints)]
    if record.get("left_out"):
        lines.append(f"  and {record['left_out']} more, which moved less")
    if record.get("panic"):
        lines.append("  panic: more than half of the instances fail, all weights are equal")
    gain = next((row["gain"] for row in endpoints if row.get("gain") is not None), None)
    if gain is not None and gain < 1.0:
        lines.append(f"  gain {gain:.2g}: a weight goes that share of the way to its target per tick")
    return "\n".join(lines)


def _steps(row: Row) -> tuple[str | None, ...]:
    low, high = row.get("step_low"), row.get("step_high")
    in_flight, errors = row.get("in_flight"), row.get("errors")
    spread, share = row.get("share_by_backlog"), row.get("share_by_capacity")
    return (
        number(row.get("capacity"), "/s"),
        None if errors is None else f"{errors:.1%}{_factor(row.get('errors_factor'))}",
        _factor(row.get("memory_factor")).strip() or None,
        _factor(row.get("slow_start_factor")).strip() or None,
        number(share),
        None if spread is None else f"{spread:.3g}" + ("" if in_flight is None else f" ({in_flight:.3g} inside)"),
        number(row.get("floor")),
        None if low is None or high is None else f"{low:.3g}..{high:.3g}",
    )


def _factor(value: float | None) -> str:
    return "" if value is None or abs(value - 1.0) < 0.0005 else f" x{value:.3g}"


def _arrow(before: object, after: object) -> str:
    old, new = _value(before), _value(after)
    return new if old == new else f"{old} -> {new}"


def _value(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _proposals(record: Row, style: Style) -> str:
    rows = [
        (
            p["field"],
            _value(p["before"]),
            _value(p["asked"]),
            _value(p["after"]),
            p["held"] or p["reason"] or "nothing asks",
        )
        for p in record.get("proposals") or []
    ]
    if not rows:
        return ""
    sync = _within_one_sync(record)
    shown = _fitting(("WHAT", "STANDS", "ASKED", "SET", "WHY"), rows, style)
    return f"{shown}\n  {sync}" if sync else shown


def _within_one_sync(record: Row) -> str:
    """What the bounds bring about by themselves, before the HPA asks any metric; empty where that is not known."""
    sets = {p["field"]: p["after"] for p in record.get("proposals") or []}
    low, high = sets.get("minReplicas"), sets.get("maxReplicas")
    asked = ((record.get("inputs") or {}).get("scale") or {}).get("spec_replicas")
    if low is None or high is None or asked is None:
        return ""
    more = at_once(low, high, asked) - asked
    does = "start and stop none"
    if more:
        does = f"start {more}" if more > 0 else f"stop {-more}"
    return f"pods: within one sync these bounds alone {does}; {asked} are asked for"


def _changes(record: Row, style: Style) -> str:
    rows = [(c["field"], _arrow(c["before"], c["after"]), c["reason"]) for c in record["changes"]]
    return _fitting(("WHAT", "OLD -> NEW", "WHY"), rows, style) if rows else "  nothing"


def _holds(record: Row, style: Style) -> str:
    rows = [(hold["field"], hold["reason"]) for hold in record["holds"]]
    return _fitting(("WHAT", "WHY"), rows, style) if rows else ""


def _written(shown: Mapping[str, Any], style: Style) -> str:
    record = shown["record"]
    if shown["source"] == "now":
        return ""
    rows = [(o["actuator"], o["result"], o["detail"] or None) for o in record["outcomes"]]
    if rows:
        return _fitting(("WHAT", "RESULT", "DETAIL"), rows, style)
    return "  nothing was to be written" if record["applied"] else "  nothing: dry run, observe mode, or another leads"


def _since(shown: Mapping[str, Any]) -> str:
    if shown["source"] == "now":
        return ""
    moves = shown["since"]
    if not moves:
        return "  nothing has changed"
    lines = [
        f"  {move['field']} {_arrow(move['before'], move['after'])}"
        + (f" in {move['times']} steps" if move["times"] > 1 else "")
        for move in moves[:MOST_SINCE]
    ]
    return "\n".join([*lines, *([f"  and {len(moves) - MOST_SINCE} more"] if len(moves) > MOST_SINCE else [])])
