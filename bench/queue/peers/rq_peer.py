"""RQ with SimpleWorker, which does not fork for each job: its fast form."""

from common import ROLE, URL, produce, record
from redis import Redis
from rq import Queue, SimpleWorker

client = Redis.from_url(URL)
queue = Queue("bench", connection=client)


def job(sent):
    record(sent)


if __name__ == "__main__":
    if ROLE == "produce":
        produce(lambda sent: queue.enqueue("rq_peer.job", sent))
    else:
        SimpleWorker([queue], connection=client).work(logging_level="ERROR")
