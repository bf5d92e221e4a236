"""What pydantic found, in plain words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from controller.policy.budget import POLICY_KEY
from controller.policy.calendar import CALENDAR_DATE, TIME_OF_DAY
from controller.policy.output import QUEUE_NAME
from controller.policy.scalars import shown
from controller.policy.schema import DNS_LABEL, DNS_NAME, LABEL_NAME, LoadPolicy
from controller.policy.yaml import Path

_PATTERNS: Mapping[str, str] = {
    DNS_LABEL: "must be lower-case letters, digits and `-`, at most 63 characters, such as model-service",
    DNS_NAME: "must be lower-case letters, digits, `-` and `.`, such as model-service",
    LABEL_NAME: "must be a Prometheus label name: letters, digits and `_`, not starting with a digit",
    TIME_OF_DAY: "must be a time of day from 00:00 to 24:00, such as 08:00",
    CALENDAR_DATE: "must be a date such as 2026-12-24",
    POLICY_KEY: "must be a policy as namespace/name, such as models/model-service",
    QUEUE_NAME: "must be letters, digits and any of `_ . : -`, such as model_requests",
}
_TYPES: Mapping[str, str] = {
    "string_type": "must be text",
    "string_unicode": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of names to text",
    "mapping_type": "must be a mapping of names to text",
    "model_type": "must be a section with fields of its own",
    "model_attributes_type": "must be a section with fields of its own",
}


def field_of(error: ErrorDetails) -> Path:
    """Where the error stands, without pydantic's own marks."""
    return tuple(step for step in error["loc"] if step != "[key]")


def in_words(error: ErrorDetails, root: type[BaseModel] = LoadPolicy) -> str:  # noqa: C901, PLR0911 - a table of cases, one return each
    """The error as one plain line, without its place."""
    context: Mapping[str, Any] = error.get("ctx", {})
    kind = error["type"]
    if kind in _TYPES:
        return f"{_TYPES[kind]}, {_not_this(error['input'], kind)}"
    match kind:
        case "missing":
            return "required"
        case "extra_forbidden":
            path = field_of(error)
            return f"unknown field{did_you_mean(str(path[-1]), fields_at(path[:-1], root))}"
        case "value_error":
            return shown(str(context["error"]), 200)
        case "literal_error" | "enum":
            return f"must be {str(context['expected']).replace(chr(39), '')}, {_not_this(error['input'], kind)}"
        case "string_pattern_mismatch":
            wanted = _PATTERNS.get(str(context["pattern"]), f"must match {context['pattern']}")
            return f"{wanted}; not {_quote(error['input'])}"
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            limit = next(iter(context.values()))
            words = {"greater_than_equal": "at least", "greater_than": "above", "less_than_equal": "at most"}
            return f"must be {words.get(kind, 'below')} {limit}, not {_quote(error['input'])}"
        case "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must be at most {context['max_length']} characters"
        case "too_short":
            return f"must have at least {_entries(context['min_length'])}"
        case "too_long":
            return f"must have at most {_entries(context['max_length'])}"
        case _:
            return shown(error["msg"][:1].lower() + error["msg"][1:], 200)


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or the whole list when nothing is near."""
    names = list(known)
    by_case = {name.lower(): name for name in names}
    near = difflib.get_close_matches(wrong.lower(), by_case, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {by_case[near[0]]}?"
    return f"; known: {', '.join(names)}" if names else ""


def fields_at(path: Path, root: type[BaseModel] = LoadPolicy) -> tuple[str, ...]:
    """The fields of the section at that path; none when there is no such section."""
    model: type[BaseModel] | None = root
    for step in path:
        if isinstance(step, int):
            continue
        info = model.model_fields.get(step) if model is not None else None
        model = _section(info.annotation) if info is not None else None
    return tuple(info.alias or name for name, info in model.model_fields.items()) if model is not None else ()


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section(part) for part in get_args(annotation))
    return next((model for model in found if model is not None), None)


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _quote(value: object) -> str:
    return shown(value if isinstance(value, str) else str(value), 40)


def _not_this(value: object, kind: str) -> str:  # noqa: PLR0911 - a table of cases
    match value:
        case None:
            return "not empty"
        case bool():
            return f"not {str(value).lower()}" + (
                " (write it in quotes if text is meant)" if kind == "string_type" else ""
            )
        case int() | float() if kind == "string_type":
            return f'not a number; write "{value:.15g}" in quotes' if abs(value) < 1e15 else "not a number"
        case str():
            return f"not the text {_quote(value)}" if kind in _TYPES else f"not {_quote(value)}"
        case list():
            return "not a list"
        case dict():
            return "not a mapping"
        case _:
            return f"not {_quote(value)}"
