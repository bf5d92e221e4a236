"""`trimtab plan`: one tick, nothing written."""

from __future__ import annotations

import json
import sys

from controller.app import build
from controller.commands.table import table
from controller.model.plan import Plan
from controller.report.logs import configure
from controller.settings import Settings


def plan(settings: Settings, *, as_json: bool) -> int:
    """Print what one tick would change, with reasons. 0, or 1 when a system could not be asked."""
    configure("console", "critical", sys.stderr)  # the plan itself is the output
    with build(settings, dry_run=True, election=False) as app:
        report = app.once(app.store.policies)
    if as_json:
        shown = {"at": report.at, "problems": report.snapshot.problems, "plans": [p.as_dict() for p in report.plans]}
        sys.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n".join(_text(p) for p in report.plans))
    for problem in (*report.snapshot.problems, *(f"a bug in Trimtab: {bug!r}" for bug in report.bugs)):
        sys.stderr.write(f"trimtab: {problem}\n")
    return 1 if report.snapshot.problems or report.bugs else 0


def _text(plan: Plan) -> str:
    lines = [plan.policy]
    rows = [
        (change.field, f"{_value(change.before)} -> {_value(change.after)}", change.reason) for change in plan.changes
    ]
    rows += [(hold.field, "held", hold.reason) for hold in plan.holds]
    lines.append(table(("WHAT", "OLD -> NEW", "WHY"), rows, indent="  ") if rows else "  no change")
    return "\n".join(lines) + "\n"


def _value(value: float | str | None) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
