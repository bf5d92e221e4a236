"""A real Prometheus, scraping a real exporter once a second."""

from __future__ import annotations

import time

import pytest

from controller.deadline import Deadline
from controller.model.sample import Absent, Fresh, Invalid, Signal, Stale
from controller.observe.attribution import samples
from controller.observe.metrics import MetricsReader
from controller.policy.presets import preset_names
from controller.settings import Settings

pytestmark = pytest.mark.integration

NASTY = ['say "hi"', "back\\slash", "a|b.*", "two\nlines", "{}[]()^$+?", "größe-\u65e5\u672c", "a.b", "axb", "\ufffd'`"]

PLAIN = {
    "latency": {"query": "sum by ($by) (demo_latency{$selector})"},
    "rate": {"query": "sum by ($by) (demo_rate{$selector})"},
    "queue": {"query": "sum by ($by) (demo_queue{$selector})"},
}


@pytest.fixture
def read():
    """Reads policies as a tick does: (policies, url) -> samples by policy key and instance, and the answer."""
    readers = {}

    def tick(url, *policies):
        reader = readers.setdefault(url, MetricsReader(Settings(prometheus_url=url)))
        at = time.time()
        answer = reader.read(policies, at, Deadline.after(10))
        judged = {
            p.key: {
                name: samples(answer.wants[p.key], answer.policies[p.key], name, at)
                for name in answer.policies[p.key].names()
            }
            for p in policies
        }
        return judged, answer

    yield tick
    for reader in readers.values():
        reader.close()


@pytest.fixture(scope="module")
def url(prometheus, exporters):
    """One Prometheus for all tests whose exporters live on."""

    def escaped(text):
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    plain = 'demo_latency{pod="a"} 0.25\ndemo_latency{pod="b"} NaN\ndemo_latency{pod="c"} +Inf\ndemo_rate{pod="b"} 0\n'
    nasty = "".join(f'demo_rate{{pod="p{i}",service="{escaped(v)}"}} {i}\n' for i, v in enumerate(NASTY))
    teams = 'demo_rate{pod="a",team="x"} 3\n'
    return prometheus((exporters(plain), {"service": "svc"}), (exporters(nasty + teams), {}))


def test_fresh_nan_infinite_and_absent(url, policy, read, wait_until):
    made = policy(signals=PLAIN)
    found = wait_until(lambda: read(url, made)[0][made.key])
    assert isinstance(found["a"][Signal.LATENCY], Fresh)
    assert found["a"][Signal.LATENCY].value == 0.25
    assert isinstance(found["a"][Signal.RATE], Absent)
    assert "idle" in found["b"][Signal.LATENCY].reason
    assert isinstance(found["c"][Signal.LATENCY], Invalid)
    assert isinstance(found["a"][Signal.QUEUE], Absent)


def test_every_label_value_finds_itself_alone(url, policy, read, wait_until):
    policies = [policy(f"n{i}", selector={"service": v}) for i, v in enumerate(NASTY)]
    wait_until(lambda: all(read(url, *policies)[0].values()))
    judged, answer = read(url, *policies)
    assert [list(judged[p.key]) for p in policies] == [[f"p{i}"] for i in range(len(NASTY))]
    assert {metrics.problem for metrics in answer.policies.values()} == {None}
    for i, made in enumerate(policies):
        assert list(read(url, made)[0][made.key]) == [f"p{i}"]


def test_invalid_promql_names_policy_and_signal_and_spoils_nothing_else(url, policy, read, wait_until):
    made = policy(signals={"latency": PLAIN["latency"], "cpu": {"query": "sum by ($by) (cpu{$selector}) percent"}})
    found = wait_until(lambda: read(url, made)[0][made.key])
    assert isinstance(found["a"][Signal.LATENCY], Fresh)
    assert "parse error" in found["a"][Signal.CPU].reason
    problems = read(url, made)[1].problems
    assert [p for p in problems if "policy models/svc: signal cpu" in p and "HTTP 400" in p]
    assert all("\n" not in problem for problem in problems)


def test_a_preset_that_does_not_fit_says_so(url, policy, read, wait_until):
    wait_until(lambda: read(url, policy(signals=PLAIN))[0]["models/svc"])
    _, answer = read(url, policy(signals={"preset": "fastapi"}))
    text = 'http_request_duration_seconds_count has no series for {service="svc"}: is the preset fastapi right?'
    assert answer.problems == [f"Prometheus: policy models/svc: {text}"]


def test_without_up_the_age_is_unknown_and_said_once(url, policy, read, wait_until):
    made = policy(selector={"team": "x"})
    said = []

    def found():
        judged, answer = read(url, made)
        said.extend(answer.problems)
        return judged[made.key]

    assert wait_until(found)["a"][Signal.RATE] == Fresh(3.0, 0.0)
    found()
    assert len(said) == 1
    assert 'age unknown: no `up` series for {team="x"}' in said[0]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_promql_alone_and_shared(url, policy, read, name):
    policies = [policy(n, selector={"namespace": n, "service": n}, signals={"preset": name}) for n in ("a", "b")]
    for asked in (policies[:1], policies):
        _, answer = read(url, *asked)
        assert {metrics.problem for metrics in answer.policies.values()} == {None}, answer.problems


def test_a_selector_that_finds_nothing_is_no_problem(url, policy, read):
    judged, answer = read(url, policy(selector={"service": "nobody"}, signals=PLAIN))
    assert judged == {"models/svc": {}}
    assert answer.problems == []
    assert answer.policies["models/svc"].problem is None


def test_a_target_that_dies_turns_stale_then_absent(prometheus, exporters, policy, read, wait_until):
    lines = 'http_request_duration_seconds_{}{{pod="{}",handler="/v1"}} {}\n'
    dying, living = exporters(), exporters()
    count = 0

    def serve_more(handler, pod):
        nonlocal count
        count += 1
        body = "".join(lines.format(metric, pod, count) for metric in ("sum", "count"))
        handler.reply(body.encode(), content_type="text/plain; version=0.0.4")

    dying.behave = lambda handler: serve_more(handler, "dying")
    living.behave = lambda handler: serve_more(handler, "living")
    url = prometheus((dying, {"service": "svc"}), (living, {"service": "svc"}))
    made = policy(signals={"preset": "fastapi", "window": "5s", "freshFor": "2s"})

    def kinds(name):
        found = read(url, made)[0][made.key]
        return type(found[name][Signal.RATE]) if name in found else None

    wait_until(lambda: kinds("dying") is Fresh and kinds("living") is Fresh)
    dying.behave = lambda handler: handler.reply(b"", 500)
    wait_until(lambda: kinds("dying") is Stale)
    assert kinds("living") is Fresh
    wait_until(lambda: kinds("dying") in {Absent, None})
    assert kinds("living") is Fresh


def test_a_dead_target_without_a_preset_is_never_fresh(prometheus, exporters, policy, read, wait_until):
    exporter = exporters('demo_count{pod="a"} 1\n')
    url = prometheus((exporter, {"service": "svc", "pod": "a"}))
    query = "sum by ($by) (rate(demo_count{$selector}[$window]))"
    made = policy(signals={"rate": {"query": query}, "window": "2m", "freshFor": "2s"})

    def rate():
        return read(url, made)[0][made.key].get("a", {}).get(Signal.RATE)

    wait_until(lambda: isinstance(rate(), Fresh))
    exporter.behave = lambda handler: handler.reply(b"", 500)
    wait_until(lambda: not isinstance(rate(), Fresh))
    assert isinstance(rate(), Stale)
