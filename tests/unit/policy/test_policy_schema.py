"""Durations and ratios, the JSON Schema, and the page about policies: all in step with the models."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from controller.policy import schema
from controller.policy.files import PolicyFile
from controller.policy.jsonschema import policy_schema, policy_schema_text
from controller.policy.load import parse
from controller.policy.quantity import duration_seconds, duration_text, ratio

ROOT = Path(__file__).parents[3]
SCHEMA = policy_schema()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("15s", 15), ("1m30s", 90), ("2h", 7200), ("1.5m", 90), (" 7d ", 604800), ("0s", 0)],
)
def test_durations(text, seconds):
    assert duration_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", [15, 1.5, True, None, [], "", "15", "s", "1 s", "-1s", "1w", "١s", "9" * 400 + "s", "1s,2s"]
)
def test_what_is_no_duration(value):
    with pytest.raises(ValueError, match=r"duration|longer than a year"):
        duration_seconds(value)


@given(st.integers(min_value=0, max_value=86_400_000))
def test_durations_read_back(milliseconds):
    assert duration_seconds(duration_text(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("value", "expected"), [("1%", 0.01), (0.01, 0.01), (0, 0.0), (1, 1.0), ("100%", 1.0), ("0.5%", 0.005)]
)
def test_ratios(value, expected):
    assert ratio(value) == pytest.approx(expected)


@pytest.mark.parametrize("value", [1.01, -0.1, "101%", "1", "%", True, None, float("nan"), float("inf")])
def test_what_is_no_ratio(value):
    with pytest.raises(ValueError, match="a ratio"):
        ratio(value)


def test_the_committed_schema_is_in_step():
    assert (ROOT / "policies/policy.schema.json").read_text() == policy_schema_text()


def walk(node):
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for item in node:
            yield from walk(item)


def test_the_schema_keeps_to_draft_seven():
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    for node in walk(SCHEMA):
        assert not node.keys() & {"$defs", "prefixItems", "unevaluatedProperties", "dependentRequired", "minContains"}
        if isinstance(node.get("$ref"), str):
            assert len(node) == 1, "draft 7 ignores whatever stands beside $ref"
            assert node["$ref"].removeprefix("#/definitions/") in SCHEMA["definitions"]


def test_every_field_has_a_description():
    def described(node):
        target = node.get("$ref") or (node.get("anyOf") or node.get("allOf") or [{}])[0].get("$ref")
        return "description" in node or (target and "description" in SCHEMA["definitions"][target.split("/")[-1]])

    bare = [
        f"{owner}.{name}"
        for owner, definition in {"": SCHEMA, **SCHEMA["definitions"]}.items()
        for name, node in definition.get("properties", {}).items()
        if not described(node)
    ]
    assert bare == []


def accepts(node, value):
    """As much of JSON Schema as the policy's schema uses."""
    if "$ref" in node:
        return accepts(SCHEMA["definitions"][node["$ref"].split("/")[-1]], value)
    kinds = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "object": dict,
        "array": list,
        "null": type(None),
    }
    kind = node.get("type")
    if kind and (not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    checks = [
        all(accepts(part, value) for part in node.get("allOf", [])),
        not node.get("anyOf") or any(accepts(part, value) for part in node["anyOf"]),
        "const" not in node or value == node["const"],
        "enum" not in node or value in node["enum"],
    ]
    if isinstance(value, str):
        checks.append(re.search(node.get("pattern", ""), value) is not None)
    if isinstance(value, dict):
        properties = node.get("properties", {})
        checks.append(set(node.get("required", [])) <= value.keys())
        checks.append(node.get("additionalProperties") is not False or value.keys() <= properties.keys())
        checks += [accepts(properties[key], item) for key, item in value.items() if key in properties]
    return all(checks)


def policy(**spec):
    base = {"instances": {"selector": {"service": "a"}}, "signals": {"preset": "vllm"}}
    return {"apiVersion": "trimtab/v1", "kind": "LoadPolicy", "metadata": {"name": "a"}, "spec": {**base, **spec}}


@pytest.mark.parametrize("name", ["fastapi", "generic", "triton", "vllm"])
def test_the_schema_accepts_the_examples(name):
    assert accepts(SCHEMA, yaml.safe_load((ROOT / "policies" / f"{name}.yaml").read_text()))


@pytest.mark.parametrize(
    ("value", "good"),
    [
        pytest.param(policy(), True, id="minimal"),
        pytest.param(policy(routing=None, slo=None, concurrency=None), True, id="empty-sections"),
        pytest.param(policy(interval=15), False, id="no-unit"),
        pytest.param(policy(slo={"errors": "1%"}), True, id="percent"),
        pytest.param(policy(slo={"errors": "lots"}), False, id="no-ratio"),
        pytest.param(policy(mode="watch"), False, id="mode"),
        pytest.param(policy(rooting={}), False, id="unknown-field"),
        pytest.param(policy(signals={"preset": "nothing"}), False, id="unknown-preset"),
        pytest.param(policy(scaling={"hpa": "h"}), False, id="no-target"),
        pytest.param(policy(scaling={"hpa": "h", "target": {"name": "t"}, "memory": None}), True, id="no-memory"),
    ],
)
def test_the_schema_and_the_models_agree(value, good):
    assert accepts(SCHEMA, value) is good
    try:
        parse([PolicyFile("p.yaml", json.dumps(value).encode())])
        loaded = True
    except Exception:  # noqa: BLE001 - whether it loads is the question
        loaded = False
    assert loaded is good


def test_policies_cannot_be_changed():
    slo = schema.Slo()
    with pytest.raises(ValidationError):
        slo.quantile = 0.5


PAGE = (ROOT / "docs/policies.md").read_text()


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL), ids=["smallest", "everything"])
def test_the_policies_on_the_page_load(text):
    assert len(parse([PolicyFile("page.yaml", text.encode())])) == 1


def test_the_page_names_every_field():
    models = [
        m
        for m in vars(schema).values()
        if isinstance(m, type) and issubclass(m, BaseModel) and m.__module__ == schema.__name__
    ]
    fields = {info.alias or name for model in models for name, info in model.model_fields.items()} - {"query"}
    missing = {name for name in fields if not re.search(rf"\b{name}\b", PAGE)}
    assert missing == set()


@pytest.mark.parametrize(
    ("section", "heading"),
    [(schema.Slo, "slo"), (schema.Routing, "routing"), (schema.Signals, "signals"), (schema.Steps, "scaling")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_page_tells_the_default_durations(section, heading):
    table = PAGE.split(f"### spec.{heading}\n")[1].split("\n#")[0]
    checked = 0
    for line in table.splitlines():
        cells = re.findall(r"`([^`]+)`", line)
        name = cells[0].split(".")[-1] if cells else ""
        field = section.model_fields.get(name)
        if field is not None and isinstance(field.default, float) and re.fullmatch(r"[0-9.]+(ms|s|m)", cells[1]):
            assert duration_seconds(cells[1]) == pytest.approx(field.default)
            checked += 1
    assert checked
