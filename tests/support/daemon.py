"""The daemon as its users run it: a process, its log, its metrics."""

import json
import os
import subprocess
import sys
import time
import urllib.request

from support.eventually import eventually

from controller.lab.ports import free_port
from controller.lab.process import Process, http_ready

PROGRAM = (sys.executable, "-m", "controller")


def environment(**more):
    """Ours, without settings that the machine at hand may have."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TRIMTAB_") and k != "KUBECONFIG"}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **more}


def trimtab(*arguments, timeout_seconds=60, user=None, **environ):
    """One command, run to its end: a CompletedProcess with text."""
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
        env=environment(**environ),
        user=user,
    )


class Daemon:
    """`trimtab run`, started and stopped by the test that uses it."""

    def __init__(self, folder, *flags, name="daemon", port=None, wait=True):
        self.port = port or free_port()
        self.log = folder / f"{name}.log"
        self.errors = folder / f"{name}.err"
        command = [*PROGRAM, "run", f"--listen=127.0.0.1:{self.port}", "--log-format=json", *flags]
        ready = http_ready(f"http://127.0.0.1:{self.port}/healthz") if wait else None
        self.process = Process.start(
            name, command, log=self.errors, stdout=self.log, env=environment(), ready=ready, ready_within_seconds=60
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()

    def get(self, path):
        """Status and text of one page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self):
        """Every series by its text: `name{labels}` -> value."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line and not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    def ticks(self):
        """Ticks that have ended, however."""
        return int(sum(v for k, v in self.metrics().items() if k.startswith("trimtab_ticks_total")))

    def await_ticks(self, count, timeout_seconds=30):
        """Wait for so many more ticks."""
        until = self.ticks() + count
        eventually(lambda: self.ticks() >= until, timeout_seconds, 0.02)

    def lines(self, event=None, since=0):
        """Log records, oldest first, from the byte `since` on."""
        with self.log.open("rb") as file:
            file.seek(since)
            whole = file.read().rpartition(b"\n")[0].splitlines()
        records = [json.loads(line) for line in whole]
        return [r for r in records if event is None or r["event"] == event]

    def mark(self):
        """Where the log ends now."""
        return self.log.stat().st_size

    def text(self):
        """Everything it has written, to stdout and to stderr."""
        return self.log.read_text() + self.errors.read_text()


def interval_kept(daemon, interval_seconds, intervals):
    """Watch the daemon for so many intervals; the ticks that ended meanwhile."""
    start, first = time.monotonic(), daemon.ticks()
    eventually(
        lambda: time.monotonic() - start >= intervals * interval_seconds, 60 + intervals * interval_seconds, 0.02
    )
    return daemon.ticks() - first
