from __future__ import annotations

import math

import pytest

from controller.model.sample import Absent, Fresh, Invalid, Signal, Stale
from controller.model.snapshot import Known, NotAsked, Unknown
from controller.observe.attribution import PolicyMetrics, attribute, found_metrics, samples
from controller.observe.instances import complete, endpoint_of, instances_of
from controller.observe.kubernetes import KubeView, Pod
from controller.observe.prometheus import Answer, Series
from controller.observe.promql import Age, questions, requirements, wants_of
from controller.policy.presets import load_preset

AT = 1_790_000_000.0
RATE = {"rate": {"query": "sum by ($by) (rate(r{$selector}[$window]))"}}
LATENCY = {"latency": {"query": "sum by ($by) (l{$selector})"}}
CPU = {"cpu": {"query": "sum by ($by) (c{$pods})"}}


def labels(pod, service="svc", **more):
    return {"namespace": "models", "service": service, "pod": pod, **more}


def metrics_of(values, age=1.0):
    metrics = PolicyMetrics(values={signal: {"p1": [value]} for signal, value in values.items()})
    if age is not None:
        metrics.values[Age.NEWEST] = {"p1": [AT - age]}
    return metrics


def judge(policy, metrics, name="p1"):
    return samples(wants_of(policy, None), metrics, name, AT)


@pytest.mark.parametrize(
    ("value", "age", "kind"),
    [
        pytest.param(0.2, 5.0, Fresh, id="fresh"),
        pytest.param(0.2, -5.0, Fresh, id="clock ahead"),
        pytest.param(0.2, 61.0, Stale, id="old"),
        pytest.param(0.2, None, Stale, id="age not known"),
        pytest.param(math.nan, 5.0, Invalid, id="NaN"),
        pytest.param(math.inf, 5.0, Invalid, id="+Inf"),
        pytest.param(math.nan, None, Invalid, id="NaN of unknown age"),
        pytest.param(-1.0, 5.0, Invalid, id="negative"),
        pytest.param(0.0, 5.0, Fresh, id="zero"),
    ],
)
def test_judging(policy, value, age, kind):
    made = policy(signals=LATENCY)
    assert isinstance(judge(made, metrics_of({Signal.LATENCY: value}, age))[Signal.LATENCY], kind)


def test_an_unknown_age_is_stale_however_long_samples_stay_fresh(policy):
    made = policy(signals={**LATENCY, "freshFor": "1h"})
    sample = judge(made, metrics_of({Signal.LATENCY: 1.0}, None))[Signal.LATENCY]
    assert isinstance(sample, Stale)
    assert sample.age_seconds > 3600


def test_no_up_series_at_all_counts_as_new(policy):
    made = policy(signals=LATENCY)
    metrics = metrics_of({Signal.LATENCY: 1.0}, None)
    metrics.age_unknown = True
    assert judge(made, metrics)[Signal.LATENCY] == Fresh(1.0, 0.0)


@pytest.mark.parametrize(
    ("rate", "age", "expected"),
    [
        pytest.param(0.0, 1.0, Absent, id="idle"),
        pytest.param(2.0, 1.0, Invalid, id="busy"),
        pytest.param(0.0, 90.0, Invalid, id="stale rate"),
    ],
)
def test_a_mean_over_no_requests_is_idle(policy, rate, age, expected):
    made = policy(signals={**RATE, **LATENCY})
    sample = judge(made, metrics_of({Signal.RATE: rate, Signal.LATENCY: math.nan}, age))[Signal.LATENCY]
    assert isinstance(sample, expected)
    assert ("idle" in sample.reason) == (expected is Absent)


def test_two_series_for_one_instance_are_no_number(policy):
    made = policy(signals=LATENCY)
    metrics = metrics_of({Signal.LATENCY: 1.0})
    metrics.values[Signal.LATENCY]["p1"].append(2.0)
    assert "2 series" in judge(made, metrics)[Signal.LATENCY].reason


def test_a_missing_required_metric_is_named(policy):
    made = policy()
    metrics = PolicyMetrics(missing=("http_request_duration_seconds_count",))
    reasons = {s.reason for s in samples(wants_of(made, load_preset("fastapi")), metrics, "p1", AT).values()}
    assert reasons == {
        (
            'http_request_duration_seconds_count has no series for {namespace="models", service="svc"}: '
            "is the preset fastapi right?"
        )
    }


