"""Unquoted YAML text: what it stands for, and where YAML 1.1 would surprise its author."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import yaml

PREFIX = "tag:yaml.org,2002:"
"""Of YAML's own tags."""
_EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
_RESOLVER: Any = yaml.resolver.Resolver()


def shown(text: str, limit: int = 60) -> str:
    """Text fit for a one-line message: control characters are escaped, and what is too long is cut."""
    safe = text if text.isprintable() else json.dumps(text)[1:-1]
    return safe if len(safe) <= limit else safe[: limit - 3] + "..."


def implicit(node: yaml.Node) -> bool:
    """Whether a plain scalar's tag was guessed from its text, not written by the author."""
    return bool(node.tag == _RESOLVER.resolve(yaml.ScalarNode, node.value, (True, False)))


def plain_value(kind: str, text: str) -> tuple[Any, str | None]:  # noqa: PLR0911 - a table of cases
    """The value of unquoted text, and what would surprise its author."""
    quoted = f'"{shown(text)}" in quotes if text is meant'
    match kind:
        case "null":
            return None, None
        case "bool" if text.lower() in {"true", "false"}:
            return text.lower() == "true", None
        case "bool":
            meant = "true" if text.lower() in {"yes", "on"} else "false"
            return text, f"YAML reads {text} as {meant}; write {meant}, or {quoted}"
        case "int":
            return _whole(text, quoted)
        case "float":
            return _decimal(text, quoted)
        case "timestamp":
            return text, f"YAML reads {shown(text)} as a date; write {quoted.removesuffix(' if text is meant')}"
        case _ if _EXPONENT.fullmatch(text):
            plain = float(text)
            hint = f"{plain:.15g}" if math.isfinite(plain) and 1e-5 < abs(plain) < 1e15 else "the number in full"
            return text, f"YAML reads {shown(text)} as text, not as a number; write {hint}, or {quoted}"
        case _:
            return text, None


def _whole(text: str, quoted: str) -> tuple[Any, str | None]:
    digits = text.lstrip("+-")
    if ":" in text:
        seconds = _base_sixty(digits)
        return text, f"YAML reads {shown(text)} as {seconds} (base 60); write {seconds}, or {quoted}"
    if "_" in text:
        return text, f"YAML reads {shown(text)} as a number; write it without `_`, or {quoted}"
    if len(digits) > 1 and digits.isdigit() and digits.startswith("0"):
        read = shown(str(int(digits, 8)), 20)
        return (
            text,
            f"YAML reads {shown(text)} as {read} (octal); write {shown(digits.lstrip('0') or '0')}, or {quoted}",
        )
    if len(digits) > 18:
        return text, f"the number {shown(text)} is too large; write {quoted}"
    return int(text, 0), None


def _base_sixty(digits: str) -> str:
    total = 0.0
    for part in digits.replace("_", "").split(":"):
        total = total * 60 + float(part)
    return f"{total:.15g}"


def _decimal(text: str, quoted: str) -> tuple[Any, str | None]:
    if ":" in text:
        seconds = _base_sixty(text.lstrip("+-"))
        return text, f"YAML reads {shown(text)} as {seconds} (base 60); write {seconds}, or {quoted}"
    if "_" in text:
        return text, f"YAML reads {shown(text)} as a number; write it without `_`, or {quoted}"
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        return text, f"YAML reads {shown(text)} as a number that is not finite; write a finite one, or {quoted}"
    return value, None
