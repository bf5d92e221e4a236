"""Whatever way a request ends, its count ends with it."""

import asyncio
import gc
import multiprocessing
import os
import random
import signal
import threading
from contextlib import suppress

import pytest

from trimtab.balancer import AsyncBalancer, Balancer
from trimtab.balancer.ticket import verdict

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

ENDPOINTS = [f"http://10.0.0.{i}:8000" for i in range(4)]


@pytest.fixture
def balancer():
    return Balancer("models/m", fallback=ENDPOINTS)


@pytest.fixture
def async_balancer():
    return AsyncBalancer("models/m", fallback=ENDPOINTS)


def counts(balancer):
    gc.collect()
    return balancer.status().in_flight


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (None, True),
        (ValueError, False),
        (TimeoutError, False),
        (asyncio.CancelledError, None),
        (GeneratorExit, None),
        (KeyboardInterrupt, None),
        (SystemExit, None),
    ],
)
def test_what_leaving_the_block_says(kind, expected):
    assert verdict(kind) is expected


@pytest.mark.parametrize("error", [ValueError, TimeoutError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_any_exception_releases(balancer, error):
    def request():
        with balancer.pick() as endpoint:
            assert counts(balancer) == {endpoint: 1}
            raise error

    with pytest.raises(error):
        request()
    assert counts(balancer) == {}


def test_only_the_first_release_counts(balancer):
    ticket = balancer.pick()
    with ticket:
        ticket.release(ok=False)
    ticket.release()
    assert counts(balancer) == {}
    assert balancer._core.recent_failures()[ticket.endpoint] > 0.6  # a success would have halved it


def test_a_generator_that_is_abandoned_releases(balancer):
    def tokens():
        with balancer.pick():
            yield 1
            yield 2

    stream = tokens()
    next(stream)
    assert sum(counts(balancer).values()) == 1
    del stream
    assert counts(balancer) == {}


def test_a_ticket_that_is_dropped_releases(balancer):
    balancer.pick()
    assert counts(balancer) == {}


def test_a_signal_handler_may_pick_while_picks_are_under_way(balancer):
    def handler(_number, _frame):
        balancer.pick().release()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for _ in range(20_000):
            balancer.pick().release()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert counts(balancer) == {}


def test_cancellation_and_timeouts_release(async_balancer):
    async def request(entered):
        async with async_balancer.pick():
            entered.set()
            await asyncio.Event().wait()

    async def main():
        entered = asyncio.Event()
        task = asyncio.create_task(request(entered))
        await entered.wait()
        assert sum(counts(async_balancer).values()) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert counts(async_balancer) == {}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await request(asyncio.Event())
        assert counts(async_balancer) == {}

    asyncio.run(main())


def in_child(work):
    """Run `work` in a forked child; its return value, or the test fails."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_forked_child_starts_at_zero(balancer):
    held = [balancer.pick() for _ in range(5)]
    before = counts(balancer)

    def child():
        at_start = counts(balancer)
        for ticket in held:
            ticket.release()  # the parent's: no business of the child's
        after = counts(balancer)
        with balancer.pick():
            during = sum(counts(balancer).values())
        return at_start, after, during, counts(balancer)

    assert in_child(child) == "({}, {}, 1, {})"
    assert counts(balancer) == before
    for ticket in held:
        ticket.release()
    assert counts(balancer) == {}


def test_a_child_forked_while_the_lock_is_held_can_pick(balancer):
    locked, release = threading.Event(), threading.Event()

    def hold():  # by another thread, for the locks are re-entrant
        with balancer._core._lock, balancer._feed._lock:
            locked.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait(10)
    try:
        assert in_child(lambda: balancer.pick().endpoint in ENDPOINTS) == "True"
    finally:
        release.set()
        thread.join()


def _multiprocessing_child(balancer, queue):
    with balancer.pick():
        queue.put(sum(balancer.status().in_flight.values()))


def test_multiprocessing_by_fork(balancer):
    context = multiprocessing.get_context("fork")
    with balancer.pick():
        queue = context.Queue()
        process = context.Process(target=_multiprocessing_child, args=(balancer, queue))
        process.start()
        assert queue.get(timeout=10) == 1
        process.join()
        queue.close()
        queue.join_thread()
    assert counts(balancer) == {}


class Oops(Exception):
    pass


def dropped(balancer):
    balancer.pick()


def released_twice(balancer):
    ticket = balancer.pick()
    ticket.release(ok=False)
    ticket.release()


def served(balancer):
    with balancer.pick(exclude=ENDPOINTS[:2]):
        pass


def failed(balancer):
    with balancer.pick():
        raise Oops


def interrupted(balancer):
    with balancer.pick():
        raise KeyboardInterrupt


WAYS = [dropped, released_twice, served, failed, interrupted]


def requests(balancer, count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        with suppress(Oops, KeyboardInterrupt):
            rng.choice(WAYS)(balancer)


def test_sixty_thousand_picks_in_threads_and_forks_leak_nothing(balancer):
    threads = [threading.Thread(target=requests, args=(balancer, 15_000, seed)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for seed in range(3):
        assert in_child(lambda seed=seed: requests(balancer, 500, seed) or counts(balancer)) == "{}"
    for thread in threads:
        thread.join()
    assert counts(balancer) == {}


def test_forty_thousand_picks_in_tasks_leak_nothing(async_balancer):
    rng = random.Random(7)

    async def request():
        async with async_balancer.pick():
            await asyncio.sleep(rng.random() * 0.001)
            if rng.random() < 0.3:
                raise Oops

    async def main():
        ends = []
        for _ in range(40):
            tasks = [asyncio.create_task(request()) for _ in range(1000)]
            await asyncio.sleep(0.0005)
            for task in rng.sample(tasks, 300):
                task.cancel()
            ends += await asyncio.gather(*tasks, return_exceptions=True)
        return {type(end) for end in ends}

    assert asyncio.run(main()) == {type(None), Oops, asyncio.CancelledError}
    assert counts(async_balancer) == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("m",), "namespace/name"),
        (("a/b/c",), "namespace/name"),
        (("a/",), "namespace/name"),
        (("a/b", "nonsense://x"), "Redis URL"),
    ],
)
@pytest.mark.parametrize("form", [Balancer, AsyncBalancer])
def test_wrong_arguments_are_told_at_once(form, arguments, words):
    with pytest.raises(ValueError, match=words):
        form(*arguments)


def test_one_endpoint_is_no_list():
    with pytest.raises(TypeError, match="list of endpoints"):
        Balancer("a/b", fallback="http://a")
