"""Policy files as bytes: which ones there are, and what they hold."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.errors import Fault
from controller.policy.yaml import MAX_BYTES

_SUFFIXES = (".yaml", ".yml")
_NOT_OURS = {"kustomization.yaml", "kustomization.yml"}
"""What kustomize reads to put the files beside it into a ConfigMap."""
_MOUNT = "..data"
"""In a ConfigMap mount, the link to the folder that holds the files of one version; it is swapped as a whole."""


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """One file: its name as the user knows it, and its bytes or why they could not be read."""

    name: str
    data: bytes
    fault: Fault | None = None


def read_folder(folder: Path) -> tuple[PolicyFile, ...]:
    """Every `*.yaml` and `*.yml` straight in the folder, by name. Hidden files, folders and kustomize's own
    file are passed over.

    All files come from one version of a ConfigMap mount. A problem is a file with a fault; nothing is raised.
    """
    for _ in range(3):
        version = _version(folder)
        files = _read_folder(folder, version or folder)
        if _version(folder) == version:
            break
    return files


def read_path(path: Path) -> tuple[PolicyFile, ...]:
    """The files of a folder, or the one file whatever its name."""
    try:
        folder = path.is_dir()
    except OSError:
        folder = False
    return read_folder(path) if folder else (_read(path, str(path)),)


def content_hash(files: Sequence[PolicyFile]) -> str:
    """A hash of names and contents: the same exactly as long as nothing changed."""
    digest = hashlib.sha256()
    for file in files:
        for part in (
            file.name.encode("utf-8", "surrogateescape"),
            file.data,
            str(file.fault or "").encode("utf-8", "replace"),
        ):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def _version(folder: Path) -> Path | None:
    try:
        return (folder / _MOUNT).resolve(strict=True)
    except (OSError, RuntimeError):
        return None


def _read_folder(folder: Path, real: Path) -> tuple[PolicyFile, ...]:
    try:
        names = sorted(entry.name for entry in os.scandir(real) if not _passed_over(entry))
    except OSError as error:
        return (_failed(str(folder), _reason(error)),)
    if not names:
        return (_failed(str(folder), f"no policy files (*.yaml, *.yml) in {folder}"),)
    return tuple(_read(real / name, str(folder / name)) for name in names)


def _passed_over(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or entry.name in _NOT_OURS or not entry.name.endswith(_SUFFIXES):
        return True
    try:
        return entry.is_dir()
    except OSError:
        return False


def _read(path: Path, name: str) -> PolicyFile:
    try:
        # Asked before opening: opening a pipe would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            return _failed(name, "not a regular file")
        with path.open("rb") as file:
            return PolicyFile(name, file.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        return _failed(name, _reason(error))


def _failed(name: str, message: str) -> PolicyFile:
    return PolicyFile(name, b"", Fault(name, 1, "", message))


def _reason(error: OSError | ValueError) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be read: {text}"
