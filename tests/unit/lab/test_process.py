import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from controller.lab.ports import can_bind, free_port
from controller.lab.process import LabError, Process, http_ready, tcp_ready, wait_until

PYTHON = sys.executable


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_output_goes_to_the_log_and_stdout_apart_when_asked(tmp_path):
    script = "import sys; print('out'); print('err', file=sys.stderr)"
    process = Process.start("p", [PYTHON, "-c", script], log=tmp_path / "err.log", stdout=tmp_path / "out.log")
    assert process.wait(10) == 0
    process.stop()
    assert (tmp_path / "out.log").read_text() == "out\n"
    assert process.last_lines() == ["err"]


def test_ending_before_it_is_ready_is_told_with_the_last_lines(tmp_path):
    script = "print('no such flag --bogus'); raise SystemExit(3)"
    with pytest.raises(LabError, match=r"server: ended with status 3(.|\n)*no such flag --bogus"):
        Process.start("server", [PYTHON, "-c", script], log=tmp_path / "log", ready=lambda: False)


def test_not_ready_in_time_is_told_and_the_process_is_gone(tmp_path):
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    log = tmp_path / "log"

    def written_but_never_ready():
        return False

    with pytest.raises(LabError, match=r"not ready after 0\.5 s"):
        Process.start("s", [PYTHON, "-c", script], log=log, ready=written_but_never_ready, ready_within_seconds=0.5)
    assert gone(int(log.read_text().split()[0]))


def test_an_unknown_program_is_one_line(tmp_path):
    with pytest.raises(LabError, match="status 127"):
        Process.start("x", ["/no/such/program"], log=tmp_path / "log", ready=lambda: False)


def test_stop_kills_what_ignores_term_and_its_children(tmp_path):
    script = textwrap.dedent("""
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(child.pid, flush=True)
        time.sleep(60)
    """)
    log = tmp_path / "log"
    ready = lambda: log.exists() and log.read_text().endswith("\n")  # noqa: E731
    process = Process.start("stubborn", [PYTHON, "-c", script], log=log, ready=ready)
    child = int(log.read_text())
    assert process.stop(grace_seconds=0.2) == -signal.SIGKILL
    wait_until(lambda: gone(child), 5, "the child's end")
    assert process.stop() == -signal.SIGKILL  # again: nothing more happens


def test_a_paused_process_answers_nothing_until_resumed_and_can_be_stopped_paused(tmp_path):
    port = free_port()
    command = [PYTHON, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    url = f"http://127.0.0.1:{port}/"
    with Process.start("web", command, log=tmp_path / "log", folder=tmp_path, ready=http_ready(url)) as process:
        process.pause()
        assert not http_ready(url)()
        process.resume()
        wait_until(http_ready(url), 5, "an answer")
        process.pause()
    assert process.returncode() == -signal.SIGTERM
    assert not tcp_ready("127.0.0.1", port)()


def test_children_die_with_a_parent_that_is_killed(tmp_path):
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from controller.lab.process import Process
        p = Process.start("c", ["sleep", "60"], log=Path({str(tmp_path / "log")!r}))
        print(p.pid, flush=True)
        time.sleep(60)
    """)
    parent = subprocess.Popen([PYTHON, "-c", script], stdout=subprocess.PIPE)
    with parent, parent.stdout as out:
        child = int(out.readline())
        assert not gone(child)
        parent.kill()
        wait_until(lambda: gone(child), 5, "the child's end")


def test_children_die_with_a_parent_that_ends_without_stopping_them(tmp_path):
    script = textwrap.dedent(f"""
        from pathlib import Path
        from controller.lab.process import Process
        print(Process.start("c", ["sleep", "60"], log=Path({str(tmp_path / "log")!r})).pid)
    """)
    child = int(subprocess.run([PYTHON, "-c", script], capture_output=True, check=True).stdout)
    wait_until(lambda: gone(child), 5, "the child's end")


def test_a_terminal_interrupt_does_not_reach_it(tmp_path):
    with Process.start("c", ["sleep", "60"], log=tmp_path / "log") as process:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)


def test_ports_differ_and_are_not_handed_to_others():
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == len(ports)
    assert all(can_bind("127.0.0.1", port) for port in ports)


def test_waiting_in_vain_says_for_what():
    before = time.monotonic()
    with pytest.raises(LabError, match="in vain for the moon"):
        wait_until(lambda: False, 0.05, "the moon")
    assert time.monotonic() - before >= 0.05
