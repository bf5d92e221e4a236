"""AsyncRequestQueue, every guarantee on. BENCH_BATCH: handlers at once, and so jobs per trip."""

import asyncio
import os

from common import ROLE, URL, aproduce, record

from trimtab import AsyncRequestQueue

batch = int(os.environ.get("BENCH_BATCH", "1"))


async def handler(job):
    record(job.payload)


async def main():
    async with AsyncRequestQueue(f"bench/async-{batch}", redis=URL, max_length=None, default_limit=100) as queue:
        if ROLE == "produce":
            many = (lambda sent: queue.enqueue_many([value.encode() for value in sent])) if batch > 1 else None
            await aproduce(lambda sent: queue.enqueue(sent.encode()), many)
        else:
            await queue.work(handler, concurrency=batch)


asyncio.run(main())
