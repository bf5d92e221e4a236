"""What every peer's script shares. Standard library only: it runs in each peer's own environment."""

import asyncio
import os
import sys
import time

URL = os.environ["BENCH_URL"]
OUT = os.open(os.environ["BENCH_OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def record(sent):
    """The job: 16 bytes to a file, the seconds from enqueue to start."""
    os.write(OUT, b"%15.6f\n" % (time.monotonic() - float(sent)))


def orders():
    """Lines `COUNT RATE` from the bench; rate 0 is as fast as it goes."""
    print("ready", flush=True)
    for line in sys.stdin:
        count, rate = line.split()
        yield int(count), float(rate)
        print("ok", flush=True)


def moments(count, rate):
    """When to enqueue: the seconds to sleep before each."""
    start = time.monotonic()
    for index in range(count):
        yield max(0.0, start + index / rate - time.monotonic()) if rate else 0.0


def produce(enqueue, many=None, size=50):
    for count, rate in orders():
        if many is not None and not rate:
            for first in range(0, count, size):
                many([repr(time.monotonic()) for _ in range(min(size, count - first))])
            continue
        for pause in moments(count, rate):
            if pause:
                time.sleep(pause)
            enqueue(repr(time.monotonic()))


async def aproduce(enqueue, many=None, size=50):
    for count, rate in orders():
        if many is not None and not rate:
            for first in range(0, count, size):
                await many([repr(time.monotonic()) for _ in range(min(size, count - first))])
            continue
        for pause in moments(count, rate):
            if pause:
                await asyncio.sleep(pause)
            await enqueue(repr(time.monotonic()))


ROLE = sys.argv[1] if len(sys.argv) > 1 else "work"
