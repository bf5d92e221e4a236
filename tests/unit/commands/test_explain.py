"""`explain` from a journal that real decisions on fixed snapshots have filled."""

import json
from pathlib import Path

import pytest
from journal_world import KEY, NOW

from controller.commands.explain import explain
from controller.commands.explained import Style, text
from controller.commands.instant import ago, instant
from controller.errors import ConfigError, TrimtabError
from controller.settings import Settings

GOLDEN = Path(__file__).with_name("explain.txt")


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


@pytest.mark.parametrize(
    ("bounds", "asked", "words"),
    [
        pytest.param((6, 10), 4, "these bounds alone start 2; 4 are asked for", id="min above"),
        pytest.param((2, 3), 4, "these bounds alone stop 1; 4 are asked for", id="max below"),
        pytest.param((2, 10), 4, "these bounds alone start and stop none; 4 are asked for", id="between"),
        pytest.param((6, 10), 0, "these bounds alone start and stop none; 0 are asked for", id="switched off"),
        pytest.param((6, None), 4, "", id="a bound is not known"),
        pytest.param((6, 10), None, "", id="replicas are not known"),
    ],
)
def test_what_the_bounds_do_by_themselves_is_said(settings, capsys, bounds, asked, words):
    shown = run(settings, capsys, as_json=True)
    sets = dict(zip(("minReplicas", "maxReplicas"), bounds, strict=True))
    row = {"before": 4, "asked": 4, "held": "", "reason": ""}
    proposals = [{"field": name, "after": n, **row} for name, n in sets.items() if n is not None]
    scale = {"unknown": "403"} if asked is None else {"spec_replicas": asked, "status_replicas": asked}
    inputs = {**shown["record"]["inputs"], "scale": scale}
    told = text({**shown, "record": {**shown["record"], "proposals": proposals, "inputs": inputs}}, Style())
    line = next((line for line in told.splitlines() if "within one sync" in line), "")
    assert line.partition("within one sync ")[2] == words


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
