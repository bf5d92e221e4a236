"""A Celery application for tests: BROKER names its broker. Its one task counts itself in Redis while it runs."""

import os
import time

from celery import Celery
from redis import Redis

broker = os.environ["BROKER"]
app = Celery("tests", broker=broker)
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)

COUNT = "local now = redis.call('INCR', KEYS[1]); if now > tonumber(redis.call('GET', KEYS[2]) or 0) then redis.call('SET', KEYS[2], now) end"


@app.task
def slow(seconds: float) -> None:
    """Takes so long. `running` is how many do now, `most` how many ever did at once, `done` how many have ended."""
    redis = Redis.from_url(broker)
    redis.eval(COUNT, 2, "running", "most")
    time.sleep(seconds)
    redis.decr("running")
    redis.incr("done")
