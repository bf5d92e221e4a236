"""Presets: every query is parsed, and the main ones are evaluated, by Prometheus' own tool."""

import re
from pathlib import Path

import pytest
import yaml
from presets_world import filled, needs_promtool, promtool

from controller.model.sample import Signal
from controller.policy.presets import load_preset, preset_names
from controller.policy.presets.table import presets_page
from controller.policy.promql import PLACEHOLDERS, checked_query, fill, longest_range
from controller.policy.schema import PRESET_CPU_SECONDS, Signals

ROOT = Path(__file__).parents[3]


def queries():
    for name in preset_names():
        preset = load_preset(name)
        yield from ((name, signal.value, query) for signal, query in preset.queries.items())
        yield name, "age", preset.age


def sample(query, pod, value):
    service = "" if "$pods" in query else ',service="s"'
    return {"labels": f'{{namespace="models",pod="{pod}"{service}}}', "value": value}


def test_every_row_of_the_table_is_there():
    assert set(preset_names()) == {
        "bentoml", "dcgm", "envoy", "fastapi", "istio", "knative", "knative-legacy", "kserve", "kubernetes", "litellm",
        "ray-serve", "sglang", "tgi", "torchserve", "triton", "triton-trtllm", "trtllm-serve", "vllm",
    }  # fmt: skip


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_whole(name):
    preset = load_preset(name)
    assert preset.summary
    assert preset.source
    assert preset.requires
    known = {"summary", "source", "requires", "notes", "age", "queries", "extends"}
    raw = yaml.safe_load((ROOT / "controller/policy/presets" / f"{name}.yaml").read_text())
    assert set(raw) <= known
    for base in preset.extends:
        assert load_preset(base).queries.keys() <= preset.queries.keys()
    for metric in preset.requires:
        used = "\n".join([*preset.queries.values(), preset.age])
        assert re.search(rf"\b{re.escape(metric)}\b", used), f"{metric} is required but not used"


@pytest.mark.parametrize("query", [pytest.param(query, id=f"{name}-{signal}") for name, signal, query in queries()])
def test_queries_use_the_known_placeholders_safely(query):
    assert checked_query(query) == query
    assert "by ($by" in query
    assert "$selector" in query or "$pods" in query
    assert set(re.findall(r"\$([a-z]+)", query)) <= PLACEHOLDERS.keys()


@needs_promtool
def test_prometheus_parses_every_query(tmp_path):
    rules = [
        {"record": "x", "expr": filled(query), "labels": {"preset": name, "signal": signal}}
        for name, signal, query in queries()
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "presets", "rules": rules}]}))
    done = promtool("check", "rules", str(file))
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def series(metric, pod, values, **labels):
    base = {"namespace": "models", "service": "s", "pod": pod, **labels}
    inner = ",".join(f'{label}="{value}"' for label, value in base.items() if value)
    return {"series": f"{metric}{{{inner}}}", "values": values}


