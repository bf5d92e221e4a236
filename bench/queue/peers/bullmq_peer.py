"""BullMQ's own Python package, with its fleet-wide limit at 100 as ours."""

import asyncio

from bullmq import Queue, Worker
from common import ROLE, URL, aproduce, record


async def process(job, _token):
    record(job.data["sent"])


async def main():
    if ROLE == "produce":
        queue = Queue("bench", {"connection": URL})
        await queue.setGlobalConcurrency(100)
        await aproduce(lambda sent: queue.add("job", {"sent": sent}, {"removeOnComplete": True}))
    else:
        worker = Worker("bench", process, {"connection": URL})
        await asyncio.Event().wait()
        await worker.close()


asyncio.run(main())
