"""`trimtab explain`: why a policy's weights, limit and bounds are what they are, from the journal or recomputed now."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.commands.explained import Style, text
from controller.commands.instant import instant
from controller.errors import ConfigError, TrimtabError
from controller.journal.read import Record, after, first, last_before, policies
from controller.journal.record import decision_record, detail
from controller.policy.store import PolicyStore
from controller.report.logs import configure
from controller.settings import Settings


def explain(settings: Settings, policy: str, *, at: str | None, as_json: bool, now: datetime | None = None) -> int:
    """Print one decision whole: inputs, each step to each number, holds, and what was written. 0.

    Args:
        policy: `namespace/name`, or the name alone where only one policy has it.
        at: the instant to look back to; None for the last record, or for the present without a journal.
        now: for tests.

    Raises:
        ConfigError: no such policy, no such time, or a time without a journal.
        TrimtabError: the journal cannot be read, or holds nothing at that time.
    """
    moment = now or datetime.now().astimezone()
    folder = Path(settings.journal) if settings.journal else None
    if at is not None and folder is None:
        raise ConfigError("--at needs a journal: --journal DIR (TRIMTAB_JOURNAL), where the daemon keeps its records")
    wanted = moment.timestamp() if at is None else instant(at, moment)
    key = key_of(settings, folder, policy)
    record = _recorded(folder, key, wanted, asked=at is not None) if folder is not None else None
    since: list[dict[str, Any]] = []
    if record is not None and folder is not None:
        since = since_then(after(folder, key, record["at"]))
    shown = {
        "source": "now" if record is None else "journal",
        "age_seconds": 0.0 if record is None else round(moment.timestamp() - record["at"], 3),
        "record": _present(settings, key) if record is None else record,
        "since": since,
    }
    if as_json:
        sys.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False, default=str) + "\n")
    else:
        sys.stdout.write(text(shown, Style.of(sys.stdout)) + "\n")
    return 0


def since_then(records: Iterable[Record]) -> list[dict[str, Any]]:
    """What changed in all these records together: each field once, from its first value to its last."""
    moved: dict[str, dict[str, Any]] = {}
    for record in records:
        for change in record.get("changes", ()):
            known = moved.setdefault(
                change["field"], {"field": change["field"], "before": change["before"], "times": 0}
            )
            known |= {"after": change["after"], "at": record["at"], "times": known["times"] + 1}
    return [change for change in moved.values() if change["before"] != change["after"]]


def key_of(settings: Settings, folder: Path | None, policy: str) -> str:
    """The policy's full key, from the folder of policies and what the journal speaks of."""
    known = {p.key for p in PolicyStore(Path(settings.policies)).load().policies}
    if policy not in known and folder is not None:
        known |= policies(folder)
    found = [key for key in sorted(known) if policy in (key, key.partition("/")[2])]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{policy}: which one? {', '.join(found)}")
    raise ConfigError(f"{policy}: no such policy; known are {', '.join(sorted(known)) or 'none'}")


def _recorded(folder: Path, key: str, at: float, *, asked: bool) -> Record | None:
    record = last_before(folder, key, at)
    if record is None and asked:
        oldest = first(folder, key)
        if oldest is None:
            raise TrimtabError(f"journal {folder}: no record of {key}: nothing has changed or been held since it began")
        begun = datetime.fromtimestamp(oldest["at"], UTC).isoformat(timespec="seconds")
        raise TrimtabError(f"journal {folder}: the first record of {key} is of {begun}, after the time asked for")
    return record


def _present(settings: Settings, key: str) -> Record:
    """One observation and one decision, nothing written."""
    # The clients take 60 MB, which beside the daemon in its pod may be too much: only who needs them loads them.
    from controller.app import build  # noqa: PLC0415

    configure("console", "critical", sys.stderr)
    with build(settings, dry_run=True, election=False) as app:
        (policy,) = (p for p in app.store.policies if p.key == key)
        report = app.once([policy])
    (plan,) = report.plans
    for problem in (*report.snapshot.problems, *(f"a bug in Trimtab: {bug!r}" for bug in report.bugs)):
        sys.stderr.write(f"trimtab: {problem}\n")
    record = decision_record(plan, (), applied=False)
    return {"at": report.at, **record, **detail(plan, report.snapshot.services[key])}
