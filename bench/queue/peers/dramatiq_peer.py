"""Dramatiq, its documented worker: one process, eight threads."""

import sys

import dramatiq
from common import ROLE, URL, produce, record
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=URL))


@dramatiq.actor
def job(sent):
    record(sent)


if __name__ == "__main__":
    if ROLE == "produce":
        produce(job.send)
    else:
        from dramatiq.cli import main, make_argument_parser

        sys.argv = ["dramatiq", "dramatiq_peer", "--processes", "1", "--threads", "8"]
        sys.exit(main(make_argument_parser().parse_args(sys.argv[1:])))
