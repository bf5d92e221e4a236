"""The policies in force: read anew each tick, replaced as a whole, kept when the new set is bad."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from controller.errors import Fault, PolicyError
from controller.policy.budget import Budget
from controller.policy.files import content_hash, read_folder
from controller.policy.load import LoadedPolicy, parse_folder
from controller.policy.schema import LoadPolicy


@dataclass(frozen=True, slots=True)
class PolicySet:
    """What is in force after one refresh.

    Args:
        loaded: the policies of the last good set, and where they stand; `budgets`, what they share.
        hash: names and contents of that set; empty before there is one.
        faults: what is wrong with the folder as it is now; empty when the set above is what it holds.
        changed: whether the folder differs from the refresh before, for better or worse: the time to log.
    """

    loaded: tuple[LoadedPolicy, ...] = ()
    budgets: tuple[Budget, ...] = ()
    hash: str = ""
    faults: tuple[Fault, ...] = ()
    changed: bool = False

    @property
    def policies(self) -> tuple[LoadPolicy, ...]:
        """The policies alone."""
        return tuple(item.policy for item in self.loaded)


class PolicyStore:
    """The policies of one folder. `current` is replaced whole, so another thread sees the old set or the new one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = ""
        self.current = PolicySet()

    @property
    def policies(self) -> tuple[LoadPolicy, ...]:
        """The policies of the last good set."""
        return self.current.policies

    def load(self) -> PolicySet:
        """The first load, where a bad set has no last good one to fall back on.

        Raises:
            PolicyError: with every fault of every file.
        """
        result = self.refresh()
        if result.faults:
            raise PolicyError(result.faults)
        return result

    def refresh(self) -> PolicySet:
        """Read the folder, and load its policies if a name or a content changed. Never raises on what it finds there."""
        files = read_folder(self._folder)
        seen = content_hash(files)
        last = self.current
        changed = seen != self._seen
        if not changed:
            self.current = replace(last, changed=False)
            return self.current
        try:
            found = parse_folder(files)
            self.current = PolicySet(found.policies, found.budgets, seen, (), changed=True)
        except PolicyError as error:
            self.current = replace(last, faults=error.faults, changed=True)
        self._seen = seen
        return self.current