# Every 15 s; `0+30x40` is 2 per second for ten minutes, `7x40` stands still.
E2E = "vllm:e2e_request_latency_seconds"
FAST = "http_request_duration_seconds"
US = "nv_inference_request_duration_us"
KSM = {"service": "ksm"}
CADVISOR = {"service": "kubelet", "container": "app"}
WORLD = {
    "vllm": [
        *(series(f"{E2E}_sum", pod, "0+15x40") for pod in ("busy", "failing")),
        *(series(f"{E2E}_count", pod, "0+30x40") for pod in ("busy", "failing")),
        series(f"{E2E}_bucket", "busy", "0+30x40", le="1"),
        series(f"{E2E}_bucket", "busy", "0+30x40", le="+Inf"),
        series(f"{E2E}_sum", "idle", "7x40"),
        series(f"{E2E}_count", "idle", "7x40"),
        series("http_requests_total", "busy", "0+30x40", handler="/v1/completions", status="2xx"),
        series("http_requests_total", "busy", "0+90x40", handler="/health", status="5xx"),
        series("http_requests_total", "failing", "0+15x40", handler="/v1/completions", status="2xx"),
        series("http_requests_total", "failing", "0+15x40", handler="/v1/completions", status="5xx"),
        series("http_requests_total", "idle", "7x40", handler="/v1/completions", status="2xx"),
        series("vllm:num_requests_running", "busy", "3x40", engine="0"),
        series("vllm:num_requests_running", "busy", "1x40", engine="1"),
        series("vllm:num_requests_waiting", "busy", "2x40", engine="0"),
        series("vllm:num_requests_running", "idle", "0x40"),
        series("vllm:num_requests_waiting", "idle", "0x40"),
        series("vllm:kv_cache_usage_perc", "busy", "0.5x40", engine="0"),
        series("vllm:kv_cache_usage_perc", "busy", "0.25x40", engine="1"),
        series("vllm:gpu_cache_usage_perc", "failing", "0.75x40"),
    ],
    "triton": [
        series("nv_inference_request_success", "busy", "0+30x40"),
        series(US, "busy", "0+15000000x40"),
        series("nv_inference_request_success", "failing", "0+15x40"),
        series("nv_inference_request_failure", "failing", "0+15x40"),
        series(US, "failing", "0+15000000x40"),
        series("nv_inference_request_success", "idle", "7x40"),
        series("nv_inference_request_failure", "idle", "0x40"),
        series(US, "idle", "7x40"),
        series("nv_inference_request_failure", "broken", "0+30x40"),
        series("nv_inference_pending_request_count", "busy", "4x40"),
        series("nv_gpu_utilization", "busy", "0.5x40", gpu_uuid="a"),
        series("nv_gpu_utilization", "busy", "1x40", gpu_uuid="b"),
        series("nv_inference_request_summary_us", "busy", "250000x40", quantile="0.95"),
        series("nv_inference_request_summary_us", "busy", "900000x40", quantile="0.99"),
    ],
    "fastapi": [
        *(series(f"{FAST}_sum", pod, "0+15x40", handler="/predict") for pod in ("busy", "failing")),
        *(series(f"{FAST}_count", pod, "0+30x40", handler="/predict") for pod in ("busy", "failing")),
        series(f"{FAST}_sum", "busy", "0+900x40", handler="/health"),
        series(f"{FAST}_count", "busy", "0+900x40", handler="/health"),
        series(f"{FAST}_sum", "idle", "7x40", handler="/predict"),
        series(f"{FAST}_count", "idle", "7x40", handler="/predict"),
        series("http_requests_total", "busy", "0+30x40", handler="/predict", status="2xx"),
        series("http_requests_total", "failing", "0+15x40", handler="/predict", status="2xx"),
        series("http_requests_total", "failing", "0+15x40", handler="/predict", status="5xx"),
        series("http_requests_total", "idle", "7x40", handler="/predict", status="2xx"),
        series("http_requests_inprogress", "busy", "6x40", handler="/predict", method="POST"),
    ],
    "kubernetes": [
        *(series("up", pod, "1x40", job="a") for pod in ("busy", "asking", "unbound")),
        series("up", "busy", "1x40", job="b"),
        series("up", "other", "1x40", service="t"),
        *(
            series("container_cpu_usage_seconds_total", pod, "0+15x40", **CADVISOR)
            for pod in ("busy", "asking", "unbound", "other")
        ),
        series("container_cpu_usage_seconds_total", "busy", "0+900x40", service="kubelet"),
        series("container_cpu_usage_seconds_total", "busy", "0+900x40", service="kubelet", container="app", namespace="elsewhere"),
        *(series("container_memory_working_set_bytes", pod, "300x40", **CADVISOR) for pod in ("busy", "asking", "other")),
        *(
            series("kube_pod_container_resource_limits", "busy", "2x40", container="app", resource="cpu", instance=i, **KSM)
            for i in ("ksm-0", "ksm-1")
        ),
        series("kube_pod_container_resource_requests", "busy", "1x40", container="app", resource="cpu", **KSM),
        series("kube_pod_container_resource_requests", "asking", "4x40", container="app", resource="cpu", **KSM),
        series("kube_pod_container_resource_limits", "busy", "400x40", container="app", resource="memory", **KSM),
        series("kube_pod_container_resource_limits", "asking", "600x40", container="app", resource="memory", **KSM),
        series("kube_pod_container_resource_limits", "other", "600x40", container="app", resource="memory", **KSM),
    ],
    "dcgm": [
        *(series("up", pod, "1x40") for pod in ("exported", "plain", "old")),
        series("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "dcgm-x", "0.5x40", service="dcgm", namespace="gpu", exported_namespace="models", exported_pod="exported"),
        series("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "plain", "0.25x40", service="dcgm"),
        series("DCGM_FI_DEV_GPU_UTIL", "plain", "99x40", service="dcgm"),
        series("DCGM_FI_DEV_GPU_UTIL", "dcgm-x", "75x40", service="dcgm", namespace="gpu", exported_namespace="models", exported_pod="old"),
    ],
}  # fmt: skip

EXPECTED = [
    ("vllm", Signal.LATENCY, {"busy": 0.5, "failing": 0.5}),
    ("vllm", Signal.LATENCY_QUANTILE, {"busy": 0.95}),
    ("vllm", Signal.RATE, {"busy": 2, "failing": 2, "idle": 0}),
    ("vllm", Signal.ERRORS, {"busy": 0, "failing": 0.5}),
    ("vllm", Signal.UTILISATION, {"busy": 0.5, "failing": 0.75}),
    ("vllm", Signal.IN_FLIGHT, {"busy": 6, "idle": 0}),
    ("vllm", Signal.QUEUE, {"busy": 2, "idle": 0}),
    ("triton", Signal.LATENCY, {"busy": 0.5, "failing": 1}),
    ("triton", Signal.LATENCY_QUANTILE, {"busy": 0.25}),
    ("triton", Signal.RATE, {"busy": 2, "failing": 2, "idle": 0, "broken": 2}),
    ("triton", Signal.ERRORS, {"busy": 0, "failing": 0.5, "broken": 1}),
    ("triton", Signal.UTILISATION, {"busy": 0.75}),
    ("triton", Signal.IN_FLIGHT, {"busy": 1, "failing": 1, "idle": 0}),
    ("triton", Signal.QUEUE, {"busy": 4}),
    ("fastapi", Signal.LATENCY, {"busy": 0.5, "failing": 0.5}),
    ("fastapi", Signal.RATE, {"busy": 2, "failing": 2, "idle": 0}),
    ("fastapi", Signal.ERRORS, {"busy": 0, "failing": 0.5}),
    ("fastapi", Signal.IN_FLIGHT, {"busy": 6, "failing": 1, "idle": 0}),
    ("kubernetes", Signal.CPU, {"busy": 0.5, "asking": 0.25}),
    ("kubernetes", Signal.MEMORY, {"busy": 0.75, "asking": 0.5, "other": 0.5}),
    ("dcgm", Signal.UTILISATION, {"exported": 0.5, "plain": 0.25, "old": 0.75}),
]


def unit(name, world, check):
    return {"name": name, "interval": "15s", "input_series": world, "promql_expr_test": [check]}


@needs_promtool
def test_values_by_prometheus_itself(tmp_path):
    """An instance that never failed reads 0 errors; an idle one has no latency (NaN, which `>= 0` drops), not zero."""
    tests = []
    for name, signal, expected in EXPECTED:
        query = load_preset(name).queries[signal]
        samples = [sample(query, pod, value) for pod, value in expected.items()]
        check = {"expr": f"round(({filled(query)}) >= 0, 0.001)", "eval_time": "5m", "exp_samples": samples}
        tests.append(unit(f"{name} {signal.value}", WORLD[name], check))
    for name, pod in [
        ("vllm", "busy"),
        ("triton", "busy"),
        ("fastapi", "busy"),
        ("kubernetes", "busy"),
        ("dcgm", "plain"),
    ]:
        age = load_preset(name).age
        only = f'({filled(age)}) and on (pod) label_replace(vector(1), "pod", "{pod}", "", "")'
        tests.append(
            unit(f"{name} age", WORLD[name], {"expr": only, "eval_time": "5m", "exp_samples": [sample(age, pod, 300)]})
        )
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "tests": tests}))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_what_ends_with_its_series_is_not_replaced_by_another_measure(tmp_path):
    """A target lost at 285 s: at 300 s its rate still has a window to live, and what was in flight is not known."""
    ended = "0+30x18 stale"
    world = [
        series(f"{FAST}_sum", "exact", ended, handler="/predict"),
        series(f"{FAST}_count", "exact", ended, handler="/predict"),
        series("http_requests_inprogress", "exact", "6x18 stale"),
        series(f"{FAST}_sum", "little", ended, handler="/predict"),
        series(f"{FAST}_count", "little", ended, handler="/predict"),
    ]
    queries = load_preset("fastapi").queries
    expected = {Signal.RATE: {"exact": 1.25, "little": 1.25}, Signal.IN_FLIGHT: {"little": 1.25}}
    tests = [
        unit(
            signal.value,
            world,
            {
                "expr": f"round({filled(queries[signal])}, 0.001)",
                "eval_time": "5m",
                "exp_samples": [sample(queries[signal], pod, value) for pod, value in values.items()],
            },
        )
        for signal, values in expected.items()
    ]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "tests": tests}))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_value_that_looks_like_a_placeholder_is_left_alone():
    assert fill("x{$selector}[$window]", selector='a="$window"', window="60s") == 'x{a="$window"}[60s]'


