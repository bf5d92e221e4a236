"""Run one system: a producer and a worker process of its own environment, on a Redis that both talk to and we watch."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = ROOT / ".bench"
RECORD_BYTES = 16


@dataclass(frozen=True)
class System:
    """`script` in peers/, run by the environment of `package`; None: this one."""

    name: str
    script: str
    package: str | None = None
    jobs: int = 5000
    options: dict[str, str] = field(default_factory=dict)

    def python(self) -> str | None:
        """The interpreter to use; None when the package cannot be installed."""
        if self.package is None or importlib.util.find_spec(self.package.split("[")[0]) is not None:
            return sys.executable  # ours has what the tests need of others
        folder = ENVIRONMENTS / self.script.removesuffix("_peer")
        python = folder / "bin" / "python"
        if not python.exists():
            print(f"installing {self.package} into {folder.relative_to(ROOT)}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        name = self.package.split("[")[0]
        if subprocess.run([*pip, "show", name], capture_output=True, check=False).returncode == 0:
            return str(python)
        if subprocess.run([*pip, "install", *self.package.split()], check=False).returncode:
            print(f"{self.name}: not installable here, left out")
            return None
        return str(python)


@dataclass(frozen=True)
class Outcome:
    jobs_per_second: float
    reads_per_job: float
    redis_us_per_job: float
    client_us_per_job: float
    latency_p50_ms: float
    latency_p95_ms: float


def cpu_us(process: int) -> float:
    """Processor time of a process and its living children, all threads, so far."""
    spent = 0.0
    with contextlib.suppress(OSError):  # ended meanwhile
        for task in Path(f"/proc/{process}/task").iterdir():
            spent += int((task / "schedstat").read_text().split()[0]) / 1000
            spent += sum(cpu_us(int(child)) for child in (task / "children").read_text().split())
    return spent


class Pair:
    """A producer and a worker, started and warm."""

    def __init__(self, system: System, python: str, url: str, folder: Path) -> None:
        self.out = folder / f"{system.name.split('/', maxsplit=1)[0]}.out"
        self.out.write_bytes(b"")
        self.client = Redis.from_url(url)
        environment = {**os.environ, **system.options, "BENCH_URL": url, "BENCH_OUT": str(self.out)}
        environment["PYTHONPATH"] = str(PEERS)
        log = (folder / f"{system.script}.log").open("ab")
        command = [python, str(PEERS / f"{system.script}.py")]
        self.processes: list[subprocess.Popen[bytes]] = []
        common = {"cwd": PEERS, "env": environment, "stderr": log, "start_new_session": True}
        with log:
            self.processes.append(subprocess.Popen([*command, "work"], stdin=subprocess.DEVNULL, stdout=log, **common))
            self.producer = subprocess.Popen(
                [*command, "produce"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **common
            )
            self.processes.append(self.producer)
        self._answer()

    def _answer(self) -> None:
        assert self.producer.stdout is not None
        if not self.producer.stdout.readline():
            raise RuntimeError("the producer ended; see its log")

    def run(self, count: int, rate: float = 0.0, timeout_seconds: float = 120.0) -> Outcome:
        """Enqueue `count` jobs and wait until all have started."""
        before = self.client.info()
        client_before = self._cpu_us()
        target = self.out.stat().st_size + count * RECORD_BYTES
        assert self.producer.stdin is not None
        start = time.perf_counter()
        self.producer.stdin.write(b"%d %g\n" % (count, rate))
        self.producer.stdin.flush()
        while self.out.stat().st_size < target:
            if time.perf_counter() - start > timeout_seconds:
                raise RuntimeError(f"{count} jobs not done within {timeout_seconds:g} s")
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        self._answer()
        client = self._cpu_us() - client_before
        after = self.client.info()
        waits = sorted(float(line) * 1000 for line in self.out.read_bytes().splitlines()[-count:])

        def spent(name: str) -> float:
            return float(after[name]) - float(before[name])

        return Outcome(
            jobs_per_second=count / seconds,
            reads_per_job=spent("total_reads_processed") / count,
            redis_us_per_job=1e6 * (spent("used_cpu_user") + spent("used_cpu_sys")) / count,
            client_us_per_job=client / count,
            latency_p50_ms=statistics.median(waits),
            latency_p95_ms=waits[int(0.95 * (len(waits) - 1))],
        )

    def _cpu_us(self) -> float:
        return sum(cpu_us(process.pid) for process in self.processes)

    def pause(self) -> None:
        """Stand still while others are measured."""
        for process in self.processes:
            os.killpg(process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on, warm: whoever backed off while idle has come back before anything is measured."""
        for process in self.processes:
            os.killpg(process.pid, signal.SIGCONT)
        self.run(20, timeout_seconds=30)

    def close(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        self.client.close()


@contextlib.contextmanager
def pair(system: System, python: str, url: str, folder: Path) -> Iterator[Pair]:
    """A warm pair; its processes end with this."""
    made = Pair(system, python, url, folder)
    try:
        made.run(50, timeout_seconds=30)
        yield made
    finally:
        made.close()
