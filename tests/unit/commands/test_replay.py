"""`replay`: the journal's inputs under the policy as it is now."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from journal_world import KEY, NOW

from controller.commands.replay import run
from controller.errors import ConfigError, TrimtabError
from controller.journal.read import after
from controller.replay.recorded import snapshot_of
from controller.settings import Settings


def replayed(settings, capsys, **more):
    assert run(settings, KEY, since=more.pop("since", None), as_json=True, now=NOW) == 0
    return json.loads(capsys.readouterr().out)


def edit(settings, before, now):
    path = Path(settings.policies) / "model-service.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, now))


def test_the_same_policy_decides_the_same(settings, capsys):
    shown = replayed(settings, capsys)
    assert (shown["records"], shown["replayed"], shown["differ"]) == (3, 3, [])


def test_an_edited_policy_shows_which_numbers_would_be_others(settings, capsys):
    edit(settings, "concurrency: {}", "concurrency: {perInstance: 9}")
    edit(settings, "routing: {}", "routing: {maxChange: 5%}")
    shown = replayed(settings, capsys)
    numbers = {name: pair for step in shown["differ"] for name, pair in step["numbers"].items()}
    assert numbers["limit"]["now"] > numbers["limit"]["then"]
    assert abs(numbers["weight a"]["now"] - 1 / 3) < abs(numbers["weight a"]["then"] - 1 / 3)
    assert run(settings, "model-service", since="2026-11-27T14:00:10Z", as_json=False, now=NOW) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "models/model-service  2 of 2 records replayed, 2026-11-27T14:00:15Z to 2026-11-27T14:00:30Z"
    )
    assert "other numbers in 2 of them: weight 6 times" in text


def test_a_record_becomes_the_snapshot_that_made_it(settings):
    records = after(Path(settings.journal), KEY, 0.0)
    snapshot = snapshot_of(records[-1])
    b = next(i for i in snapshot.instances if i.name == "b")
    assert {s.value: type(x).__name__ for s, x in b.signals.items()} == {
        "latency": "Fresh", "rate": "Fresh", "errors": "Absent", "cpu": "Fresh", "inFlight": "Fresh",
    }  # fmt: skip
    assert snapshot.hpa.value.spec.max_replicas == 10
    assert snapshot.queue.value.depth == 40
    assert sum(snapshot.published.value.weights.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("more", "since", "error", "words"),
    [
        pytest.param({"journal": ""}, None, ConfigError, "replay needs a journal", id="no journal"),
        pytest.param({}, "1s ago", TrimtabError, "no record of models/model-service since then", id="nothing since"),
        pytest.param({}, "soon", ConfigError, "no time", id="no time"),
    ],
)
def test_one_clear_line_says_what_is_wrong(settings, more, since, error, words):
    with pytest.raises(error, match=words):
        run(replace(settings, **more), KEY, since=since, as_json=False, now=NOW)


def test_a_policy_that_only_the_journal_knows_cannot_decide(settings, tmp_path):
    (tmp_path / "none").mkdir()
    (Path(settings.policies) / "model-service.yaml").replace(tmp_path / "none" / "x.txt")
    empty = Settings(policies=str(tmp_path / "none"), journal=settings.journal)
    with pytest.raises(ConfigError):
        run(empty, KEY, since=None, as_json=False, now=NOW)
