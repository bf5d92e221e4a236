"""One clear line when something breaks, one when it is well again, and silence in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

REMIND_AFTER_SECONDS = 600.0


@dataclass(slots=True)
class _Open:
    message: str
    since: float
    said_at: float


@dataclass(slots=True)
class ProblemLog:
    """Remembers which systems are in trouble. A problem's name is the text before its first colon."""

    log: FilteringBoundLogger
    _open: dict[str, _Open] = field(default_factory=dict)

    def report(self, problems: Iterable[str], at: float) -> None:
        """Log what is new, what changed its words after a while, and what is over. `at`: seconds since the epoch."""
        now = {line.partition(":")[0]: line for line in problems}
        for name, line in now.items():
            known = self._open.get(name)
            if known is None:
                self._open[name] = _Open(line, at, at)
                self.log.warning("problem", system=name, message=line)
            elif at - known.said_at >= REMIND_AFTER_SECONDS:
                known.message, known.said_at = line, at
                self.log.warning("problem", system=name, message=line, for_seconds=round(at - known.since))
        for name in [name for name in self._open if name not in now]:
            ended = self._open.pop(name)
            self.log.info("recovered", system=name, after_seconds=round(at - ended.since, 1))

    def open_systems(self) -> tuple[str, ...]:
        """The systems in trouble now, sorted."""
        return tuple(sorted(self._open))