@pytest.mark.parametrize(
    "query", ['x{a=~"b$"}', "x{a=~'b$'}", 'label_replace(x, "a", "$1", "b", "(.+)")', "x{$selector,a=~`b$`}"]
)
def test_a_dollar_inside_a_string_is_no_placeholder(query):
    assert checked_query(query) == query


def test_an_unknown_preset_is_a_key_error():
    with pytest.raises(KeyError):
        load_preset("../fastapi")


def test_the_page_of_presets_is_in_step():
    assert (ROOT / "docs/presets.md").read_text() == presets_page()


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        pytest.param("sum by ($by) (x{$selector})", 0.0, id="a gauge"),
        pytest.param("rate(x{$selector}[$window])", 60.0, id="the window"),
        pytest.param("rate(x{$selector}[${window}]) / rate(y[ 2m ])", 120.0, id="the longest"),
        pytest.param("avg_over_time(rate(x[1m])[1m30s:15s])", 90.0, id="a subquery"),
        pytest.param(
            'x / last_over_time(y{a=~"b|c"}[5m]) / max_over_time(x[30s] offset 1h)', 30.0, id="only looked back"
        ),
        pytest.param('x{a="[9m]"} + y[1y] + z[1w', 0.0, id="none that can be read"),
    ],
)
def test_what_a_query_is_a_mean_over(query, seconds):
    assert longest_range(query, 60.0) == seconds


@pytest.mark.parametrize("name", [name for name in preset_names() if Signal.CPU in load_preset(name).queries])
def test_every_preset_has_its_cpu_over_the_same_time(name):
    assert longest_range(load_preset(name).queries[Signal.CPU], 60.0) == PRESET_CPU_SECONDS
    assert Signals(preset=name).cpu_seconds == PRESET_CPU_SECONDS


def test_a_cpu_of_ones_own_covers_what_its_query_says():
    own = Signals.model_validate(
        {"preset": "fastapi", "window": "30s", "cpu": {"query": "rate(x{$selector}[$window])"}}
    )
    assert own.cpu_seconds == 30.0
