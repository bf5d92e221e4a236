"""Checks that need more than one field or more than one policy. They read raw values, so that other faults do not hide theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.errors import Fault
from controller.policy.presets import preset_names
from controller.policy.scalars import shown
from controller.policy.words import did_you_mean
from controller.policy.yaml import Document, Path, dotted

_ORDERED: Sequence[tuple[Path, str, str, int | None, int | None]] = (
    (("spec", "concurrency"), "min", "max", 1, 200),
    (("spec", "scaling", "min"), "floor", "ceiling", None, None),
    (("spec", "scaling", "max"), "floor", "ceiling", None, None),
    (("spec", "scaling"), "min.floor", "max.floor", 2, 10),
    (("spec", "scaling"), "min.ceiling", "max.ceiling", 2, 10),
)
"""Section, its lower and its upper field, and what they are when not given."""


@dataclass(frozen=True, slots=True)
class Source:
    """One policy as it was read, valid or not."""

    file: str
    document: Document

    def get(self, *path: str) -> Any:
        """The raw value at that path; None when it or a parent is missing."""
        value = self.document.value
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    def fault(self, path: Path, message: str) -> Fault:
        """A fault at that field."""
        return Fault(self.file, self.document.line_of(path), dotted(path), message)


def ordering_faults(source: Source, already: set[Path]) -> Iterator[Fault]:
    """Lower fields above their upper ones, in sections that pydantic did not get as far as comparing."""
    for section, low_name, high_name, low_default, high_default in _ORDERED:
        low_path, high_path = (*section, *low_name.split(".")), (*section, *high_name.split("."))
        if section in already or not isinstance(source.get(*_texts(section)), dict):
            continue
        low, high = _number(source, low_path, low_default), _number(source, high_path, high_default)
        if low is not None and high is not None and low > high:
            yield source.fault(section, f"{low_name} {low} is above {high_name} {high}")
    signals, cpu = ("spec", "signals"), ("spec", "scaling", "cpu")
    given = source.get(*signals)
    if signals not in already and isinstance(given, dict) and given.get("preset") is None:
        knobs = {"preset", "prometheus", "window", "freshFor"}
        if not given.keys() - knobs:
            yield source.fault(signals, "give a preset, or at least one signal with a query")
    scaling = source.get("spec", "scaling")
    metrics = ("cpu", "memory")
    both_off = isinstance(scaling, dict) and all(name in scaling and scaling[name] is None for name in metrics)
    if both_off and cpu[:-1] not in already:
        message = "give at least one of cpu and memory: an HPA without a metric does not scale"
        yield source.fault(cpu[:-1], message)


def empty_faults(source: Source) -> Iterator[Fault]:
    """`cpu:` with nothing behind it: neither the defaults nor no metric should be guessed."""
    for name in ("cpu", "memory"):
        path = ("spec", "scaling", name)
        if path in source.document.empty:
            message = f"empty; write {{}} for the default target, or null for an HPA without a {name} metric"
            yield source.fault(path, message)


def preset_faults(source: Source) -> Iterator[Fault]:
    """A preset that does not exist."""
    preset = source.get("spec", "signals", "preset")
    names = preset_names()
    if isinstance(preset, str) and preset not in names:
        near = did_you_mean(preset, names)
        listed = near if near.startswith("; known") else f"{near} Known: {', '.join(names)}"
        yield source.fault(("spec", "signals", "preset"), f"there is no preset {shown(preset)}{listed}")


def clash_faults(sources: Sequence[Source]) -> Iterator[Fault]:
    """Policies that would fight over one name, HPA, workload or queue. The later one gets the fault, and it names both."""
    first: dict[tuple[str, ...], Source] = {}
    for source in sources:
        for path, what, identity in _claims(source):
            holder = first.setdefault((what, *identity), source)
            if holder is not source:
                name = "/".join(shown(part) for part in identity)
                yield source.fault(
                    path,
                    f"two policies have one {what}, {name}: this one in {source.file} and the one at "
                    f"{holder.file}:{holder.document.line_of(path)}",
                )


def _claims(source: Source) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    namespace = source.get("metadata", "namespace") or "default"
    scaling: tuple[str, ...] = ("spec", "scaling")
    kind = source.get(*scaling, "target", "kind") or "Deployment"
    candidates: list[tuple[Path, str, tuple[Any, ...]]] = [
        (("metadata", "name"), "name", (namespace, source.get("metadata", "name"))),
        ((*scaling, "hpa"), "HPA", (namespace, source.get(*scaling, "hpa"))),
        ((*scaling, "target", "name"), "scale target", (namespace, kind, source.get(*scaling, "target", "name"))),
    ]
    spec = source.get("spec")
    if isinstance(spec, dict) and "concurrency" in spec:
        given = source.get("spec", "concurrency", "queue")
        candidates.append(
            (("spec", "concurrency", "queue"), "queue", (namespace, "model_requests" if given is None else given))
        )
    for path, what, parts in candidates:
        if all(isinstance(part, str) for part in parts):
            yield path, what, parts


def _number(source: Source, path: Path, default: int | None) -> int | None:
    parent: Mapping[str, Any] | None = source.get(*_texts(path[:-1]))
    if isinstance(parent, dict) and path[-1] in parent:
        value = parent[path[-1]]
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    return default if parent is None or isinstance(parent, dict) else None


def _texts(path: Path) -> tuple[str, ...]:
    return tuple(str(step) for step in path)
