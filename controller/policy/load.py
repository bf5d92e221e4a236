"""Policies from files: all of them, or every fault of all of them in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from controller.errors import Fault, PolicyError
from controller.policy.budget import Budget
from controller.policy.cross import Source, clash_faults, empty_faults, ordering_faults, preset_faults
from controller.policy.files import PolicyFile, read_folder, read_path
from controller.policy.scalars import shown
from controller.policy.schema import LoadPolicy
from controller.policy.sharing import budget_faults, with_guarantees
from controller.policy.words import field_of, in_words
from controller.policy.yaml import Document, read_documents


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy and where it stands."""

    policy: LoadPolicy
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything that a folder holds: policies, and the budgets that they share with their guarantees filled in."""

    policies: tuple[LoadedPolicy, ...]
    budgets: tuple[Budget, ...]


def load_policies(folder: Path) -> tuple[LoadedPolicy, ...]:
    """Every policy of a folder, by file name and then by place in the file.

    Raises:
        PolicyError: with every fault of every file.
    """
    return parse(read_folder(folder))


def validate_paths(paths: Sequence[Path]) -> tuple[Fault, ...]:
    """Every fault of these files and folders, taken as one set; empty when all is well. Never raises."""
    files: dict[str, PolicyFile] = {}
    for path in paths:
        files.update({file.name: file for file in read_path(path)})
    try:
        parse(tuple(files.values()))
    except PolicyError as error:
        return error.faults
    return ()


def parse(files: Sequence[PolicyFile]) -> tuple[LoadedPolicy, ...]:
    """The policies in these files.

    Raises:
        PolicyError: with every fault of every file, in the order of file and line.
    """
    return parse_folder(files).policies


def parse_folder(files: Sequence[PolicyFile]) -> Loaded:
    """The policies and budgets in these files.

    Raises:
        PolicyError: with every fault of every file, in the order of file and line.
    """
    faults: list[Fault] = []
    sources: list[Source] = []
    loaded: list[LoadedPolicy] = []
    budgets: list[tuple[Source, Budget]] = []
    for file in files:
        if file.fault is not None:
            faults.append(file.fault)
            continue
        documents, broken = read_documents(file.data, file.name)
        faults += broken
        if not documents and not broken:
            faults.append(Fault(file.name, 1, "", "the file holds no policy"))
        for document in documents:
            source = Source(file.name, document)
            if source.get("kind") == "Budget":
                found, budget = _validate_budget(source)
                faults += found
                budgets += [] if budget is None else [(source, budget)]
                continue
            found, policy = _validate(source)
            faults += found
            if isinstance(document.value, dict):
                sources.append(source)
            if policy is not None:
                loaded.append(LoadedPolicy(policy, file.name, document.line))
    faults += clash_faults(sources)
    known: dict[str, LoadPolicy | None] = {key: None for source in sources if (key := _key(source))}
    known |= {item.policy.key: item.policy for item in loaded}
    faults += budget_faults(budgets, known)
    if faults:
        order = {file.name: place for place, file in enumerate(files)}
        unique = dict.fromkeys(replace(fault, message=shown(fault.message, 1000)) for fault in faults)
        raise PolicyError(tuple(sorted(unique, key=lambda fault: (order.get(fault.file, -1), fault))))
    return Loaded(tuple(loaded), tuple(with_guarantees(budget, known) for _, budget in budgets))


def _validate(source: Source) -> tuple[list[Fault], LoadPolicy | None]:
    document = source.document
    if not isinstance(document.value, dict):
        return [Fault(source.file, document.line, "", f"a policy is a mapping of fields, not {_kind(document)}")], None
    faults = [*preset_faults(source), *empty_faults(source)]
    try:
        return faults, LoadPolicy.model_validate(document.value)
    except ValidationError as error:
        details = error.errors(include_url=False)
    places = {field_of(detail) for detail in details}
    faults += _in_place(source, details, LoadPolicy)
    faults += ordering_faults(source, places)
    return faults, None


def _validate_budget(source: Source) -> tuple[list[Fault], Budget | None]:
    try:
        return [], Budget.model_validate(source.document.value)
    except ValidationError as error:
        return list(_in_place(source, error.errors(include_url=False), Budget)), None


def _in_place(source: Source, details: Sequence[ErrorDetails], root: type[BaseModel]) -> Iterator[Fault]:
    for detail in details:
        path = field_of(detail)
        if path not in source.document.faulty:
            yield source.fault(path, in_words(detail, root))


def _key(source: Source) -> str | None:
    namespace, name = source.get("metadata", "namespace") or "default", source.get("metadata", "name")
    return f"{namespace}/{name}" if isinstance(namespace, str) and isinstance(name, str) else None


def _kind(document: Document) -> str:
    return "a list" if isinstance(document.value, list) else f"just {shown(str(document.value))}"
