"""Every error that Trimtab raises on purpose, and what the loop does with each.

* TrimtabError
  + ConfigError             wrong flags, settings or policies: one line, exit 2
    - PolicyError           carries every fault of a set of policy files
  + DependencyError         another system did not do as asked: the part that asked holds, the others go on
    - Unreachable           refused, reset, no such host, or the server says it is broken (5xx)
    - TimedOut              no answer within the call's own limit
    - Denied                credentials are missing, wrong or not allowed to do this (401, 403)
    - Rejected              the request itself is wrong (400, 422): the same request will fail again
    - Conflict              somebody else changed or owns the object (409)
    - Throttled             asked to come back later (429); never slept on, the next tick is the retry
    - NotFound              no such object (404)
  + LostLease               this replica may no longer act: nothing more is written until it leads again

Any other exception is a bug in Trimtab: the loop logs it with its traceback, holds, and goes on.
"""

from __future__ import annotations

from dataclasses import dataclass


class TrimtabError(Exception):
    """The root of the tree above."""


class ConfigError(TrimtabError):
    """A setting, flag or policy is wrong."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong in one policy file, where and what."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        """`file:line: field: message`, the form that editors and CI logs make clickable."""
        where = f"{self.file}:{self.line}"
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


class PolicyError(ConfigError):
    """A set of policy files with at least one fault. `faults` holds them all, in order."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class DependencyError(TrimtabError):
    """Another system did not do as asked.

    Args:
        system: which one, as a user would name it: `Prometheus`, `Redis`, `Kubernetes`.
        message: what happened, one line, with no credentials in it.
    """

    kind = "failed"

    def __init__(self, system: str, message: str) -> None:
        super().__init__(f"{system}: {message}")
        self.system = system
        self.message = message


class Unreachable(DependencyError):
    """Refused, reset, no such host, or the server says it is broken (5xx)."""

    kind = "unreachable"


class TimedOut(DependencyError):
    """No answer within the call's own limit."""

    kind = "timed_out"


class Denied(DependencyError):
    """Credentials are missing, wrong, or not allowed to do this (401, 403)."""

    kind = "denied"


class Rejected(DependencyError):
    """The request itself is wrong (400, 422)."""

    kind = "rejected"


class Conflict(DependencyError):
    """Somebody else changed or owns the object (409)."""

    kind = "conflict"


class Throttled(DependencyError):
    """Asked to come back later (429)."""

    kind = "throttled"


class NotFound(DependencyError):
    """No such object (404)."""

    kind = "not_found"


class LostLease(TrimtabError):
    """This replica may no longer act."""
