"""`explain` from a journal that real decisions on fixed snapshots have filled."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.commands.explain import explain
from controller.commands.explained import Style, text
from controller.commands.instant import ago, instant
from controller.decide.decide import decide
from controller.errors import ConfigError, TrimtabError
from controller.journal.file import Journal
from controller.journal.record import decision_record, detail
from controller.model.memory import Memory
from controller.model.outcome import Outcome, Result
from controller.model.sample import Absent, Fresh, Signal, Stale
from controller.model.snapshot import (
    HpaSpec,
    HpaView,
    Instance,
    Known,
    Published,
    QueueView,
    ResourceTarget,
    ScaleView,
    ServiceSnapshot,
)
from controller.policy.schema import LoadPolicy
from controller.settings import Settings

KEY = "models/model-service"
BEGUN = datetime(2026, 11, 27, 14, 0, tzinfo=UTC).timestamp()
NOW = datetime(2026, 11, 27, 14, 5, tzinfo=UTC)
GOLDEN = Path(__file__).with_name("explain.txt")
POLICY = """\
apiVersion: trimtab/v1
kind: LoadPolicy
metadata: {name: model-service, namespace: models}
spec:
  instances: {selector: {service: model-service}}
  signals: {preset: fastapi}
  routing: {}
  concurrency: {}
  scaling: {hpa: h, target: {name: model-service}}
