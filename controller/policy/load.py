"""Policies from files: all of them, or every fault of all of them in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from controller.errors import Fault, PolicyError
from controller.policy.cross import Source, clash_faults, empty_faults, ordering_faults, preset_faults
from controller.policy.files import PolicyFile, read_folder, read_path
from controller.policy.scalars import shown
from controller.policy.schema import LoadPolicy
from controller.policy.words import field_of, in_words
from controller.policy.yaml import Document, dotted, read_documents


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy and where it stands."""

    policy: LoadPolicy
    file: str
    line: int


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
    faults: list[Fault] = []
    sources: list[Source] = []
    loaded: list[LoadedPolicy] = []
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
            found, policy = _validate(source)
            faults += found
            if isinstance(document.value, dict):
                sources.append(source)
            if policy is not None:
                loaded.append(LoadedPolicy(policy, file.name, document.line))
    faults += clash_faults(sources)
    if faults:
        order = {file.name: place for place, file in enumerate(files)}
        unique = dict.fromkeys(replace(fault, message=shown(fault.message, 1000)) for fault in faults)
        raise PolicyError(tuple(sorted(unique, key=lambda fault: (order.get(fault.file, -1), fault))))
    return tuple(loaded)


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
    for detail in details:
        path = field_of(detail)
        if path not in document.faulty:
            faults.append(Fault(source.file, document.line_of(path), dotted(path), in_words(detail)))
    faults += ordering_faults(source, places)
    return faults, None


def _kind(document: Document) -> str:
    return "a list" if isinstance(document.value, list) else f"just {shown(str(document.value))}"
