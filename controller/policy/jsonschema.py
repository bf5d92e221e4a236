"""The policy's JSON Schema, for editors: limited to what draft 7 knows."""

from __future__ import annotations

import json
from typing import Any

from controller.policy.budget import Budget
from controller.policy.presets import preset_names
from controller.policy.quantity import duration_text
from controller.policy.schema import LoadPolicy

DRAFT = "http://json-schema.org/draft-07/schema#"


def policy_schema() -> dict[str, Any]:
    """The schema of one policy, in draft 7, with the presets' names and with defaults written as users write them."""
    schema = _draft_seven(LoadPolicy.model_json_schema(ref_template="#/definitions/{model}"))
    definitions: dict[str, Any] = schema.pop("$defs")
    preset = definitions["Signals"]["properties"]["preset"]
    preset["anyOf"] = [{"type": "string", "enum": list(preset_names())}, {"type": "null"}]
    for section in ("Slo", "Steps"):
        _allow_empty(schema, definitions, section)
    return {
        "$schema": DRAFT,
        "title": "Trimtab load policy",
        "description": schema.pop("description"),
        **{key: value for key, value in schema.items() if key != "title"},
        "definitions": definitions,
    }


def budget_schema() -> dict[str, Any]:
    """The schema of one budget, in draft 7."""
    schema = _draft_seven(Budget.model_json_schema(ref_template="#/definitions/{model}"))
    definitions = schema.pop("$defs")
    rest = {key: value for key, value in schema.items() if key not in {"title", "description"}}
    title = {"$schema": DRAFT, "title": "Trimtab budget", "description": schema["description"]}
    return {**title, **rest, "definitions": definitions}


def budget_schema_text() -> str:
    """The schema as the file `policies/budget.schema.json` holds it."""
    return json.dumps(budget_schema(), indent=2, ensure_ascii=False) + "\n"


def policy_schema_text() -> str:
    """The schema as the file `policies/policy.schema.json` holds it."""
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def _draft_seven(node: Any) -> Any:
    """Draft 7 ignores whatever stands beside `$ref`, so such a reference is wrapped."""
    if isinstance(node, list):
        return [_draft_seven(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {key: _draft_seven(value) for key, value in node.items()}
    if "$ref" in result and len(result) > 1:
        result = {"allOf": [{"$ref": result.pop("$ref")}], **result}
    default = result.get("default")
    if _is_duration(result) and isinstance(default, int | float):
        result["default"] = duration_text(default)
    return result


def _is_duration(node: dict[str, Any]) -> bool:
    return "(ms|s|m|h|d)" in str(node.get("pattern", "")) and node.get("type") == "string"


def _allow_empty(schema: dict[str, Any], definitions: dict[str, Any], section: str) -> None:
    """A section with nothing behind its colon has its defaults, so an editor must not complain."""
    reference = {"$ref": f"#/definitions/{section}"}
    for owner in (schema, *definitions.values()):
        for name, node in owner.get("properties", {}).items():
            if node.get("allOf") == [reference] or node == reference:
                rest = {key: value for key, value in node.items() if key not in {"allOf", "$ref"}}
                owner["properties"][name] = {"anyOf": [reference, {"type": "null"}], **rest}
