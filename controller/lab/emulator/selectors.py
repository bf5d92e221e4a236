"""Label and field selectors, as list requests carry them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from controller.lab.cluster.api import ApiError

_SET = re.compile(r"^(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^=!\s]+)\s*(?P<op>==|=|!=)\s*(?P<value>\S*)$")
_EXISTS = re.compile(r"^(?P<no>!?)\s*(?P<key>[\w./-]+)$")


def matches_labels(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy a selector such as `app=web,tier in (a, b),!canary`."""
    return all(_matches(part.strip(), labels) for part in re.split(r",(?![^(]*\))", selector) if part.strip())


def matches_fields(selector: str, document: dict[str, Any]) -> bool:
    """Whether a document satisfies a selector such as `metadata.name=web,status.phase!=Running`."""
    for part in filter(None, selector.split(",")):
        found = _EQUAL.match(part)
        if found is None:
            raise ApiError(400, "BadRequest", f"invalid field selector: {part}")
        value: Any = document
        for key in found["key"].split("."):
            value = value.get(key, "") if isinstance(value, dict) else ""
        if (str(value) == found["value"]) == (found["op"] == "!="):
            return False
    return True


def written(selector: Mapping[str, Any]) -> str:
    """A LabelSelector object as the string that list requests take; expressions included."""
    parts = [f"{key}={value}" for key, value in sorted(selector.get("matchLabels", {}).items())]
    for rule in selector.get("matchExpressions", ()):
        values = ",".join(rule.get("values", ()))
        forms = {"Exists": rule["key"], "DoesNotExist": f"!{rule['key']}"}
        parts.append(forms.get(rule["operator"]) or f"{rule['key']} {rule['operator'].lower()} ({values})")
    return ",".join(parts)


def _matches(part: str, labels: Mapping[str, str]) -> bool:
    if found := _SET.match(part):
        values = {value.strip() for value in found["values"].split(",")}
        return (labels.get(found["key"]) in values) == (found["op"] == "in")
    if found := _EQUAL.match(part):
        return (labels.get(found["key"]) == found["value"]) != (found["op"] == "!=")
    if found := _EXISTS.match(part):
        return (found["key"] in labels) != bool(found["no"])
    raise ApiError(400, "BadRequest", f"unable to parse requirement: {part}")
