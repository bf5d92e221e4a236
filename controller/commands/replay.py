"""`trimtab replay`: what the policy as it is now would have decided on what the journal has seen."""

from __future__ import annotations

import json
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.commands.explain import key_of
from controller.commands.instant import instant
from controller.commands.table import table
from controller.errors import ConfigError, TrimtabError
from controller.journal.read import after
from controller.policy.store import PolicyStore
from controller.replay.recorded import Replayed, replay, whole
from controller.settings import Settings

MOST_SHOWN = 40


def run(settings: Settings, policy: str, *, since: str | None, as_json: bool, now: datetime | None = None) -> int:
    """Print each record in which another number would be set now, and how many there are. 0.

    Args:
        policy: as for `explain`; its file in the folder is what decides.
        since: from which instant on; None for all that the journal has.
        now: for tests.

    Raises:
        ConfigError: no journal, no such policy, no such time.
        TrimtabError: the journal cannot be read, or holds no whole record since then.
    """
    if not settings.journal:
        raise ConfigError("replay needs a journal: --journal DIR (TRIMTAB_JOURNAL), where the daemon keeps its records")
    folder = Path(settings.journal)
    key = key_of(settings, folder, policy)
    rules = next((p for p in PolicyStore(Path(settings.policies)).load().policies if p.key == key), None)
    if rules is None:
        raise ConfigError(f"{key}: the journal knows it, the folder {settings.policies} has no such policy")
    begun = 0.0 if since is None else instant(since, now or datetime.now().astimezone())
    records = after(folder, key, begun)
    replayed = list(replay(rules, records))
    if not replayed:
        raise TrimtabError(f"journal {folder}: no record of {key} since then holds its whole inputs")
    found = [(step, step.differences()) for step in replayed]
    if as_json:
        sys.stdout.write(json.dumps(_shown(key, records, found), indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(_text(key, records, found) + "\n")
    return 0


Found = list[tuple[Replayed, dict[str, tuple[Any, Any]]]]


def _shown(key: str, records: list[dict[str, Any]], found: Found) -> dict[str, Any]:
    return {
        "policy": key,
        "records": len(records),
        "replayed": len(found),
        "differ": [
            {
                "at": step.record["at"],
                "numbers": {name: {"then": then, "now": now} for name, (then, now) in differences.items()},
                "then": step.record["sentence"],
                "now": step.plan.sentence(),
            }
            for step, differences in found
            if differences
        ],
    }


def _text(key: str, records: list[dict[str, Any]], found: Found) -> str:
    differ = [(step, differences) for step, differences in found if differences]
    rows = [
        (_time(step.record["at"]), name, _value(then), _value(now))
        for step, differences in differ
        for name, (then, now) in sorted(differences.items())
    ]
    span = f"{_time(found[0][0].record['at'])} to {_time(found[-1][0].record['at'])}"
    lines = [f"{key}  {len(found)} of {len(records)} records replayed, {span}"]
    if rows:
        lines.append(table(("AT", "WHAT", "THEN", "NOW"), rows[:MOST_SHOWN], "  "))
    if len(rows) > MOST_SHOWN:
        lines.append(f"  and {len(rows) - MOST_SHOWN} more")
    counts = Counter(name.partition(" ")[0] for _, differences in differ for name in differences)
    summary = ", ".join(f"{name} {count} times" for name, count in sorted(counts.items()))
    lines.append(f"  other numbers in {len(differ)} of them" + (f": {summary}" if summary else ""))
    left = sum(not whole(record) for record in records)
    if left:
        lines.append(f"  {left} records hold no whole inputs and were left out")
    return "\n".join(lines)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _value(value: object) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
