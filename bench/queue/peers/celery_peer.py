"""Celery on Redis, one solo worker, early acknowledgement: its fast form."""

from celery import Celery
from common import ROLE, URL, produce, record

app = Celery("celery_peer", broker=URL)
app.conf.broker_connection_retry_on_startup = True
app.conf.task_ignore_result = True


@app.task(name="job")
def job(sent):
    record(sent)


if __name__ == "__main__":
    if ROLE == "produce":
        produce(job.delay)
    else:
        app.worker_main(["worker", "--pool", "solo", "--loglevel", "ERROR", "--without-gossip", "--without-mingle"])
