"""The journal on disk: one JSON object a line, files by day in parts of bounded size, the oldest parts dropped."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from controller.errors import ConfigError

KEEP_DAYS = 14
PART_BYTES = 8 * 2**20
"""A file that has grown beyond this is followed by the next part of its day."""
KEEP_BYTES = 96 * 2**20
"""All parts together, but for the one being written."""


class Journal:
    """Appends decision records to `FOLDER/YYYY-MM-DD.jsonl`, then to `YYYY-MM-DD.1.jsonl` and so on.

    A full or vanished disk costs records, never a tick: `write` returns the problem instead of raising it. One line is one
    write; if the process or the disk ends in the middle of it, the next record begins a new line and the torn one is skipped.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--journal {folder}: {error.strerror}") from error
        self._folder = folder
        self._part: Path | None = None
        self._day = ""

    def write(self, at: float, record: dict[str, Any]) -> str | None:
        """Append one record made at `at` (seconds since the epoch); a line of text when it could not be kept."""
        day = datetime.fromtimestamp(at, UTC).date().isoformat()
        line = json.dumps({"at": at, **record}, ensure_ascii=False, default=str).encode() + b"\n"
        try:
            self._append(day, line)
        except OSError as error:
            self._part = None
            return f"journal: {self._folder}: {error.strerror}"
        return None

    def _append(self, day: str, line: bytes) -> None:
        part, day_before = self._part, self._day
        if part is None or day != day_before:
            part = self._open(day)
        elif part.stat().st_size >= PART_BYTES:
            part = self._folder / f"{day}.{_order(part)[1] + 1}.jsonl"
        with part.open("ab", buffering=0) as file:
            written = file.write(line)
            if written != len(line):
                # The disk filled up in the middle: take the torn part back.
                os.ftruncate(file.fileno(), file.tell() - (written or 0))
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if part != self._part:
            self._part, self._day = part, day
            self._drop_oldest()

    def _open(self, day: str) -> Path:
        """Go on with the day's last part, on a line of its own."""
        found = [part for part in parts(self._folder) if part.name.startswith(day)]
        part = found[-1] if found else self._folder / f"{day}.jsonl"
        if found and not _ends_whole(part):
            with part.open("ab") as file:
                file.write(b"\n")
        return part

    def _drop_oldest(self) -> None:
        days, size = set(), 0
        for kept, part in enumerate(reversed(parts(self._folder))):
            days.add(_order(part)[0])
            size += part.stat().st_size
            if kept and (len(days) > KEEP_DAYS or size > KEEP_BYTES):
                part.unlink(missing_ok=True)


def parts(folder: Path) -> list[Path]:
    """The journal's files, oldest first.

    Raises:
        OSError: the folder cannot be read.
    """
    return sorted((path for path in folder.iterdir() if _is_part(path.name)), key=_order)


def records(part: Path, saying: str = "") -> Iterator[dict[str, Any]]:
    """The records of one file in the order in which they were written; torn lines are skipped.

    Args:
        part: the file.
        saying: only of lines with this text in them, which spares parsing the others.

    Raises:
        OSError: the file cannot be read.
    """
    with part.open("rb") as file:
        needle = saying.encode()
        for line in file:
            if needle not in line:
                continue
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and isinstance(record.get("at"), int | float):
                yield record


def _is_part(name: str) -> bool:
    day, _, rest = name.partition(".")
    number, _, end = rest.rpartition(".")
    try:
        date.fromisoformat(day)
    except ValueError:
        return False
    return end == "jsonl" and (not number or number.isdigit())


def _order(part: Path) -> tuple[str, int]:
    day, *number, _ = part.name.split(".")
    return day, int(number[0]) if number else 0


def _ends_whole(part: Path) -> bool:
    with part.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
