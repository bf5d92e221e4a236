"""SAQ, its worker in this process."""

import asyncio

from common import ROLE, URL, aproduce, record
from saq import Queue, Worker

queue = Queue.from_url(URL, name="bench")


async def job(_context, *, sent):
    record(sent)


async def main():
    await queue.connect()
    if ROLE == "produce":
        await aproduce(lambda sent: queue.enqueue("job", sent=sent))
    else:
        await Worker(queue, functions=[job]).start()


asyncio.run(main())