def test_series_go_to_the_policy_whose_labels_they_carry(policy):
    a, b = policy("a", signals=RATE), policy("b", signals=RATE)
    wants = [*wants_of(a, None)[:1], *wants_of(b, None)[:1]]
    (question,) = questions(wants)
    into = {a.key: PolicyMetrics(), b.key: PolicyMetrics()}
    series = (
        Series(labels("p1", "a"), 1.0),
        Series(labels("p2", "b"), 2.0),
        Series(labels("p3", "other"), 3.0),
        Series({"pod": "p4"}, 4.0),
        Series({"namespace": "models", "service": "a"}, 5.0),
    )
    attribute(question, Answer(series, ("one store did not answer",)), into)
    assert into[a.key].values == {Signal.RATE: {"p1": [1.0]}}
    assert into[b.key].values == {Signal.RATE: {"p2": [2.0]}}
    assert into[a.key].problem == into[b.key].problem == "partial answer: one store did not answer"


def test_pod_series_join_by_namespace_and_name_and_make_no_instance(policy):
    made = policy(signals={**CPU, **RATE})
    into = {made.key: PolicyMetrics()}
    wants = wants_of(made, None)
    answers = {
        Signal.CPU: (
            Series({"namespace": "models", "pod": "p1"}, 0.5),
            Series({"namespace": "models", "pod": "db"}, 0.9),
            Series({"namespace": "elsewhere", "pod": "p1"}, 0.7),
        ),
        Signal.RATE: (Series(labels("p1"), 1.0),),
        Age.NEWEST: (Series(labels("p1"), AT - 2),),
        Age.TARGET: (Series(labels("p1"), 1.0),),
    }
    for question in questions(wants):
        attribute(question, Answer(answers[question.wants[0].what]), into)
    (instance,) = instances_of(made, wants, into[made.key], KubeView(), AT)
    assert (instance.name, instance.signal(Signal.CPU)) == ("p1", Fresh(0.5, 2.0))


def test_a_plain_query_keeps_out_series_of_another_service(policy):
    made = policy(signals={"rate": {"query": "sum by (pod, service) (r)"}})
    into = {made.key: PolicyMetrics()}
    (question,) = questions(wants_of(made, None)[:1])
    attribute(question, Answer((Series({"pod": "p1"}, 1.0), Series({"pod": "p2", "service": "other"}, 2.0))), into)
    assert into[made.key].values[Signal.RATE] == {"p1": [1.0]}


def test_the_younger_generations_labels_make_the_endpoint(policy):
    made = policy(key="pod", endpoint="http://{pod_ip}:{port}", signals=RATE)
    into = {made.key: PolicyMetrics()}
    wants = wants_of(made, None)
    question = questions(wants)[-1]
    young, old = labels("p1", pod_ip="10.0.0.2", port="80"), labels("p1", pod_ip="10.0.0.1", port="80")
    attribute(question, Answer((Series(young, AT - 1), Series(old, AT - 50))), into)
    (instance,) = instances_of(made, wants, into[made.key], KubeView(), AT)
    assert instance.endpoint == "http://10.0.0.2:80"


def test_requirements_are_found_by_policy(policy):
    a, b = policy("a"), policy("b")
    preset = load_preset("fastapi")
    ages = [wants_of(p, preset)[-1] for p in (a, b)]
    (question,) = requirements(ages, {"fastapi": preset.requires})
    assert '{__name__=~"http_request_duration_seconds_count", namespace="models",service=~"a|b"}' in question.query
    found = found_metrics(
        question, Answer((Series(labels("p", "a", __name__="http_request_duration_seconds_count"), 1),))
    )
    assert found == {a.key: {"http_request_duration_seconds_count"}, b.key: set()}


def pod(name, ip="10.0.0.1", **more):
    return Pod(
        **{"name": name, "uid": f"u-{name}", "ip": ip, "ready": True, "started_at": 1.0, "terminating": False} | more
    )


def seen(*names):
    return PolicyMetrics(values={Age.NEWEST: {name: [AT] for name in names}})


