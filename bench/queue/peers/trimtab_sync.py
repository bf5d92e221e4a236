"""RequestQueue, every guarantee on. BENCH_BATCH: jobs per trip of the worker; above 1 the producer sends 50 at a time."""

import os

from common import ROLE, URL, produce, record

from trimtab import RequestQueue

batch = int(os.environ.get("BENCH_BATCH", "1"))
queue = RequestQueue(f"bench/sync-{batch}", redis=URL, max_length=None, default_limit=100)
if ROLE == "produce":
    many = (lambda sent: queue.enqueue_many([value.encode() for value in sent])) if batch > 1 else None
    produce(lambda sent: queue.enqueue(sent.encode()), many)
else:
    queue.work(lambda job: record(job.payload), batch=batch)
