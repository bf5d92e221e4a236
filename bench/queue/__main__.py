"""make bench-queue: the queue against its peers, A/B interleaved on one real Redis, and a soak of the chaos test.

BENCH_SOAK_SECONDS (default 30) sets the soak's length; BENCH_ROUNDS (default 20) the number of interleaved rounds;
BENCH_NICE (default -10) the priority at which Redis and all systems alike run, where that is permitted: what waits for
replies loses most to a neighbour's load, and so the load decides the ratios. CPU per job is the figure that load moves least.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.queue.run import ROOT, Outcome, System, pair
from bench.report import Report
from trimtab import RequestQueue
from trimtab.errors import QueueFull
from trimtab.queue import Job

sys.path.insert(0, str(ROOT / "tests"))
from support.queue_chaos import chaos, recovery
from support.redis_lab import RedisServer

NAIVE = System("naive LPUSH/RPOP", "naive", jobs=2000)
SINGLE = System("trimtab", "trimtab_sync", jobs=2000)
BATCH = System("trimtab batch 20", "trimtab_sync", jobs=10_000, options={"BENCH_BATCH": "20"})
ASYNC = System("trimtab asyncio", "trimtab_async", jobs=1000)
ASYNC_BATCH = System("trimtab asyncio batch 20", "trimtab_async", jobs=5000, options={"BENCH_BATCH": "20"})
DRAMATIQ = System("Dramatiq", "dramatiq_peer", "dramatiq[redis]", jobs=1500)
BULLMQ = System("BullMQ", "bullmq_peer", "bullmq", jobs=600)
OTHERS = (
    ASYNC,
    ASYNC_BATCH,
    System("SAQ", "saq_peer", "saq[redis] typing_extensions", jobs=400),
    System("RQ SimpleWorker", "rq_peer", "rq", jobs=200),
    System("arq", "arq_peer", "arq", jobs=200),
    System("Celery solo", "celery_peer", "celery[redis]", jobs=200),
)
# Those that are compared run one after the other, where the margin is thin: a machine's speed wanders within seconds.
INTERLEAVED = (NAIVE, BATCH, DRAMATIQ, SINGLE, BULLMQ)


def throughput(report: Report, url: str, folder: Path, rounds: int) -> None:
    """Short slices in turn, all systems started and warm, those not in turn stopped: a neighbour's load hits all alike."""
    seen: dict[str, list[Outcome]] = {}
    with contextlib.ExitStack() as stack:
        running = {}
        for system in (*INTERLEAVED, *OTHERS):
            python = system.python()
            if python is None:
                continue
            try:
                running[system.name] = stack.enter_context(pair(system, python, url, folder))
            except RuntimeError as error:
                print(f"{system.name}: {error}")
                continue
            running[system.name].pause()
        for turn in range(rounds):
            for system in (*INTERLEAVED, *(OTHERS if turn % 5 == 0 else ())):
                if system.name not in running:
                    continue
                running[system.name].resume()
                outcome = running[system.name].run(system.jobs)
                running[system.name].pause()
                seen.setdefault(system.name, []).append(outcome)
                print(f"round {turn + 1}: {system.name} {outcome.jobs_per_second:,.0f} jobs/s", flush=True)

    def ratio(ours: System, peer: System) -> float | None:
        pairs = list(zip(seen.get(ours.name, []), seen.get(peer.name, []), strict=False))
        return statistics.median(a.jobs_per_second / b.jobs_per_second for a, b in pairs) if pairs else None

    for name, outcomes in seen.items():
        rates = [outcome.jobs_per_second for outcome in outcomes]
        report.row(
            system=name,
            jobs_per_second=statistics.median(rates),
            lowest=min(rates),
            highest=max(rates),
            reads_per_job=statistics.median(outcome.reads_per_job for outcome in outcomes),
            redis_us_per_job=statistics.median(outcome.redis_us_per_job for outcome in outcomes),
            client_us_per_job=statistics.median(outcome.client_us_per_job for outcome in outcomes),
            cpu_us_per_job=statistics.median(
                outcome.redis_us_per_job + outcome.client_us_per_job for outcome in outcomes
            ),
        )
    for name, ours, peer, least in (
        ("single job / naive", SINGLE, NAIVE, 0.70),
        ("single job / Dramatiq", SINGLE, DRAMATIQ, 2.0),
        ("single job / BullMQ", SINGLE, BULLMQ, 4.0),
        ("batch of 20 / Dramatiq", BATCH, DRAMATIQ, 10.0),
    ):
        value = ratio(ours, peer)
        report.check(name, value, f">= {least:g}", value is not None and value >= least)


def latency(report: Report, url: str, folder: Path) -> None:
    for system in (NAIVE, SINGLE, ASYNC, DRAMATIQ, BULLMQ):
        python = system.python()
        if python is None:
            continue
        with pair(system, python, url, folder) as running:
            outcome = running.run(300, rate=50.0)
        report.row(
            system=f"{system.name}, 50 jobs/s", start_p50_ms=outcome.latency_p50_ms, start_p95_ms=outcome.latency_p95_ms
        )
        if system is SINGLE:
            value = outcome.latency_p50_ms
            report.check("enqueue to start p50 at 50 jobs/s, ms", value, "<= 1.5", value <= 1.5)


