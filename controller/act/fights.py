"""Another writer who undoes what we write: noticed, named, and left in peace for long.

Most of them show as a field conflict, which is never forced twice. What does not show so is a writer who replaces the object
whole, and our mark with it, so that it looks like an HPA nobody has adopted yet: `kubectl replace` from a cron job, a chart
that deletes and creates anew. So what we last wrote is remembered, and how often it was found undone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from controller.model.hpa import INSTALLATION, MANAGER, annotations_of, holders, spec_of
from controller.model.snapshot import HpaSpec

ENOUGH = 2
"""So often undone within the hour is a fight; once is a person who has changed their mind."""
HOUR_SECONDS = 3600.0
QUIET_SECONDS = 600.0
"""The first quiet time; each further undoing within the hour doubles it, up to an hour."""

_FIELDS = ("minReplicas", "maxReplicas", "metrics")


@dataclass(frozen=True, slots=True)
class _Record:
    """What stood when last looked at, when it was found undone of late, and until when nothing is written, and why."""

    stands: HpaSpec
    undone: tuple[float, ...] = ()
    quiet_until: float = 0.0
    why: str = ""


class Fights:
    """Of all HPAs, by path. In memory only: after a restart a fight is found out again."""

    def __init__(self, installation: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._installation = installation
        self._clock = clock
        self._records: dict[str, _Record] = {}

    def wrote(self, path: str, answer: dict[str, Any]) -> None:
        """Remember what stands after a write of ours."""
        before = self._records.get(path)
        kept = _Record(spec_of(answer)) if before is None else replace(before, stands=spec_of(answer))
        self._records[path] = kept

    def quiet(self, path: str, live: dict[str, Any] | None) -> str | None:
        """Why nothing should be written now, in words; None when there is no fight."""
        record = self._records.get(path)
        if record is None or live is None:
            return None
        now, stands = self._clock(), spec_of(live)
        if stands != record.stands:
            who = self._who(live, record.stands, stands)
            if who is None:
                self._records[path] = record = replace(record, stands=stands)
            else:
                self._records[path] = record = _undone(record, stands, who, now)
        return record.why if now < record.quiet_until else None

    def _who(self, live: dict[str, Any], ours: HpaSpec, stands: HpaSpec) -> str | None:
        """Whose hand it was; None for another replica of our own, which may have led in between."""
        moved = [
            field
            for field, differs in zip(
                _FIELDS,
                (
                    ours.min_replicas != stands.min_replicas,
                    ours.max_replicas != stands.max_replicas,
                    ours.targets != stands.targets,
                ),
                strict=True,
            )
            if differs
        ]
        hands = {name for field in moved for name in holders(live, f".spec.{field}")}
        if hands == {MANAGER} and annotations_of(live).get(INSTALLATION, "") == self._installation:
            return None
        others = sorted(hands - {MANAGER}) or [f"Trimtab in {annotations_of(live).get(INSTALLATION) or '?'}"]
        return f"{', '.join(others)} changed {', '.join(moved) or 'the target'}"


def _undone(record: _Record, stands: HpaSpec, who: str, now: float) -> _Record:
    # Time in which nothing was written does not count: nothing could be undone in it.
    horizon = HOUR_SECONDS + max(0.0, record.quiet_until - max(record.undone, default=record.quiet_until))
    undone = (*(at for at in record.undone if at > now - horizon), now)
    if len(undone) < ENOUGH:
        return replace(record, stands=stands, undone=undone)
    quiet = min(QUIET_SECONDS * 2 ** (len(undone) - ENOUGH), HOUR_SECONDS)
    why = (
        f"{who} back {len(undone)} times within an hour; nothing is written for {quiet / 60:.0f} min. Take these fields out of "
        "what it applies, or set mode: observe"
    )
    return _Record(stands, undone, now + quiet, why)