@pytest.mark.parametrize(
    ("key", "names", "kube", "expected"),
    [
        pytest.param(
            "pod", ["a", "gone"], KubeView(pods=Known((pod("a"), pod("new"))), selected=True), ["a", "new"], id="union"
        ),
        pytest.param("pod", ["a", "gone"], KubeView(pods=Known((pod("a"), pod("db")))), ["a"], id="whole namespace"),
        pytest.param("pod", ["a", "gone"], KubeView(pods=Unknown("down"), selected=True), ["a", "gone"], id="unknown"),
        pytest.param("pod", ["a"], KubeView(), ["a"], id="not asked"),
        pytest.param(
            "instance",
            ["10.0.0.1:80"],
            KubeView(pods=Known((pod("a"),)), selected=True),
            ["10.0.0.1:80"],
            id="by address",
        ),
    ],
)
def test_which_instances_there_are(policy, key, names, kube, expected):
    made = policy(key=key, signals=RATE)
    found = instances_of(made, wants_of(made, None), seen(*names), kube, AT)
    assert [instance.name for instance in found] == expected


def test_pods_say_what_series_cannot(policy):
    made = policy(endpoint="http://{pod_ip}:8000", signals=RATE)
    kube = KubeView(
        pods=Known(
            (
                pod("a", terminating=True, ready=False, created_at=0.5, ready_at=2.0),
                pod("b", ip=None),
                pod("c", ip="fd00::1"),
            )
        ),
        selected=True,
    )
    a, b, c = instances_of(made, wants_of(made, None), PolicyMetrics(), kube, AT)
    assert (a.endpoint, a.ready, a.terminating, a.uid, a.started_at) == (
        "http://10.0.0.1:8000",
        False,
        True,
        "u-a",
        1.0,
    )
    assert (a.created_at, a.ready_at) == (0.5, 2.0)
    assert b.endpoint is None
    assert c.endpoint == "http://[fd00::1]:8000"


def test_by_address_matches_the_whole_address(policy):
    made = policy(key="instance", signals=RATE)
    kube = KubeView(pods=Known((pod("a", ip="10.0.0.1"), pod("b", ip="10.0.0.12"))), selected=True)
    (found,) = instances_of(made, wants_of(made, None), seen("10.0.0.12:80"), kube, AT)
    assert found.uid == "u-b"


@pytest.mark.parametrize(
    ("kube", "problem", "expected"),
    [
        pytest.param(KubeView(pods=Known(()), selected=True), "down", True, id="pods of the target"),
        pytest.param(KubeView(pods=Unknown("x"), selected=True), None, False, id="Kubernetes down"),
        pytest.param(KubeView(pods=NotAsked()), None, True, id="metrics whole"),
        pytest.param(KubeView(pods=NotAsked()), "partial", False, id="metrics partial"),
        pytest.param(KubeView(pods=Known(())), "partial", False, id="namespace and partial"),
    ],
)
def test_when_the_list_is_complete(policy, kube, problem, expected):
    metrics = seen("p1")
    metrics.problem = problem
    assert complete(policy(signals=RATE), metrics, kube) is expected


def test_without_kubernetes_an_empty_answer_proves_nobody_gone(policy):
    assert complete(policy(signals=RATE), PolicyMetrics(), KubeView()) is False


def test_a_target_that_does_not_answer_is_an_instance_without_samples(policy):
    made = policy(signals=RATE, endpoint="http://{pod}:8000")
    wants = wants_of(made, None)
    into = {made.key: PolicyMetrics()}
    for question in questions(wants):
        found = (Series(labels("p1"), 0.0),) if question.wants[0].what is Age.TARGET else ()
        attribute(question, Answer(found), into)
    (instance,) = instances_of(made, wants, into[made.key], KubeView(), AT)
    assert (instance.endpoint, type(instance.signal(Signal.RATE))) == ("http://p1:8000", Absent)


@pytest.mark.parametrize(
    ("template", "found", "expected"),
    [
        pytest.param("http://{instance}", {"instance": "h:1"}, "http://h:1", id="label"),
        pytest.param("http://{host}:{port}", {"host": "h"}, None, id="a part is not known"),
        pytest.param("http://fixed", {}, "http://fixed", id="no braces"),
        pytest.param("http://{pod_ip}:1", {"pod_ip": "1.2.3.4"}, "http://1.2.3.4:1", id="pod_ip label"),
    ],
)
def test_endpoints(template, found, expected):
    assert endpoint_of(template, found, None) == expected
