"""Who owns which field: `metadata.managedFields`, as server-side apply keeps it.

A field is a path of keys to a leaf; lists and the structs named in `_ATOMIC` are leaves. `metadata` counts for its labels,
annotations and owner references only, and `status` not at all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any

Path = tuple[str, ...]
Leaves = dict[Path, Any]
_ATOMIC = {("spec", "selector")}
_METADATA = ("labels", "annotations", "ownerReferences", "finalizers")


def leaves(document: dict[str, Any]) -> Leaves:
    """The fields of an object that can be owned, with their values."""
    meta = document.get("metadata", {})
    body = {key: value for key, value in document.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    body["metadata"] = {key: meta[key] for key in _METADATA if key in meta}
    return dict(_walk(body, ()))


def read(document: dict[str, Any], path: Path) -> Any:
    """The value at a path, None when absent."""
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def write(document: dict[str, Any], path: Path, value: Any) -> None:
    """Set the value at a path, making its parents."""
    for key in path[:-1]:
        document = document.setdefault(key, {})
    document[path[-1]] = value


def drop_field(document: dict[str, Any], path: Path) -> None:
    """Remove the value at a path, and the parents that it leaves empty."""
    *parents, last = path
    chain = [document]
    for key in parents:
        chain.append(chain[-1].get(key, {}))
    chain[-1].pop(last, None)
    for parent, key, child in reversed(list(zip(chain, parents, chain[1:], strict=False))):
        if child == {}:
            parent.pop(key, None)


def owned(document: dict[str, Any], manager: str, operation: str) -> set[Path]:
    """The fields that a manager owns by one operation, `Apply` or `Update`."""
    return {
        path
        for entry in _entries(document)
        if (entry["manager"], entry["operation"]) == (manager, operation)
        for path in _unfold(entry["fieldsV1"], ())
    }


def live_managers(document: dict[str, Any], path: Path) -> set[tuple[str, str]]:
    """Who owns a field: (manager, operation)."""
    return {(e["manager"], e["operation"]) for e in _entries(document) if path in set(_unfold(e["fieldsV1"], ()))}


def conflicts(document: dict[str, Any], manager: str, wanted: Leaves) -> list[tuple[Path, str]]:
    """The fields that another manager owns and that have another value now, with that manager's name."""
    return [
        (path, other)
        for path, value in wanted.items()
        if read(document, path) != value
        for other, operation in sorted(live_managers(document, path))
        if (other, operation) != (manager, "Apply")
    ]


def claim(document: dict[str, Any], manager: str, fields: set[Path], api_version: str, taken: set[Path]) -> None:
    """Make `fields` all that the manager owns by Apply, and take the `taken` ones from everybody else."""
    _set(document, manager, "Apply", fields, api_version)
    _take(document, taken, (manager, "Apply"), api_version)


def record(document: dict[str, Any], manager: str, operation: str, moved: Iterable[Path], api_version: str) -> None:
    """Note that a plain write moved these fields: they are the writer's now, and nobody else's; gone fields are nobody's."""
    fields, present = set(moved), set(leaves(document))
    _take(document, fields, (manager, operation), api_version)
    for entry in list(_entries(document)):
        kept = set(_unfold(entry["fieldsV1"], ()))
        if not kept <= present:
            _set(document, entry["manager"], entry["operation"], kept & present, api_version)
    if fields:
        _set(document, manager, operation, owned(document, manager, operation) | fields, api_version)


def _take(document: dict[str, Any], fields: set[Path], winner: tuple[str, str], api_version: str) -> None:
    for entry in list(_entries(document)):
        who = (entry["manager"], entry["operation"])
        kept = set(_unfold(entry["fieldsV1"], ()))
        if who != winner and kept & fields:
            _set(document, *who, kept - fields, api_version)


def _set(document: dict[str, Any], manager: str, operation: str, fields: set[Path], api_version: str) -> None:
    entries = document["metadata"].setdefault("managedFields", [])
    found = next((e for e in entries if (e["manager"], e["operation"]) == (manager, operation)), None)
    if found is not None and set(_unfold(found["fieldsV1"], ())) == fields:
        return
    if found is not None:
        entries.remove(found)
    if fields:
        tree: dict[str, Any] = {}
        for path in sorted(fields):
            write(tree, tuple(f"f:{key}" for key in path), {})
        time = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        who = {"manager": manager, "operation": operation, "apiVersion": api_version, "time": time}
        entries.append({**who, "fieldsType": "FieldsV1", "fieldsV1": tree})


def _entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = document.get("metadata", {}).get("managedFields", [])
    return entries


def _walk(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and path not in _ATOMIC:
        for key, child in value.items():
            yield from _walk(child, (*path, key))
    elif value is not None and value != {}:
        yield path, value


def _unfold(tree: dict[str, Any], path: Path) -> Iterator[Path]:
    for key, child in tree.items():
        here = (*path, key.removeprefix("f:"))
        if child:
            yield from _unfold(child, here)
        else:
            yield here
