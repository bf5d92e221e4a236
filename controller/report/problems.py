"""One clear line when something breaks, one when it is well again, and silence in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from controller.model.snapshot import PARTIAL

REMIND_AFTER_SECONDS = 600.0


@dataclass(slots=True)
class _Open:
    message: str
    since: float
    said_at: float


Name = tuple[str, str]
"""The system, and the policy if the trouble is that policy's alone, else an empty text."""


def name_of(line: str) -> Name:
    """Whose trouble a line tells of: `Redis: ...` is everybody's, `Redis: policy a/b: ...` is that policy's."""
    system, _, rest = line.partition(":")
    rest = rest.strip()
    return system, rest.partition(":")[0].removeprefix("policy ") if rest.startswith("policy ") else ""


def systems_down(problems: Iterable[str]) -> set[str]:
    """The systems that failed as a whole.

    A policy that asks for what is not there says nothing of them, nor does an answer that lacks something: a warning that
    Prometheus gives with every answer must not keep a replica from ever being ready.
    """
    return {name_of(line)[0] for line in problems if not name_of(line)[1] and f": {PARTIAL}: " not in line}


@dataclass(slots=True)
class ProblemLog:
    """Remembers which systems are in trouble, and which policies with them."""

    log: FilteringBoundLogger
    _open: dict[Name, _Open] = field(default_factory=dict)

    def report(self, problems: Iterable[str], at: float) -> None:
        """Log what is new, what changed its words after a while, and what is over. `at`: seconds since the epoch."""
        now: dict[Name, str] = {}
        for line in problems:
            now.setdefault(name_of(line), line)
        for name, line in now.items():
            known = self._open.get(name)
            if known is None:
                self._open[name] = _Open(line, at, at)
                self.log.warning("problem", **_fields(name), message=line)
            elif at - known.said_at >= REMIND_AFTER_SECONDS:
                known.message, known.said_at = line, at
                self.log.warning("problem", **_fields(name), message=line, for_seconds=round(at - known.since))
        # While a system is down nobody can say that a policy's own trouble with it is over.
        for name in [name for name in self._open if name not in now and (name[0], "") not in now]:
            ended = self._open.pop(name)
            self.log.info("recovered", **_fields(name), after_seconds=round(at - ended.since, 1))

    def open_systems(self) -> tuple[str, ...]:
        """The systems in trouble now, sorted."""
        return tuple(sorted({system for system, _ in self._open}))


def _fields(name: Name) -> dict[str, str]:
    system, policy = name
    return {"system": system, "policy": policy} if policy else {"system": system}
