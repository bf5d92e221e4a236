"""Strict YAML: values with the lines they stand on, and a fault for whatever YAML 1.1 would silently turn into something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from controller.errors import Fault
from controller.policy.scalars import PREFIX, implicit, plain_value, shown

Path = tuple[str | int, ...]

MAX_BYTES = 1_048_576
"""A ConfigMap holds no more."""
MAX_DEPTH = 40
MAX_VALUES = 20_000
"""After aliases are expanded, so that a few lines of aliases of aliases cannot fill the memory."""

_BROKEN = (yaml.YAMLError, ValueError, OverflowError, RecursionError, IndexError, TypeError)
"""What PyYAML raises on some input: its own errors, and those of `chr` and `int` on absurd escapes and versions."""


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document.

    Args:
        value: mappings, lists, text, numbers, booleans and None.
        lines: the line of each field and list item, by path, counted from 1.
        empty: paths of fields with nothing at all behind the colon, as opposed to a written `null`.
        faulty: paths that already have a fault.
    """

    value: Any
    line: int
    lines: Mapping[Path, int]
    empty: frozenset[Path] = frozenset()
    faulty: frozenset[Path] = frozenset()

    def line_of(self, path: Path) -> int:
        """The line of that field, or of its nearest parent that is there."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return self.line


def dotted(path: Path) -> str:
    """`spec.scaling.cpu.between[0]`, always on one line."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{shown(step)}"
    return text.removeprefix(".")


def read_documents(data: bytes, file: str) -> tuple[tuple[Document, ...], tuple[Fault, ...]]:
    """Every document of a file that is not empty, and every fault found on the way. Never raises, whatever `data` is."""
    text, fault = _decode(data, file)
    if fault is not None:
        return (), (fault,)
    documents: list[Document] = []
    faults: list[Fault] = []
    try:
        for node in _nodes(text):
            builder = _Builder(file)
            value = builder.build(node)
            faults += builder.faults
            line = node.start_mark.line + 1
            documents.append(Document(value, line, builder.lines, frozenset(builder.empty), frozenset(builder.faulty)))
    except _TooMuchError as error:
        faults.append(Fault(file, error.line, "", str(error)))
    except _BROKEN as error:
        faults.append(_broken(error, text, file))
    return tuple(documents), tuple(faults)


def _decode(data: bytes, file: str) -> tuple[str, Fault | None]:
    if len(data) > MAX_BYTES:
        return "", Fault(file, 1, "", f"the file is larger than {MAX_BYTES} bytes, more than a ConfigMap holds")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "", Fault(file, 1, "", "the file is UTF-16 text; save it as UTF-8")
    try:
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return "", Fault(file, line, "", f"the file is not UTF-8 text (byte 0x{data[error.start]:02x})")


def _nodes(text: str) -> Iterator[yaml.Node]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None and not _is_blank(node):
                yield node
    finally:
        loader.dispose()


def _is_blank(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value == ""


def _broken(error: BaseException, text: str, file: str) -> Fault:
    if isinstance(error, RecursionError):
        return Fault(file, 1, "", f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Fault(file, line, "", f"the character U+{_codepoint(error.character):04X} is not allowed in YAML")
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = " ".join((error.problem or error.context or "cannot be read").split())
        if "'\\t'" in problem:
            problem = "a tab cannot indent YAML; use spaces"
        return Fault(file, mark.line + 1 if mark else 1, "", f"not valid YAML: {shown(problem, 120)}")
    return Fault(file, 1, "", f"not valid YAML: {shown(str(error), 120)}")


def _codepoint(character: object) -> int:
    return character if isinstance(character, int) else ord(str(character)[:1] or "\0")


class _TooMuchError(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(slots=True)
class _Builder:
    """Turns one document's nodes into values, and collects lines and faults."""

    file: str
    lines: dict[Path, int] = field(default_factory=dict)
    empty: set[Path] = field(default_factory=set)
    faulty: set[Path] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    values: int = 0

    def build(self, node: yaml.Node, path: Path = (), depth: int = 0) -> Any:
        self._spend(node, depth)
        if isinstance(node, yaml.MappingNode):
            if node.tag != f"{PREFIX}map":
                self._custom_tag(node, path)
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            if node.tag != f"{PREFIX}seq":
                self._custom_tag(node, path)
            items = []
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = item.start_mark.line + 1
                items.append(self.build(item, (*path, index), depth + 1))
            return items
        if _is_blank(node):
            self.empty.add(path)
        return self._scalar(node, path) if isinstance(node, yaml.ScalarNode) else None

    def _spend(self, node: yaml.Node, depth: int) -> None:
        self.values += 1
        line = node.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise _TooMuchError(line, f"nested deeper than {MAX_DEPTH} levels")
        if self.values > MAX_VALUES:
            raise _TooMuchError(line, f"more than {MAX_VALUES} values (with every alias expanded)")

    def _fault(self, node: yaml.Node, path: Path, message: str) -> None:
        self.faulty.add(path)
        self.faults.append(Fault(self.file, node.start_mark.line + 1, dotted(path), message))

    def _custom_tag(self, node: yaml.Node, path: Path) -> None:
        tag = node.tag.replace(PREFIX, "!!")
        self._fault(node, path, f"the tag {shown(tag)} is not supported; write the value without it")

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == f"{PREFIX}merge" and key_node.style is None:
                merged.append(value_node)
                continue
            key = self._key(key_node, path)
            if key is None:
                self.build(value_node, (*path, "?"), depth + 1)
                continue
            line = key_node.start_mark.line + 1
            if key in first:
                self._fault(key_node, (*path, key), f"given twice; the first one is on line {first[key]}")
                continue
            first[key] = line
            self.lines[(*path, key)] = line
            result[key] = self.build(value_node, (*path, key), depth + 1)
        for source in merged:
            self._merge(source, result, path, depth + 1)
        return result

    def _merge(self, node: yaml.Node, result: dict[str, Any], path: Path, depth: int) -> None:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            self._spend(source, depth)
            if not isinstance(source, yaml.MappingNode):
                self._fault(source, path, "`<<` merges mappings only")
                continue
            inner = _Builder(self.file, values=self.values)
            given = inner._mapping(source, path, depth)
            self.values = inner.values
            self.faults += [fault for fault in inner.faults if fault not in self.faults]
            for key in given.keys() - result.keys():
                self._adopt(inner, (*path, key))
            result.update({key: value for key, value in given.items() if key not in result})

    def _adopt(self, inner: _Builder, under: Path) -> None:
        size = len(under)
        self.lines.update({path: line for path, line in inner.lines.items() if path[:size] == under})
        self.empty |= {path for path in inner.empty if path[:size] == under}
        self.faulty |= {path for path in inner.faulty if path[:size] == under}

    def _key(self, node: yaml.Node, path: Path) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._fault(node, path, "a field name must be text, not a list or a mapping")
            return None
        where = (*path, str(node.value))
        value = self._scalar(node, where)
        if where in self.faulty:
            return None
        if not isinstance(value, str):
            self._fault(node, where, f'a field name must be text; write "{shown(node.value)}" in quotes')
            return None
        return value

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = str(node.value)
        if any("\ud800" <= character <= "\udfff" for character in text):
            self._fault(node, path, "holds half a surrogate pair, which is no character")
            return text.encode("utf-8", "replace").decode()
        kind = node.tag.removeprefix(PREFIX)
        if node.style is not None or not implicit(node):
            if kind != "str":
                self._custom_tag(node, path)
            return text
        value, surprise = plain_value(kind, text)
        if surprise:
            self._fault(node, path, surprise)
        return value
