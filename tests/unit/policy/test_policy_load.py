"""Loading: every fault of every file in one pass, each with its place, in plain words."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import PolicyError
from controller.policy.files import PolicyFile
from controller.policy.load import load_policies, parse, validate_paths
from controller.policy.presets import preset_names
from controller.policy.schema import Concurrency, Mode, Routing, Slo

ROOT = Path(__file__).parents[3]

PRESETS = ", ".join(preset_names())

MINIMAL = """\
apiVersion: trimtab/v1
kind: LoadPolicy
metadata: {name: a, namespace: models}
spec:
  instances: {selector: {service: a}}
  signals: {preset: fastapi}
"""

TEN_FAULTS = """\
# a comment first
apiVersion: trimtab/v1
kind: LoadPolicy
metadata: {name: My_Service}
spec:
  interval: 15
  mode: off
  instances:
    selector: {namespace: models, port: 8000}
    endpoint: "ftp://{pod_ip}"
  signals:
    preset: fast-api
    rate: {query: 'rate(x{$selektor}[1m])'}
    window: 1:30
  slo: {errors: 5}
  concurency: {}
  concurrency: {min: 5, max: 2, perInstance: "5"}
  scaling:
    target: {kind: DaemonSet, name: a}
    min: {floor: 9, ceiling: 4}
    max: {floor: 012, ceiling: 40}
    cpu:
