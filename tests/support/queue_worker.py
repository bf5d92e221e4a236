"""A worker process for chaos: queue_worker.py FORM URL POLICY LEASE_SECONDS JOB_SECONDS. Its result names the process."""

import asyncio
import logging
import os
import random
import sys
import time

from trimtab import AsyncRequestQueue, RequestQueue

form, url, policy, lease, job_seconds = sys.argv[1:]
logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(message)s")
options = {
    "redis": url,
    "lease_seconds": float(lease),
    "max_attempts": 100,
    "backoff_seconds": 0.05,
    "default_limit": 2,
}
WHO = str(os.getpid()).encode()


def pause(job):
    if job.payload.startswith(b"for "):  # so many seconds
        return float(job.payload[4:])
    return float(job_seconds) * random.uniform(0.5, 1.5)


def handler(job):
    time.sleep(pause(job))
    if job.payload == b"fails at first" and job.attempt == 1:
        raise RuntimeError("as agreed")
    return WHO


async def async_handler(job):
    await asyncio.sleep(pause(job))
    if job.payload == b"fails at first" and job.attempt == 1:
        raise RuntimeError("as agreed")
    return WHO


async def run():
    async with AsyncRequestQueue(policy, **options) as queue:
        await queue.work(async_handler, concurrency=4)


if form == "asyncio":
    asyncio.run(run())
else:
    with RequestQueue(policy, **options) as queue:
        queue.work(handler, threads=2, batch=2 if form == "batch" else 1)
