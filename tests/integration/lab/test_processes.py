"""Whatever ends the owner of the control plane's processes, they and their data go with it."""

import os
import signal
import subprocess
import sys

import pytest
from support.eventually import eventually

from controller.lab.cluster.processes import Processes, StartError, free_ports

pytestmark = pytest.mark.integration

OWNER = """
import pathlib, signal, sys, time
from controller.lab.cluster.processes import Processes
folder = pathlib.Path(sys.argv[1])
processes = Processes(folder / "logs", remove=[folder / "run"])
# The child makes a child of its own: the whole group has to go.
child = processes.start("sleeper", ["/bin/sh", "-c", "sleep 1000 & echo $!; wait"])
print(child, processes._guard.pid, flush=True)
time.sleep(1000)
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - one word of one file
            return file.read().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def owner(tmp_path):
    """A process that owns a sleeper, and the pids of sleeper, guard and the sleeper's own child."""
    (tmp_path / "run").mkdir()
    process = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE, text=True)
    child, guard = map(int, process.stdout.readline().split())
    log = tmp_path / "logs" / "sleeper.log"
    grandchild = int(eventually(lambda: log.exists() and log.read_text().strip()))
    yield process, child, guard, grandchild
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_outlives_an_owner_that_is_killed(owner, tmp_path, number):
    process, *others = owner
    assert all(map(alive, others))
    process.send_signal(number)
    eventually(lambda: not any(map(alive, others)))
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "logs").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills the children of a killed process")
def test_the_kernel_ends_the_children_of_a_killed_guard(owner):
    _, child, guard, grandchild = owner
    os.kill(guard, signal.SIGKILL)
    eventually(lambda: not alive(child))
    os.kill(grandchild, signal.SIGKILL)  # the programs of the control plane have no children


def test_stop_ends_even_a_paused_process(tmp_path):
    (tmp_path / "run").mkdir()
    processes = Processes(tmp_path / "logs", remove=[tmp_path / "run"])
    pid = processes.start("sleeper", ["/bin/sleep", "1000"])
    processes.signal("sleeper", signal.SIGSTOP)
    processes.stop()
    processes.stop()
    assert not alive(pid)
    assert not (tmp_path / "run").exists()
    with pytest.raises(StartError, match="stopped"):
        processes.exit_code("sleeper")


def test_a_program_that_cannot_be_run_is_a_clear_error(tmp_path):
    processes = Processes(tmp_path / "logs")
    try:
        with pytest.raises(StartError, match=r"nonesuch.*No such file"):
            processes.start("nonesuch", ["/nonesuch/program"])
    finally:
        processes.stop()


def test_free_ports_differ():
    assert len(set(free_ports(20))) == 20