"""


def faults_of(text: str) -> list[str]:
    try:
        parse([PolicyFile("p.yaml", text.encode())])
    except PolicyError as error:
        return [str(fault) for fault in error.faults]
    return []


def with_spec(*lines: str) -> str:
    return MINIMAL + "".join(f"  {line}\n" for line in lines)


def test_many_faults_in_one_pass_each_on_its_line():
    assert faults_of(TEN_FAULTS) == [
        "p.yaml:4: metadata.name: must be lower-case letters, digits, `-` and `.`, such as model-service; not My_Service",
        "p.yaml:6: spec.interval: a duration needs a unit, such as 15s",
        'p.yaml:7: spec.mode: YAML reads off as false; write false, or "off" in quotes if text is meant',
        'p.yaml:9: spec.instances.selector.port: must be text, not a number; write "8000" in quotes',
        "p.yaml:10: spec.instances.endpoint: must be a URL such as http://{pod_ip}:8000, or host:port such as {pod_ip}:8001",
        f"p.yaml:12: spec.signals.preset: there is no preset fast-api; did you mean fastapi? Known: {PRESETS}",
        "p.yaml:13: spec.signals.rate.query: unknown placeholder $selektor; known: $selector, $by, $window, $quantile, $pods",
        'p.yaml:14: spec.signals.window: YAML reads 1:30 as 90 (base 60); write 90, or "1:30" in quotes if text is meant',
        "p.yaml:15: spec.slo.errors: a ratio lies between 0 and 1 (0% and 100%), not at '5'; write 5% if percent is meant",
        "p.yaml:16: spec.concurency: unknown field; did you mean concurrency?",
        "p.yaml:17: spec.concurrency: min 5 is above max 2",
        "p.yaml:17: spec.concurrency.perInstance: must be a whole number, not the text 5",
        "p.yaml:18: spec.scaling.hpa: required",
        "p.yaml:19: spec.scaling.target.kind: must be Deployment, StatefulSet or ReplicaSet, not DaemonSet",
        "p.yaml:20: spec.scaling.min: floor 9 is above ceiling 4",
        'p.yaml:21: spec.scaling.max.floor: YAML reads 012 as 10 (octal); write 12, or "012" in quotes if text is meant',
        "p.yaml:22: spec.scaling.cpu: empty; write {} for the default target, or null for an HPA without a cpu metric",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("a: 1", "p.yaml:1: apiVersion: required", id="nothing-right"),
        pytest.param("- a", "p.yaml:1: a policy is a mapping of fields, not a list", id="list"),
        pytest.param("just words", "p.yaml:1: a policy is a mapping of fields, not just just words", id="text"),
        pytest.param("", "p.yaml:1: the file holds no policy", id="empty"),
        pytest.param(with_spec("scaling:"), "p.yaml:7: spec.scaling.hpa: required", id="empty-scaling"),
        pytest.param(with_spec("scaling: {hpa: h}"), "p.yaml:7: spec.scaling.target: required", id="no-target"),
        pytest.param(with_spec("interval: 500ms"), "p.yaml:7: spec.interval: must be at least 1s", id="short-interval"),
        pytest.param(with_spec("interval:"), "spec.interval: a duration is text such as", id="empty-interval"),
        pytest.param(with_spec("interval: 9999d"), "is longer than a year", id="long-interval"),
        pytest.param(with_spec("slo: {latency: 0s}"), "spec.slo.latency: must be at least 1ms", id="zero-latency"),
        pytest.param(
            with_spec("slo: [1]"), "spec.slo: must be a section with fields of its own, not a list", id="list-section"
        ),
        pytest.param(with_spec("slo: {quantile: 1}"), "spec.slo.quantile: must be below 1", id="quantile"),
        pytest.param(with_spec("mode: watch"), "spec.mode: must be enforce or observe, not watch", id="mode"),
        pytest.param(
            with_spec("concurrency: {max: 0}"), "spec.concurrency.max: must be at least 1, not 0", id="zero-max"
        ),
        pytest.param(
            with_spec("concurrency: {min: 500}"), "spec.concurrency: min 500 is above max 200", id="above-default"
        ),
        pytest.param(with_spec("concurrency: {min: 2.5}"), "must be a whole number, not 2.5", id="float"),
        pytest.param(
            with_spec("concurrency: {queue: a b}"), "spec.concurrency.queue: must be letters, digits", id="queue"
        ),
        *(
            pytest.param(with_spec(f"concurrency: {{output: {{{output}}}}}"), fault, id=f"output-{index}")
            for index, (output, fault) in enumerate(
                (
                    ("kind: sidekiq, queue: q", "spec.concurrency.output.kind: must be bullmq or celery, not sidekiq"),
                    ("kind: bullmq", "spec.concurrency.output.queue: required"),
                    ("kind: bullmq, queue: q, workers: a", "spec.concurrency.output: workers is not for bullmq"),
                    ("kind: celery, queue: q", "spec.concurrency.output: celery needs url or urlFile"),
                    ("kind: celery, queue: q, url: redis, prefix: a", "spec.concurrency.output.url: must be a URL"),
                    ("kind: celery, queue: q, url: 'redis://h', prefix: a", "output: prefix is not for celery"),
                    ("kind: bullmq, queue: q, url: 'redis://:pw@h'", "output.url: must not carry a user or password"),
                    ("kind: bullmq, queue: q, url: 'redis://h', urlFile: f", "output: give url or urlFile, not both"),
                )
            )
        ),
        pytest.param(with_spec("concurrency: {min: true}"), "must be a whole number, not true", id="bool"),
        pytest.param(
            with_spec("scaling: {hpa: h, target: {name: t}, cpu: {target: 90, between: [50, 80]}}"),
            "spec.scaling.cpu: target 90 lies outside between",
            id="outside-between",
        ),
        pytest.param(
            with_spec("scaling: {hpa: h, target: {name: t}, cpu: {between: [50]}}"),
            "spec.scaling.cpu.between: must have at least 2 entries",
            id="one-sided-between",
        ),
        pytest.param(
            with_spec("scaling: {hpa: h, target: {name: t}, cpu: null, memory: null}"),
            "spec.scaling: give at least one of cpu and memory",
            id="no-metric",
        ),
        pytest.param(
            with_spec("scaling: {target: {name: t}, min: {floor: 2, ceiling: 50}, max: {floor: 10, ceiling: 40}}"),
            "spec.scaling: min.ceiling 50 is above max.ceiling 40",
            id="min-above-max-beside-another-fault",
        ),
        pytest.param(
            MINIMAL.replace("service: a", "a-b: c"),
            "spec.instances.selector.a-b: must be a Prometheus label name",
            id="label-name",
        ),
        pytest.param(
            MINIMAL.replace("{service: a}", "{}"),
            "spec.instances.selector: must have at least 1 entry",
            id="no-selector",
        ),
        pytest.param(
            MINIMAL.replace("preset: fastapi", "window: 2m"),
            "spec.signals: give a preset, or at least one",
            id="no-signal",
        ),
        pytest.param(
            MINIMAL.replace("preset: fastapi", "rate: {query: '  '}"),
            "spec.signals.rate.query: must not be empty",
            id="blank-query",
        ),
        pytest.param(
            MINIMAL.replace("preset: fastapi", "rate: {query: 'sum(x'}"), "`(` and `)` do not pair up", id="unpaired"
        ),
        pytest.param(
            MINIMAL.replace("preset: fastapi", "preset: fastapi, prometheus: 'http://u:p@x'"),
            "must not carry a user or password",
            id="password",
        ),
        pytest.param(
            MINIMAL.replace("preset: fastapi", "preset: zzz"),
            "there is no preset zzz; known: bentoml, ",
            id="far-preset",
        ),
    ],
)
def test_faults_in_plain_words(text, fault):
    found = faults_of(text)
    assert any(fault in line for line in found), found


@pytest.mark.parametrize(
    ("endpoint", "ok"),
    [
        ("http://{pod_ip}:8000", True),
        ("https://{service}.models.svc:{port}/v1", True),
        ("{pod_ip}:8001", True),
        ("{instance}", True),
        ("model.example:9000", True),
        ("http://[fd00::1]:80", True),
        ("http://{pod_ip:8000", False),
        ("http://{}:8000", False),
        ("http://{pod-ip}:8000", False),
        ("http://{pod_ip}:notaport", False),
        ("http://{pod_ip}:99999", False),
        ("http://", False),
        ("{pod_ip}", True),
        ("model.example", False),
        ("grpc://{pod_ip}:1", False),
        ("http://u:p@{pod_ip}", False),
        ("http://a b:1", False),
    ],
)
def test_endpoints(endpoint, ok):
    text = MINIMAL.replace("{selector: {service: a}}", f"{{selector: {{service: a}}, endpoint: '{endpoint}'}}")
    assert (faults_of(text) == []) is ok


@pytest.mark.parametrize("empty", ["", " {}", " null"])
def test_an_empty_section_means_its_defaults_and_a_missing_one_means_off(empty):
    (loaded,) = parse(
        [PolicyFile("p.yaml", with_spec(f"routing:{empty}", f"concurrency:{empty}", f"slo:{empty}").encode())]
    )
    assert loaded.policy.spec.routing == Routing()
    assert loaded.policy.spec.concurrency == Concurrency()
    assert loaded.policy.spec.slo == Slo()
    (bare,) = parse([PolicyFile("p.yaml", MINIMAL.encode())])
    assert (bare.policy.spec.routing, bare.policy.spec.concurrency, bare.policy.spec.scaling) == (None, None, None)
    assert bare.policy.spec.slo == Slo()


def test_null_leaves_an_hpa_metric_out():
    text = with_spec("scaling: {hpa: h, target: {name: t}, memory: null}")
    (loaded,) = parse([PolicyFile("p.yaml", text.encode())])
    assert loaded.policy.spec.scaling.memory is None
    assert loaded.policy.spec.scaling.cpu.target == 70


SCALED = MINIMAL + "  concurrency: {}\n  scaling: {hpa: h, target: {name: t}}\n"


@pytest.mark.parametrize(
    ("second", "faults"),
    [
        pytest.param(
            MINIMAL,
            [
                "b.yaml:3: metadata.name: two policies have one name, models/a: this one in b.yaml and the one at a.yaml:3"
            ],
            id="name",
        ),
        pytest.param(
            SCALED.replace("name: a,", "name: b,").replace("{}", "{queue: q}").replace("name: t", "name: u"),
            [
                "b.yaml:8: spec.scaling.hpa: two policies have one HPA, models/h: this one in b.yaml and the one at a.yaml:8"
            ],
            id="hpa",
        ),
        pytest.param(
            SCALED.replace("name: a,", "name: b,").replace("{}", "{queue: q}").replace("hpa: h", "hpa: i"),
            [
                (
                    "b.yaml:8: spec.scaling.target.name: two policies have one scale target, models/Deployment/t: "
                    "this one in b.yaml and the one at a.yaml:8"
                )
            ],
            id="target",
        ),
        pytest.param(
            MINIMAL.replace("name: a,", "name: b,") + "  concurrency: {queue: model_requests}\n",
            [
                (
                    "b.yaml:7: spec.concurrency.queue: two policies have one queue, models/model_requests: "
                    "this one in b.yaml and the one at a.yaml:7"
                )
            ],
            id="queue-by-default",
        ),
        pytest.param(SCALED.replace("namespace: models", "namespace: other"), [], id="another-namespace"),
    ],
)
def test_policies_that_would_fight(second, faults):
    try:
        parse([PolicyFile("a.yaml", SCALED.encode()), PolicyFile("b.yaml", second.encode())])
        found = []
    except PolicyError as error:
        found = [str(fault) for fault in error.faults]
    assert found == faults


def test_several_documents_are_several_policies_with_lines_of_their_own():
    text = MINIMAL + "---\n" + MINIMAL.replace("name: a", "name: b") + "---\n" + MINIMAL.replace("name: a", "name: C")
    assert faults_of(text) == [
        "p.yaml:17: metadata.name: must be lower-case letters, digits, `-` and `.`, such as model-service; not C"
    ]
    loaded = parse([PolicyFile("p.yaml", text.rsplit("---", 1)[0].encode())])
    assert [(item.policy.key, item.line) for item in loaded] == [("models/a", 1), ("models/b", 8)]


def test_an_anchor_may_be_shared():
    text = MINIMAL.replace("{service: a}", "&s {service: a}") + "  slo: &slo {latency: 2s}\n"
    (loaded,) = parse([PolicyFile("p.yaml", text.encode())])
    assert loaded.policy.spec.slo.latency == 2.0


@pytest.mark.parametrize("name", ["fastapi", "generic", "triton", "vllm"])
def test_examples_stand_alone(name):
    path = ROOT / "policies" / f"{name}.yaml"
    assert validate_paths([path]) == ()
    assert path.read_text().startswith("# yaml-language-server: $schema=./policy.schema.json\n")


def test_examples_stand_together_with_the_defaults_that_users_asked_for():
    loaded = {item.policy.metadata.name: item.policy for item in load_policies(ROOT / "policies")}
    assert len(loaded) == 4
    spec = loaded["model-service"].spec
    assert spec.mode is Mode.ENFORCE
    assert (spec.scaling.min.floor, spec.scaling.max.floor) == (2, 10)
    assert (spec.scaling.cpu.target, spec.scaling.memory.target) == (70, 80)
    assert (spec.concurrency.perInstance, spec.concurrency.queue) == (5, "model_requests")


nodes = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["1s", "5%", "{", "a"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
fields = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "metadata.name",
        "spec",
        "spec.slo",
        "spec.slo.errors",
        "spec.instances.selector",
        "spec.instances.endpoint",
        "spec.signals",
        "spec.signals.preset",
        "spec.signals.rate",
        "spec.scaling",
        "spec.scaling.cpu",
        "spec.scaling.cpu.between",
        "spec.scaling.min",
        "spec.scaling.target",
        "spec.concurrency",
        "spec.concurrency.max",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(fields, nodes, min_size=1, max_size=4))
def test_any_value_anywhere_gives_a_policy_or_faults(replaced):
    import yaml  # noqa: PLC0415 - only to write what is then read

    value = yaml.safe_load(SCALED)
    for path, node in replaced.items():
        *parents, last = path.split(".")
        place = value
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = node
    data = yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace")
    try:
        parse([PolicyFile("p.yaml", data)])
    except PolicyError as error:
        faults = error.faults
    else:
        return
    assert faults
    assert all("\n" not in str(fault) for fault in faults)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_policies_or_faults(data):
    with pytest.raises(PolicyError):
        parse([PolicyFile("p.yaml", data)])
