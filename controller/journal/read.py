"""Finding records again: the last one at or before an instant, and what changed since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from controller.errors import TrimtabError
from controller.journal.file import parts, records

Record = dict[str, Any]


def last_before(folder: Path, policy: str, at: float) -> Record | None:
    """The policy's last record that was made at or before `at` (seconds since the epoch); None when there is none.

    Raises:
        TrimtabError: the journal cannot be read.
    """
    for part in reversed(_parts(folder)):
        found = [r for r in _of(part, policy) if r["at"] <= at]
        if found:
            return max(found, key=lambda r: float(r["at"]))
    return None


def after(folder: Path, policy: str, at: float) -> list[Record]:
    """The policy's records that were made after `at`, oldest first.

    Raises:
        TrimtabError: the journal cannot be read.
    """
    found: list[Record] = []
    for part in reversed(_parts(folder)):
        every = _of(part, policy)
        found = [r for r in every if r["at"] > at] + found
        if any(r["at"] <= at for r in every):
            break
    return found


def first(folder: Path, policy: str) -> Record | None:
    """The policy's oldest record; None when there is none.

    Raises:
        TrimtabError: the journal cannot be read.
    """
    return next((r for part in _parts(folder) for r in _of(part, policy)), None)


def policies(folder: Path) -> set[str]:
    """The policies that the newest part speaks of.

    Raises:
        TrimtabError: the journal cannot be read.
    """
    return {str(r.get("policy")) for part in _parts(folder)[-1:] for r in _read(part)}


def _parts(folder: Path) -> list[Path]:
    try:
        return parts(folder)
    except OSError as error:
        raise TrimtabError(f"journal {folder}: {error.strerror}") from error


def _of(part: Path, policy: str) -> list[Record]:
    return [record for record in _read(part, json.dumps(policy)) if record.get("policy") == policy]


def _read(part: Path, saying: str = "") -> list[Record]:
    try:
        return list(records(part, saying))
    except FileNotFoundError:
        return []  # dropped between listing and reading
    except OSError as error:
        raise TrimtabError(f"journal {part}: {error.strerror}") from error
