"""A worker as a user would write it: `python -m bench.limit.worker POLICY QUEUE REDIS ENDPOINT...`.

It takes as many requests as the queue's limit lets it, and gives each to the model server with the fewest of its own.
"""

from __future__ import annotations

import asyncio
import random
import sys

from controller.lab.connections import Client
from trimtab import AsyncRequestQueue
from trimtab.queue import Job

MOST = 500
"""Requests at a time in this process: above any limit that the bench sets, divided by its workers."""


async def main(policy: str, name: str, redis: str, *endpoints: str) -> None:
    client = Client("/predict")
    inside = dict.fromkeys(endpoints, 0)

    async def handle(_: Job) -> bytes:
        endpoint = min(inside, key=lambda e: (inside[e], random.random()))
        inside[endpoint] += 1
        try:
            status = await client.post(endpoint, b"{}")
        finally:
            inside[endpoint] -= 1
        if status != 200:
            raise RuntimeError(f"{endpoint} answered {status}")
        return b""

    async with AsyncRequestQueue(policy, name=name, redis=redis, max_length=100_000, lease_seconds=60) as queue:
        await queue.work(handle, concurrency=MOST)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