def round_trips(report: Report, url: str) -> None:
    """With a backlog, which is when they cost: enqueue all, then drain."""
    for name, size, take, most in (("a job", 1, 1, 2.0), ("a job, batch of 20", 50, 20, 0.15)):
        jobs = 2000
        with RequestQueue(f"bench/trips-{take}", redis=url, default_limit=100, max_length=None) as queue:
            client = queue._link.client  # noqa: SLF001 - to count beside it
            queue.inspect()
            before = client.info("stats")["total_reads_processed"]
            for _ in range(0, jobs, size):
                queue.enqueue_many([b"x"] * size)
            done: list[Job] = []
            left = jobs
            while left:
                done = queue.complete_many([(job, b"") for job in done], take=take)
                left -= len(done)
            queue.complete_many([(job, b"") for job in done])
            # Reading the figure is one read itself.
            value = round((client.info("stats")["total_reads_processed"] - before - 1) / jobs, 2)
        report.check(f"round trips {name}", value, f"<= {most:g}", value <= most)


def truth(report: Report, url: str) -> None:
    """Is `retry_after` true? A full queue that drains at a steady rate: what it promised, against when it had room."""
    stop = threading.Event()
    with (
        RequestQueue("bench/truth", redis=url, max_length=200, default_limit=4) as producer,
        RequestQueue("bench/truth", redis=url, default_limit=4) as workers,
    ):
        drain = threading.Thread(
            target=workers.work,
            args=(lambda _: time.sleep(0.02),),
            kwargs={"threads": 4, "stop": stop, "signals": False},
        )
        drain.start()
        ratios = []
        warm_at = time.perf_counter() + 12.0  # the rate is that of the last 5 to 10 s
        sizes = itertools.cycle((10, 25, 50, 100))
        while len(ratios) < 24:
            batch = [b"x"] * next(sizes)
            asked, promised = time.perf_counter(), None
            while True:
                try:
                    producer.enqueue_many(batch)
                    break
                except QueueFull as full:
                    promised = promised or full.retry_after_seconds
                    time.sleep(0.002)
            if promised is not None and asked > warm_at:
                ratios.append(promised / (time.perf_counter() - asked))
        stop.set()
        drain.join()
    ordered = sorted(ratios)
    report.row(system="retry_after", promised_by_real_p10=ordered[2], p50=statistics.median(ordered), p90=ordered[-3])
    value = statistics.median(abs(ratio - 1) for ratio in ratios)
    report.check("retry_after: promise against the real wait, median error", value, "<= 0.2", value <= 0.2)


def depth(report: Report, url: str) -> None:
    """Two queues on one Redis, a thousand and a million deep, taken from in turns."""
    depths = (1_000, 1_000_000)
    queues = [
        RequestQueue(f"bench/depth-{size}", redis=url, default_limit=100, max_length=None, timeout_seconds=60)
        for size in depths
    ]
    times: list[list[float]] = [[], []]
    for queue, size in zip(queues, depths, strict=True):
        for _ in range(0, size, 500):
            queue.enqueue_many([b"0123456789abcdef"] * 500)
    for turn in range(3000):
        # Each goes first in every other turn.
        for index in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            (job,) = queues[index].take()
            times[index].append(time.perf_counter() - start)
            queues[index].complete(job)
            queues[index].enqueue(b"0123456789abcdef")
    for queue in queues:
        queue.close()
    shallow, deep = (statistics.median(values) * 1e6 for values in times)
    report.row(system="take at depth 1,000", take_us=shallow)
    report.row(system="take at depth 1,000,000", take_us=deep)
    report.check("take at depth 10^6 / depth 10^3", deep / shallow, "<= 1.2", deep / shallow <= 1.2)


@contextlib.contextmanager
def urgent(nice: int) -> Iterator[None]:
    """Run what starts here at another priority."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError:
        print("not permitted to raise the priority: a neighbour's load will move the ratios")
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, max(before, os.getpriority(os.PRIO_PROCESS, 0)))


def soak(report: Report, folder: Path, seconds: float) -> None:
    seen = chaos(folder / "chaos", seconds)
    report.row(system=f"soak {seconds:g} s", **seen)
    for name in ("unfinished", "over_limit"):
        report.check(f"soak: {name}", seen[name], "0", seen[name] == 0)
    value = recovery(folder / "recovery", lease_seconds=2.0, holders=2)
    report.check("recovery of all slots after kill -9 at a lease of 2 s, s", value, "<= 3", value <= 3)


def main() -> int:
    report = Report("queue")
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as name:
        folder = Path(name)
        (folder / "chaos").mkdir()
        (folder / "recovery").mkdir()
        with urgent(int(os.environ.get("BENCH_NICE", "-10"))), RedisServer(folder / "redis") as server:
            throughput(report, server.url, folder, int(os.environ.get("BENCH_ROUNDS", "20")))
            latency(report, server.url, folder)
            round_trips(report, server.url)
            depth(report, server.url)
            truth(report, server.url)
        soak(report, folder, float(os.environ.get("BENCH_SOAK_SECONDS", "30")))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
