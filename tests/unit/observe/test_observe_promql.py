from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.observe.promql import (
    MATCHERS_MAX_CHARS,
    Age,
    Join,
    duration,
    last_seen,
    matcher,
    questions,
    quoted,
    regex_escaped,
    wants_of,
)
from controller.policy.presets import load_preset

VALUES = st.text(st.characters(codec="utf-8"), max_size=30)
CPU = 'sum by ($by) (rate(container_cpu_usage_seconds_total{$pods,container!=""}[$window]))'


def unquoted(literal):
    """What Prometheus reads: the escapes of a Go string, the four that we write."""
    assert literal[0] == literal[-1] == '"'
    body = literal[1:-1]
    assert "\n" not in body
    assert re.fullmatch(r'(?:[^"\\\n]|\\\\|\\"|\\n|\\ufffd)*', body)
    return re.sub(r"\\(ufffd|.)", lambda m: {"n": "\n", "ufffd": "\ufffd"}.get(m[1], m[1]), body)


@given(VALUES)
def test_a_quoted_value_is_read_back_as_itself(value):
    assert unquoted(quoted(value)) == value


@given(VALUES, VALUES)
def test_an_escaped_value_matches_itself_and_nothing_else(value, other):
    pattern = re.compile(regex_escaped(value))
    assert pattern.fullmatch(value)
    assert bool(pattern.fullmatch(other)) == (other == value)


@given(st.lists(VALUES, min_size=2, max_size=4, unique=True), VALUES)
def test_a_merged_matcher_matches_exactly_its_values(values, other):
    text = matcher("label", values)
    assert text.startswith("label=~")
    pattern = re.compile(unquoted(text.removeprefix("label=~")))
    assert all(pattern.fullmatch(value) for value in values)
    assert bool(pattern.fullmatch(other)) == (other in values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("plain", 'l="plain"', id="plain"),
        pytest.param('say "hi"', r'l="say \"hi\""', id="quotes"),
        pytest.param("back\\slash", r'l="back\\slash"', id="backslash"),
        pytest.param("two\nlines", r'l="two\nlines"', id="newline"),
        pytest.param('"} or vector(1) or {l="', r'l="\"} or vector(1) or {l=\""', id="injection"),
    ],
)
def test_one_value_is_an_equality(value, expected):
    assert matcher("l", [value]) == expected


def test_many_values_are_sorted_and_escaped():
    assert matcher("l", ["b.c", "a|b", "b.c"]) == r'l=~"a\\|b|b\\.c"'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param(60.0, "60s", id="whole"),
        pytest.param(1.5, "1500ms", id="part"),
        pytest.param(0.0, "1ms", id="none"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def ask(*policies):
    presets = [load_preset(p.spec.signals.preset) if p.spec.signals.preset else None for p in policies]
    return questions(want for p, preset in zip(policies, presets, strict=True) for want in wants_of(p, preset))


def test_queries_depend_on_the_preset_not_on_the_number_of_policies(policy):
    one, ten = ask(policy("a")), ask(*(policy(f"p{i}") for i in range(10)))
    assert len(ten) == len(one) == len(load_preset("fastapi").queries) + 2  # age and targets
    assert all(len(question.wants) == 10 for question in ten)


def test_placeholders_are_filled(policy):
    query = 'quantile_over_time($quantile, x{$selector,path=~"/v1$"}[$window]) by ($by)'
    (question, *_) = ask(policy("a", signals={"rate": {"query": query}, "window": "90s"}, slo={"quantile": 0.99}))
    assert question.query == (
        'quantile_over_time(0.99, x{namespace="models",service="a",path=~"/v1$"}[90s]) by (namespace, pod, service)'
    )


def test_the_endpoints_labels_are_asked_for_with_the_age_and_the_targets_only(policy):
    signals = {"rate": {"query": "sum by ($by) (x{$selector})"}}
    rate, targets, age = ask(
        policy("a", selector={"job": "j"}, key="instance", endpoint="http://{host}:{port}", signals=signals)
    )
    assert "by (instance, job)" in rate.query
    assert all("by (host, instance, job, port)" in query for query in (targets.query, age.query))


def test_targets_are_asked_for_where_kubernetes_does_not_list_the_pods(policy):
    scaled = policy("a", scaling={"hpa": "a", "target": {"kind": "Deployment", "name": "a"}})
    asked = [[question.wants[0].what for question in ask(p)] for p in (policy("a"), scaled)]
    assert [Age.TARGET in what for what in asked] == [True, False]


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        pytest.param({}, {}, True, id="same"),
        pytest.param({}, {"slo": {"quantile": 0.5}}, False, id="another quantile"),
        pytest.param({}, {"key": "instance"}, False, id="another key"),
        pytest.param({}, {"selector": {"job": "x"}}, False, id="other label names"),
    ],
)
def test_what_shares_a_query(policy, first, second, shared):
    signals = {"latencyQuantile": {"query": "histogram_quantile($quantile, sum by ($by, le) (rate(b{$selector}[1m])))"}}
    asked = ask(policy("a", signals=signals, **first), policy("b", signals=signals, **second))
    quantiles = [question for question in asked if "histogram" in question.query]
    assert len(quantiles) == (1 if shared else 2)


