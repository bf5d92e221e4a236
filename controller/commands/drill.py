"""`trimtab drill`: proof, on the user's own policies, that nothing falls because data are missing."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from controller.commands.table import table
from controller.policy.store import PolicyStore
from controller.replay.drill import Verdict, control, drill
from controller.settings import Settings


def run(settings: Settings, *, as_json: bool) -> int:
    """Print one line per fault and policy. 0, or 1 when a number fell for want of data.

    Raises:
        ConfigError: the policies are faulty.
    """
    loaded = PolicyStore(Path(settings.policies)).load()
    policies, budgets = loaded.policies, loaded.budgets
    verdicts = {policy.key: drill(policy, budgets) for policy in policies}
    may_fall = {policy.key: control(policy, budgets) for policy in policies}
    fell = [v for found in verdicts.values() for v in found if v.fell]
    if as_json:
        shown = {
            "policies": [
                {"policy": key, "falls_when_well": may_fall[key], "faults": [asdict(v) for v in found]}
                for key, found in verdicts.items()
            ],
            "fell": len(fell),
        }
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    else:
        for key, found in verdicts.items():
            well = ", ".join(may_fall[key]) or "nothing: the policy leaves no room"
            sys.stdout.write(f"{key}\n  with whole data and no load, what falls: {well}\n")
            rows = [(v.fault, *_shown(v), "FELL: " + ", ".join(v.fell) if v.fell else "held") for v in found]
            sys.stdout.write(table(("FAULT", "MIN", "MAX", "LIMIT", "LEAST WEIGHT", "VERDICT"), rows, "  ") + "\n\n")
        faults = sum(map(len, verdicts.values()))
        sys.stdout.write(f"{faults} faults on {len(policies)} policies: {len(fell)} lowered something\n")
    return 1 if fell else 0


def _shown(verdict: Verdict) -> tuple[str | None, ...]:
    pairs = (verdict.minimum, verdict.maximum, verdict.limit)
    whole = [
        None if pair is None else f"{pair[0]} -> {pair[1]}" if pair[0] != pair[1] else str(pair[0]) for pair in pairs
    ]
    weight = verdict.weight
    return (*whole, None if weight is None else f"{weight[0]:.3g} -> {weight[1]:.3g}")
