"""`make bench-balancer`. No Redis is needed: what a pick does never depends on it (tests/integration/balancer proves that)."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from statistics import mean, quantiles

from bench.balancer.leaks import tasks, threads_and_forks
from bench.balancer.simulation import ALIKE, SPEEDS, Alone, Fleet, Rare, Shared, simulate
from bench.report import Report
from trimtab.balancer import AsyncBalancer, Balancer
from trimtab.balancer.core import Core

TARGETS_MICROSECONDS = {20: 8.0, 1000: 15.0}
SEEDS = range(3)


def names(count: int) -> list[str]:
    return [f"http://10.0.{i // 250}.{i % 250}:8000" for i in range(count)]


def unequal(count: int) -> list[tuple[str, float]]:
    raw = [1.0 + i % 7 for i in range(count)]
    return [(name, weight / sum(raw)) for name, weight in zip(names(count), raw, strict=True)]


def pick_microseconds(count: int, *, held: int, picks: int = 50_000) -> list[float]:
    """Each pick timed alone, with the cost of the clock; latencies learnt are lognormal around 0.4 s; `held` are in flight."""
    rng = random.Random(1)
    balancer = Balancer("bench/bench", fallback=names(count))
    balancer._core.install(unequal(count))  # noqa: SLF001 - weights without a Redis
    open_tickets = [balancer.pick() for _ in range(held)]
    for name in names(count):
        balancer.record(name, rng.lognormvariate(-1.0, 0.7))
    seconds = [rng.lognormvariate(-1.0, 0.7) for _ in range(1000)]
    clock, took = time.perf_counter_ns, []
    for i in range(picks):
        start = clock()
        ticket = balancer.pick()
        took.append((clock() - start) / 1000)
        open_tickets.append(ticket)
        at = int(rng.random() * len(open_tickets))
        open_tickets[at], open_tickets[-1] = open_tickets[-1], open_tickets[at]
        open_tickets.pop().release(seconds=seconds[i % 1000])
    return took


def picking(report: Report) -> None:
    for count, target in TARGETS_MICROSECONDS.items():
        for load, held in (("idle", 0), ("4 in flight each", 4 * count)):
            gc.collect()
            cuts = quantiles(pick_microseconds(count, held=held), n=100)
            report.row(what=f"pick(), {count} endpoints, {load}", p50_us=cuts[49], p99_us=cuts[98])
            report.check(
                f"pick() median, {count} endpoints, {load}, us", cuts[49], f"<= {target:g}", cuts[49] <= target
            )


def shares(report: Report, picks: int = 200_000) -> None:
    for count in (5, 20):
        core = Core(random=random.Random(1).random)
        weights = dict(unequal(count))
        core.install(weights.items())
        seen = dict.fromkeys(weights, 0)
        for _ in range(picks):
            ticket = core.take()
            seen[ticket.endpoint] += 1
            ticket.release(seconds=0.1)
        error = max(abs(seen[name] / picks - weight) for name, weight in weights.items())
        relative = max(abs(seen[name] / picks / weight - 1.0) for name, weight in weights.items())
        report.row(what=f"shares, {count} endpoints, nothing waits", error=error, relative_error=relative)
        report.check(f"largest distance of a share from its weight, {count} endpoints", error, "<= 0.02", error <= 0.02)


def leaking(report: Report, picks: int = 1_000_000) -> None:
    started = time.monotonic()
    here, children = threads_and_forks(Balancer("bench/bench", fallback=names(20)), picks * 3 // 5)
    in_tasks = asyncio.run(tasks(AsyncBalancer("bench/bench", fallback=names(20)), picks * 2 // 5))
    report.row(what=f"leak test, {picks:,} picks", seconds=time.monotonic() - started)
    for what, value in (("threads", here), ("forked children", children), ("tasks", in_tasks)):
        report.check(f"still counted after {picks:,} picks, {what}", value, "= 0", value == 0)


def sharing(report: Report) -> None:
    p99: dict[tuple[str, int, bool], float] = {}
    for fleet, speeds, slowdowns in (("unequal", SPEEDS, True), ("alike", ALIKE, False)):
        for clients in (1, 20, 200):
            for chooser in (Alone, Shared, Rare):
                which = Fleet(clients, speeds=speeds, slowdowns=slowdowns)
                runs = [simulate(which, chooser, seed) for seed in SEEDS]
                if chooser is not Rare:
                    p99[fleet, clients, chooser is Shared] = mean(run["p99"] for run in runs)
                report.row(
                    what=f"simulated, {fleet}, {clients} clients, {chooser.name}",
                    p99_s=mean(run["p99"] for run in runs),
                    mean_s=mean(run["mean"] for run in runs),
                )
    for chooser in (Alone, Shared):
        failed = mean(simulate(Fleet(200, 0.5, failing=0), chooser, seed)["failed_ratio"] for seed in SEEDS)
        report.row(what=f"simulated, one fails fast, 200 clients, {chooser.name}", failed_ratio=failed)
        if chooser is Shared:
            report.check("share of an endpoint that fails fast (weight 0.14)", failed, "<= 0.02", failed <= 0.02)
    gain = p99["unequal", 200, True] / p99["unequal", 200, False]
    report.check("p99 with shared counts / without, unequal, 200 clients", gain, "<= 0.7", gain <= 0.7)
    flat = p99["unequal", 200, True] / p99["unequal", 1, True]
    report.check("p99 with 200 clients / with 1, shared", flat, "<= 1.5", flat <= 1.5)
    cost = max(p99["alike", n, True] / p99["alike", n, False] for n in (1, 20, 200))
    report.check("p99 with shared counts / without, alike, worst", cost, "<= 1.15", cost <= 1.15)


def main() -> int:
    report = Report("balancer")
    for part in (picking, shares, leaking, sharing):
        part(report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
