"""The demo's verdict: what was compared, what changed and why, and whether what must hold does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from controller.demo import script
from controller.demo.tally import Change, Spread, Tally
from controller.lab.load import ROUND_ROBIN, TRIMTAB, Phase

LATE_SECONDS = 0.02
"""Above this, the load generator itself is part of what was measured."""
COMPARED = (
    "Both sides got the same requests at the same instants, on two fleets of equal servers, slowed at the same moment; "
    "a server that scaling added to one side was added to the other. Round robin sends at once, to each server in turn. "
    "Trimtab's side asks trimtab.AsyncBalancer for each request (published weights, its own requests in flight and their "
    "response times) and keeps to the published limit in a gate of the demo's own; waiting there counts. A failed "
    "connection is tried once more, elsewhere, on both sides. Times are the client's, from the instant a request was "
    "due; what had no answer at the end counts with its wait so far."
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold."""

    name: str
    ok: bool
    value: str


def checks(tally: Tally) -> list[Check]:
    """What decides the exit status."""
    trimtab, in_turn = (tally.spread(side, script.JUDGED).p99 for side in (TRIMTAB, ROUND_ROBIN))
    limits = [change for change in tally.changes if change.moves_limit]
    bounds = [change for change in tally.changes if change.moves_bounds]
    unexplained = [change for change in tally.changes if not change.reason]
    better = trimtab is not None and in_turn is not None and trimtab < in_turn
    return [
        Check("Trimtab's p99 is below round robin's", better, f"{seconds(trimtab)} against {seconds(in_turn)}"),
        Check("the limit changed at least once", bool(limits), f"{len(limits)} changes"),
        Check("the HPA's bounds changed at least once", bool(bounds), f"{len(bounds)} changes"),
        Check("every change has its reason", not unexplained, f"{len(tally.changes)} changes"),
    ]


def as_json(tally: Tally, phases: Sequence[Phase], kubernetes: str) -> dict[str, Any]:
    """The summary for machines. Times in seconds; `at` counts from the start of the load."""
    sides = (ROUND_ROBIN, TRIMTAB)
    by_phase = [
        {
            "phase": phase.name,
            "seconds": phase.seconds,
            "rate": phase.rate,
            "judged": phase.name in script.JUDGED,
            **{side: asdict(tally.spread(side, [phase.name])) for side in sides},
        }
        for phase in phases
    ]
    overall = {
        side: {
            **asdict(tally.spread(side, script.JUDGED)),
            "failed": tally.failed(side, script.JUDGED),
            "unfinished": tally.unfinished(side),
        }
        for side in sides
    }
    return {
        "compared": COMPARED,
        "kubernetes": kubernetes,
        "phases": by_phase,
        "overall": overall,
        "decisions": [{**asdict(change), "at": tally.since_start(change.at)} for change in tally.changes],
        "load": {"cpu": tally.load_cpu, "late": asdict(tally.late())},
        "checks": [asdict(check) for check in checks(tally)],
        "ok": all(check.ok for check in checks(tally)),
    }


def lines(tally: Tally, phases: Sequence[Phase], kubernetes: str) -> Iterator[str]:
    """The summary for people."""
    yield "Decisions that changed something"
    yield from _decisions(tally)
    yield ""
    yield f"Response times ({ROUND_ROBIN} | {TRIMTAB})"
    yield f"  {'phase':<12} {'requests':>8}   {'p50':>15}   {'p95':>15}   {'p99':>15}"
    for phase in phases:
        note = "" if phase.name in script.JUDGED else "   (not judged)"
        yield f"  {phase.name:<12} {_pairs(tally, [phase.name])}{note}"
    yield f"  {'all judged':<12} {_pairs(tally, script.JUDGED)}"
    for side in (ROUND_ROBIN, TRIMTAB):
        yield f"  {side}: {tally.failed(side, script.JUDGED)} failed, {tally.unfinished(side)} unanswered at the end"
    yield ""
    yield from _wrapped(COMPARED)
    late = tally.late()
    cpu = "unknown" if tally.load_cpu is None else f"{tally.load_cpu:.0%} of a core"
    yield f"Load generator: {cpu}, requests sent late by {seconds(late.p99)} at p99. Kubernetes: {kubernetes}."
    if late.p99 is not None and late.p99 > LATE_SECONDS:
        yield f"CAUTION: that is more than {LATE_SECONDS * 1000:.0f} ms: this machine was too busy to trust the small differences."
    yield ""
    for check in checks(tally):
        yield f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.value}"


def seconds(value: float | None) -> str:
    """A response time in few characters."""
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def change_line(change: Change) -> str:
    """One change in one line."""
    return f"{change.field} {_number(change.before)} -> {_number(change.after)} ({change.reason})"


def _decisions(tally: Tally) -> Iterator[str]:
    for at, group in groupby(tally.changes, key=lambda change: tally.since_start(change.at)):
        together = list(group)
        when = "      " if at is None else f"{at:+5.0f}s"
        for change in together:
            if not change.is_weight:
                yield f"  {when} {change_line(change)}"
        weights = ", ".join(f"{_short(change)} ({change.reason})" for change in together if change.is_weight)
        if weights:
            yield f"  {when} weights {weights}"


def _short(change: Change) -> str:
    """A weight's change without the part of the name that all pods share."""
    pod = change.field.rpartition("-")[2]
    return f"{pod} {_number(change.before)} -> {_number(change.after)}"


def _pairs(tally: Tally, phases: list[str] | tuple[str, ...]) -> str:
    in_turn, trimtab = (tally.spread(side, phases) for side in (ROUND_ROBIN, TRIMTAB))
    columns = [_pair(in_turn, trimtab, name) for name in ("p50", "p95", "p99")]
    return f"{trimtab.count:>8}   " + "   ".join(columns)


def _pair(first: Spread, second: Spread, name: str) -> str:
    return f"{seconds(getattr(first, name)):>7} |{seconds(getattr(second, name)):>7}".rjust(15)


def _number(value: float | str | None) -> str:
    if value is None:
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _wrapped(text: str, width: int = 118) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line
