"""Presets: what well-known model servers export, as PromQL, one YAML file each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from controller.model.memory import frozen
from controller.model.sample import Signal


@dataclass(frozen=True, slots=True)
class Preset:
    """What one kind of server exports.

    Args:
        queries: PromQL by signal, in base units. `$selector` stands for the label matchers, `$by` for the labels to
            group by, `$window` for the rate window, `$quantile` for the SLO's quantile. `$pods` stands for the
            matcher on the label `namespace` alone, for series of the kubelet, which know no Service; the answers
            then find their instance by namespace and name.
        age: PromQL for the time of the newest raw sample, seconds since the epoch: an instant query looks back five
            minutes, so without it a dead server stays visible.
        requires: metrics of which each instance's server must have at least one series; without them the preset
            does not fit the server, and says so instead of reading zero.
        source: where the names were verified.
        notes: what the server or the policy must have for this preset to work, one sentence each.
        extends: presets whose queries fill in the signals that this one does not give itself. Only queries are
            taken over: their `requires` and `age` are not, since a server works without, say, CPU figures.
    """

    name: str
    summary: str
    queries: Mapping[Signal, str]
    age: str
    requires: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()
    extends: tuple[str, ...] = ()


@cache
def preset_names() -> tuple[str, ...]:
    """Every preset, sorted."""
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files(__name__).iterdir() if f.name.endswith(".yaml")))


@cache
def load_preset(name: str) -> Preset:
    """The preset of that name, with the queries of those it extends.

    Raises:
        KeyError: there is none.
    """
    if name not in preset_names():
        raise KeyError(name)
    raw = _read(name)
    extends = tuple(raw.get("extends", ()))
    queries: dict[Signal, str] = {}
    for base in extends:
        queries.update(load_preset(base).queries)
    queries.update({Signal(signal): query.strip() for signal, query in raw["queries"].items()})
    return Preset(
        name=name,
        summary=raw["summary"],
        queries=frozen({signal: queries[signal] for signal in Signal if signal in queries}),
        age=raw["age"].strip(),
        requires=tuple(raw["requires"]),
        source=raw["source"],
        notes=tuple(raw.get("notes", ())),
        extends=extends,
    )


def _read(name: str) -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load((files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"))
    return raw
