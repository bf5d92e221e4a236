"""A million picks that end in every way there is; what is still counted afterwards?"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
from contextlib import suppress

from trimtab.balancer import AsyncBalancer, Balancer
from trimtab.balancer.base import BalancerBase


class Oops(Exception):
    pass


def dropped(balancer: BalancerBase) -> None:
    balancer.pick()


def released_twice(balancer: BalancerBase) -> None:
    ticket = balancer.pick()
    ticket.release(ok=False)
    ticket.release()


def served(balancer: BalancerBase) -> None:
    with balancer.pick():
        pass


def failed(balancer: BalancerBase) -> None:
    with balancer.pick():
        raise Oops


def interrupted(balancer: BalancerBase) -> None:
    with balancer.pick():
        raise KeyboardInterrupt


def abandoned(balancer: BalancerBase) -> None:
    def tokens():  # noqa: ANN202 - one line
        with balancer.pick():
            yield 1

    next(tokens())


WAYS = [dropped, released_twice, served, failed, interrupted, abandoned]


def requests(balancer: BalancerBase, count: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        with suppress(Oops, KeyboardInterrupt):
            rng.choice(WAYS)(balancer)


def left(balancer: BalancerBase) -> int:
    gc.collect()
    return sum(balancer.status().in_flight.values())


def forked(balancer: BalancerBase, count: int, seed: int) -> int:
    """Picks in a child that was forked in the middle of everything; what the child still counts at its end."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            requests(balancer, count, seed)
            code = min(98, left(balancer))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def threads_and_forks(balancer: Balancer, picks: int, forks: int = 10) -> tuple[int, int]:
    """(still counted in this process, still counted in children)."""
    threads = [threading.Thread(target=requests, args=(balancer, picks // 4, seed)) for seed in range(4)]
    for thread in threads:
        thread.start()
    in_children = sum(forked(balancer, 1000, seed) for seed in range(forks))
    for thread in threads:
        thread.join()
    return left(balancer), in_children


async def tasks(balancer: AsyncBalancer, picks: int, batch: int = 1000) -> int:
    """Tasks of which some are cancelled, some fail, some time out; what is still counted."""
    rng = random.Random(1)

    async def request() -> None:
        async with asyncio.timeout(0.0008), balancer.pick():
            await asyncio.sleep(rng.random() * 0.001)
            if rng.random() < 0.2:
                raise Oops

    for _ in range(picks // batch):
        group = [asyncio.create_task(request()) for _ in range(batch)]
        await asyncio.sleep(0.0004)
        for task in rng.sample(group, batch // 5):
            task.cancel()
        await asyncio.gather(*group, return_exceptions=True)
    return left(balancer)
