"""The demo's machinery, on a shorter story and an emulated API, with a stand-in for the daemon."""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from controller.demo import command, script
from controller.demo.stage import Stage
from controller.errors import ConfigError
from controller.lab import process
from controller.lab.load import ROUND_ROBIN, TRIMTAB, Phase
from controller.lab.process import LabError, Process, wait_until

pytestmark = pytest.mark.integration
STAND_IN = Path(__file__).with_name("stand_in.py")
PHASES = tuple(
    Phase(phase.name, seconds, 25.0) for phase, seconds in zip(script.PHASES, (0.5, 1.0, 3.5, 1.0), strict=True)
)


@pytest.fixture
def stages(monkeypatch):
    made = []

    def start_stand_in(self, port):
        made.append(self)
        self.listen = "127.0.0.1:9"
        self.policies.mkdir()
        command = [sys.executable, str(STAND_IN), self.redis.url, str(self.cluster.kubeconfig), str(port)]
        self.controller = Process.start("stand-in", command, log=self.folder / "err.log", stdout=self.decisions)
        self._stack.callback(self.controller.stop)
        wait_until(lambda: self.ranking() is not None, 10, "the ranking")

    monkeypatch.setattr(Stage, "_start_controller", start_stand_in)
    monkeypatch.setattr("controller.demo.stage.find_binaries", lambda: "none for this test")
    monkeypatch.setattr(script, "PHASES", PHASES)
    return made


@pytest.fixture
def left_running(monkeypatch):
    """Asks which of the processes that were started since then are still there."""
    started = []
    add = process._guard.add

    def note(group):
        started.append(group)
        add(group)

    monkeypatch.setattr(process._guard, "add", note)

    def left():
        assert started
        return [pid for pid in started if Path(f"/proc/{pid}").exists()]

    return left


def test_it_plays_to_the_end_and_leaves_nothing_running(stages, left_running, tmp_path, capsys):
    status = command.demo_main(str(tmp_path / "out.json"), keep=False)
    result = json.loads((tmp_path / "out.json").read_text())
    assert status == (0 if result["ok"] else 1)
    by_name = {check["name"]: check["ok"] for check in result["checks"]}
    assert by_name["the limit changed at least once"]
    assert by_name["the HPA's bounds changed at least once"]
    assert [phase["phase"] for phase in result["phases"]] == [phase.name for phase in PHASES]
    counts = {side: result["overall"][side]["count"] for side in (ROUND_ROBIN, TRIMTAB)}
    assert counts[ROUND_ROBIN] == counts[TRIMTAB] > 80
    assert result["kubernetes"] == "emulated"
    assert result["overall"][ROUND_ROBIN]["failed"] == result["overall"][TRIMTAB]["failed"] == 0
    text = capsys.readouterr().out
    assert "limit 32 -> 40 (the stand-in says so)" in text
    assert "minReplicas 4 -> 5 (the stand-in says so)" in text
    assert left_running() == []
    assert not stages[0].folder.exists()


def interrupt_when(condition, number):
    def wait_and_send():
        wait_until(condition, 30, "the moment to interrupt")
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait_and_send, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("number", "keep", "status"),
    [
        pytest.param(signal.SIGINT, False, 130, id="Ctrl-C while it plays"),
        pytest.param(signal.SIGTERM, False, 143, id="TERM while it plays"),
        pytest.param(signal.SIGINT, True, None, id="Ctrl-C ends --keep"),
    ],
)
def test_an_interrupt_cleans_up(stages, left_running, capsys, number, keep, status):  # noqa: PLR0917 - fixtures and table
    handler = signal.getsignal(number)

    def moment():
        if not keep:
            return bool(stages) and stages[0].rows.exists()
        kept = stages[0].folder / "kept.jsonl" if stages else None
        return kept is not None and kept.exists() and kept.stat().st_size > 0  # so all has been said

    thread = interrupt_when(moment, number)
    got = command.demo_main(None, keep=keep)
    thread.join()
    assert got == status or (status is None and got in {0, 1})
    assert left_running() == []
    assert signal.getsignal(number) is handler
    if keep:
        assert f"Prometheus:    {stages[0].prometheus.url}" in capsys.readouterr().out


def test_a_part_that_dies_ends_it_with_one_message(stages, left_running):

    def kill_it():
        wait_until(lambda: bool(stages) and stages[0].rows.exists(), 30, "the load")
        stages[0].controller.kill()

    thread = threading.Thread(target=kill_it, daemon=True)
    thread.start()
    with pytest.raises(LabError, match="stand-in ended with status -9"):
        command.demo_main(None, keep=False)
    thread.join()
    assert left_running() == []


def test_a_file_that_cannot_be_written_is_told_before_anything_starts(stages, tmp_path):
    with pytest.raises(ConfigError, match=r"--json .*missing/out\.json: No such file"):
        command.demo_main(str(tmp_path / "missing" / "out.json"), keep=False)
    assert not stages
