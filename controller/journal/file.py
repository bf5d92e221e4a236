"""The journal on disk: one JSON object a line, one file a day, the oldest days dropped."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.errors import ConfigError

KEEP_DAYS = 14


class Journal:
    """Appends decision records to `FOLDER/YYYY-MM-DD.jsonl`.

    A full or vanished disk costs records, never a tick: `write` returns the problem instead of raising it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--journal {folder}: {error.strerror}") from error
        self._folder = folder
        self._day = ""

    def write(self, at: float, record: dict[str, Any]) -> str | None:
        """Append one record made at `at` (seconds since the epoch); a line of text when it could not be kept."""
        day = datetime.fromtimestamp(at, UTC).date().isoformat()
        line = json.dumps({"at": at, **record}, ensure_ascii=False, default=str)
        try:
            with (self._folder / f"{day}.jsonl").open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            if day != self._day:
                self._day = day
                self._drop_oldest()
        except OSError as error:
            return f"journal: {self._folder}: {error.strerror}"
        return None

    def _drop_oldest(self) -> None:
        for old in sorted(self._folder.glob("????-??-??.jsonl"))[:-KEEP_DAYS]:
            old.unlink()
