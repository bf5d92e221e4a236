"""arq, its worker in this process."""

import asyncio

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker
from common import ROLE, URL, aproduce, record


async def job(_context, sent):
    record(sent)


async def main():
    settings = RedisSettings.from_dsn(URL)
    if ROLE == "produce":
        pool = await create_pool(settings)
        await aproduce(lambda sent: pool.enqueue_job("job", sent))
    else:
        worker = Worker([job], redis_settings=settings, handle_signals=False, max_jobs=10)
        await worker.async_run()


asyncio.run(main())
