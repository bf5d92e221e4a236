"""The page about presets, written from the presets themselves."""

from __future__ import annotations

from controller.model.sample import Signal
from controller.policy.presets import Preset, load_preset, preset_names

_HEAD = """# Presets

`signals.preset` names one of these. A preset holds one query per signal, in base units, and the metrics without which
it does not fit the server. A signal that a preset lacks can be given as PromQL next to it ([policies](policies.md)).
A ✓ is a query of the preset's own; a + comes from a preset that it extends; an empty cell is a signal that the server
does not export. This page is written from `controller/policy/presets/*.yaml`; a test keeps it in step.
"""


def presets_page() -> str:
    """The whole text of docs/presets.md."""
    presets = [load_preset(name) for name in preset_names()]
    columns = " | ".join(f"`{signal.value}`" for signal in Signal)
    lines = [_HEAD, f"| preset | for | {columns} |", "|---|---|" + ":-:|" * len(Signal)]
    lines += [f"| [`{p.name}`](#{p.name}) | {p.summary} | {' | '.join(_marks(p))} |" for p in presets]
    for preset in presets:
        lines += ["", *_section(preset)]
    return "\n".join(lines) + "\n"


def _marks(preset: Preset) -> list[str]:
    inherited = {signal: query for base in preset.extends for signal, query in load_preset(base).queries.items()}
    return [_mark(preset.queries.get(signal), inherited.get(signal)) for signal in Signal]


def _mark(query: str | None, inherited: str | None) -> str:
    if query is None:
        return ""
    return "+" if query == inherited else "✓"


def _section(preset: Preset) -> list[str]:
    required = ", ".join(f"`{metric}`" for metric in preset.requires)
    lines = [f"## {preset.name}", "", f"{preset.summary}. Requires {required}. Names from: {preset.source}.", ""]
    if preset.extends:
        lines += [f"Extends {', '.join(f'[`{base}`](#{base})' for base in preset.extends)}.", ""]
    lines += [f"- {note}" for note in preset.notes]
    lines += [""] if preset.notes else []
    lines.append("```yaml")
    own = [signal for signal, mark in zip(Signal, _marks(preset), strict=True) if mark == "✓"]
    for signal in own:
        lines += [f"{signal.value}: |-", *(f"  {line}" for line in preset.queries[signal].splitlines())]
    return [*lines, "```"]