"""


WELL = Fresh(0.0, 3.0)


def seen(name, rate, cpu, *, latency=0.12, errors=WELL, inside=2.0):
    signals = {
        Signal.LATENCY: Fresh(latency, 3.0),
        Signal.RATE: Fresh(rate, 3.0),
        Signal.ERRORS: errors,
        Signal.CPU: Fresh(cpu, 3.0),
        Signal.IN_FLIGHT: Fresh(inside, 3.0),
    }
    return Instance(name, f"http://{name}:8000", signals, ready=True, uid=name)


LOOKS = [
    [seen("a", 20.0, 0.5), seen("b", 20.0, 0.5), seen("c", 20.0, 0.5)],
    [seen("a", 20.0, 0.5), seen("b", 20.0, 0.8, errors=Fresh(0.04, 3.0)), seen("c", 20.0, 0.5, inside=300.0)],
    [seen("a", 20.0, 0.5), seen("b", 20.0, 0.8, errors=Absent("no series answered")), seen("c", 20.0, 0.5, errors=Stale(0.0, 75.0))],
]  # fmt: skip


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/model-service.yaml").write_text(POLICY)
    journal = Journal(tmp_path / "journal")
    policy = LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1", "kind": "LoadPolicy", "metadata": {"name": "model-service", "namespace": "models"},
            "spec": {"instances": {"selector": {"service": "model-service"}}, "signals": {"preset": "fastapi"}, "routing": {},
                     "concurrency": {}, "scaling": {"hpa": "h", "target": {"name": "model-service"}}},
        }
    )  # fmt: skip
    memory, said = Memory(), None
    for tick, fleet in enumerate(LOOKS):
        spec = HpaSpec("Deployment", "model-service", 2, 10, (ResourceTarget("cpu", 70), ResourceTarget("memory", 80)))
        service = ServiceSnapshot(
            KEY, BEGUN + 15.0 * tick, tuple(fleet), published=Known(said), queue=Known(QueueView(40, 12)),
            hpa=Known(HpaView(spec, current_replicas=3, desired_replicas=3, adopted=True)), scale=Known(ScaleView(3, 3)),
        )  # fmt: skip
        plan, memory = decide(policy, service, memory)
        said = Published(tick + 1, 1, plan.publish.limit, {e.instance: e.weight for e in plan.publish.endpoints})
        record = decision_record(plan, [Outcome(KEY, "publish", Result.DONE)], applied=True)
        assert journal.write(service.at, {**record, **detail(plan, service)}) is None
    return Settings(policies=str(tmp_path / "policies"), journal=str(tmp_path / "journal"), kubernetes="off")


def run(settings, capsys, *, at=None, as_json=False, policy="model-service"):
    assert explain(settings, policy, at=at, as_json=as_json, now=NOW) == 0
    out = capsys.readouterr().out
    return json.loads(out) if as_json else out


def test_the_text_for_people(settings, capsys):
    found = run(settings, capsys, at="14:00:20")
    assert found == GOLDEN.read_text()


def test_a_narrow_page_has_a_block_per_instance(settings, capsys):
    shown = run(settings, capsys, as_json=True)
    lines = text(shown, Style(width=60)).splitlines()
    assert "  b" in lines
    assert any(line.startswith("    capacity: ") for line in lines)
    assert "\x1b[1mWEIGHTS\x1b[0m" in text(shown, Style(60, colour=True))


def test_the_last_record_says_what_is_missing(settings, capsys):
    out = run(settings, capsys)
    assert "from the journal, 270 s ago" not in out
    assert "absent: no series answered" in out
    assert "stale 75 s" in out
    assert "errors not known now" in out


def test_json_holds_every_step_as_a_number(settings, capsys):
    shown = run(settings, capsys, at="2026-11-27T14:00:15Z", as_json=True)
    assert shown["source"] == "journal"
    assert shown["age_seconds"] == 285.0
    rows = {row["instance"]: row for row in shown["record"]["endpoints"]}
    assert rows["b"]["errors_factor"] == pytest.approx(0.96 * 0.8 / 0.84)
    assert rows["b"]["capacity"] < rows["a"]["capacity"]
    assert rows["c"]["share_by_backlog"] < rows["c"]["share_by_capacity"]
    assert rows["c"]["step_low"] <= rows["c"]["weight"] <= rows["c"]["step_high"]
    assert {p["field"] for p in shown["record"]["proposals"]} == {"limit", "minReplicas", "maxReplicas"}


def test_what_changed_since_is_summed_up(settings, capsys):
    shown = run(settings, capsys, at="14:00:00", as_json=True)
    moved = {change["field"]: change for change in shown["since"]}
    assert moved["weight c"]["times"] >= 1
    assert moved["weight c"]["before"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("policy", "at", "error", "words"),
    [
        pytest.param("nope", None, ConfigError, "nope: no such policy; known are models/model-service", id="policy"),
        pytest.param(KEY, "13:59", TrimtabError, "the first record of models/model-service is of 2026-11-27T14:00:00", id="early"),
        pytest.param(KEY, "soon", ConfigError, "--at 'soon': no time", id="no time"),
        pytest.param(KEY, "25:00", ConfigError, "--at '25:00': no time", id="no clock time"),
    ],
)  # fmt: skip
def test_one_clear_line_says_what_is_wrong(settings, policy, at, error, words):
    with pytest.raises(error, match=words.replace("(", r"\(")):
        explain(settings, policy, at=at, as_json=False, now=NOW)


def test_a_time_needs_a_journal(settings):
    with pytest.raises(ConfigError, match="--at needs a journal"):
        explain(Settings(policies=settings.policies), KEY, at="1m ago", as_json=False, now=NOW)


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_journal_without_records_says_so(settings, tmp_path, state):
    folder = tmp_path / "other"
    if state == "empty":
        folder.mkdir()
    other = Settings(policies=settings.policies, journal=str(folder))
    with pytest.raises(
        TrimtabError, match="No such file" if state == "missing" else "no record of models/model-service"
    ):
        explain(other, KEY, at="1m ago", as_json=False, now=NOW)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("10m ago", NOW.timestamp() - 600),
        ("90s", NOW.timestamp() - 90),
        ("1.5h ago", NOW.timestamp() - 5400),
        ("14:01", NOW.timestamp() - 240),
        ("2026-11-27T14:05:00Z", NOW.timestamp()),
        ("2026-11-27T22:05:00+08:00", NOW.timestamp()),
        ("2026-11-27T14:05", NOW.timestamp()),
    ],
)
def test_times_as_people_write_them(words, expected):
    assert instant(words, NOW) == expected


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1.0, "0 s"), (12.0, "12 s"), (300.0, "5 min"), (7200.0, "2 h"), (200000.0, "2 days")]
)
def test_ages_in_words(seconds, words):
    assert ago(seconds) == words