def test_the_window_parts_only_the_queries_that_use_it(policy):
    signals = {
        "queue": {"query": "sum by ($by) (q{$selector})"},
        "rate": {"query": "sum by ($by) (rate(r{$selector}[$window]))"},
    }
    asked = ask(policy("a", signals=signals), policy("b", signals={**signals, "window": "2m"}))
    assert sorted(len(question.wants) for question in asked) == [1, 1, 2, 2, 2]


def test_a_query_without_by_is_shared_when_its_text_is_identical(policy):
    plain, own = (
        {"rate": {"query": "sum by (pod) (rate(x[1m]))"}},
        {"rate": {"query": "sum by (pod) (rate(x{$selector}[1m]))"}},
    )
    same = [q for q in ask(policy("a", signals=plain), policy("b", signals=plain)) if q.join is Join.ASKED]
    apart = [q for q in ask(policy("a", signals=own), policy("b", signals=own)) if q.join is Join.ASKED]
    assert [len(q.wants) for q in same] == [2]
    assert [len(q.wants) for q in apart] == [1, 1]


def test_pod_queries_know_namespaces_only(policy):
    signals = {"cpu": {"query": CPU}}
    asked = [q for q in ask(*(policy(n, signals=signals) for n in "ab")) if q.join is Join.PODS]
    assert [q.query for q in asked] == [
        'sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{namespace="models",container!=""}[60s]))'
    ]
    elsewhere = policy("c", selector={"job": "c"}, signals=signals)
    assert 'namespace="models"' in next(q for q in ask(elsewhere) if q.join is Join.PODS).query


JOINED = (
    'max by ($by) (group by ($by, namespace, pod) (up{$selector}) * on (namespace, pod) group_left () c{a!="",$pods})'
)


@pytest.mark.parametrize(
    ("selector", "pods"),
    [
        pytest.param({"namespace": "models", "job": "x"}, '{a!="",namespace="models"}', id="namespace"),
        pytest.param({"job": "x"}, '{a!="",}', id="any namespace"),
    ],
)
def test_a_query_that_joins_pods_by_itself_is_handed_back_by_its_labels(policy, selector, pods):
    asked = ask(policy("a", selector=selector, signals={"cpu": {"query": JOINED}}))
    (joined,) = [q for q in asked if "group_left" in q.query]
    assert joined.join is Join.SELECTOR
    assert pods in joined.query


def test_long_matchers_are_split_and_nobody_is_lost(policy):
    policies = [policy(f"{'x' * 200}{i}", selector={"service": f"{'y' * 200}{i}"}) for i in range(60)]
    asked = ask(*policies)
    assert all(len(question.query) <= MATCHERS_MAX_CHARS for question in asked)
    ages = [want.policy.key for question in asked for want in question.wants if want.what.value == "age"]
    assert sorted(ages) == sorted(p.key for p in policies)


def test_last_seen_covers_the_rate_window_twice(policy):
    made = policy("a", signals={"preset": "fastapi", "window": "10m"})
    age = wants_of(made, load_preset("fastapi"))[-1]
    assert "[1200s:15s]" in last_seen(age).template
