"""Two threads beside the work: one keeps leases alive, one listens for a raised limit.

Threads, in the asyncio form too: a handler that computes for a minute blocks its event loop, not these. Each has a connection
of its own, so that neither a blocked read nor a large payload delays a renewal.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from typing import Any

from redis import Redis, RedisCluster
from redis import exceptions as redis_errors

from trimtab.queue.job import Job
from trimtab.queue.link import CALL_SECONDS, connect
from trimtab.queue.protocol import MAX_BATCH, Protocol, Settlement, script

log = logging.getLogger("trimtab.queue")

RENEWALS_PER_LEASE = 3


class Keeper:
    """Holds the jobs in hand, and renews their leases three times per lease until they are settled.

    Args:
        redis: URL or client. Its calls should end well within a lease.
    """

    def __init__(self, protocol: Protocol, redis: str | Redis | RedisCluster) -> None:
        self._protocol = protocol
        self._redis = redis
        self._held: dict[bytes, Job] = {}
        self._start = threading.Lock()
        self._process = 0
        self._stop = threading.Event()
        self._listening = False

    def hold(self, jobs: list[Job]) -> None:
        """Renew these from now on."""
        if self._process != os.getpid():
            self._launch()
        for job in jobs:
            self._held[job.lease] = job

    def drop(self, settled: Sequence[Settlement]) -> None:
        """These are settled."""
        for _, job, _ in settled:
            self._held.pop(job.lease, None)

    @property
    def held(self) -> list[Job]:
        """The jobs in hand."""
        return list(self._held.values())

    def _launch(self) -> None:
        with self._start:
            if self._process == os.getpid():
                return
            # The first job, or the first after a fork, which copies the jobs in hand but not the threads.
            self._held = {}
            self._stop = threading.Event()
            self._listening = False
            self._process = os.getpid()
            threading.Thread(target=self._renew, args=(self._stop,), name="trimtab-leases", daemon=True).start()

    def listen(self) -> None:
        """Wake workers as soon as the controller raises the limit. Without it they notice within a second."""
        if self._process != os.getpid():
            self._launch()
        with self._start:
            if not self._listening:
                self._listening = True
                threading.Thread(target=self._listen, args=(self._stop,), name="trimtab-limit", daemon=True).start()

    def _renew(self, stop: threading.Event) -> None:
        interval = self._protocol.settings.lease_seconds / RENEWALS_PER_LEASE
        link = connect(self._redis, [self._protocol.keys.leases.encode()], min(CALL_SECONDS, interval))
        pause = interval
        while not stop.wait(pause):
            try:
                self._renew_once(link)
                pause = interval
            except redis_errors.RedisError as error:
                pause = interval / 10  # the lease is running out: ask again soon
                log.warning("leases not renewed, trying again: %s", error)
            except Exception:  # whatever it is: without this thread each job that outlasts its lease is done twice
                pause = interval / 10
                log.exception("leases not renewed, trying again")
        link.close()

    def _renew_once(self, link: Any) -> None:
        held = list(self._held)
        for first in range(0, len(held), MAX_BATCH):
            leases = held[first : first + MAX_BATCH]
            flags = link.evaluate(script("renew"), [self._protocol.lease_ms, *leases], 1)
            for lease, flag in zip(leases, flags, strict=True):
                job = self._held.get(lease) if flag == ord("0") else None
                if job is not None and not job.settling:
                    job.lost = True
                    self._held.pop(lease, None)
                    log.warning("lease lost: %s", job)

    def _listen(self, stop: threading.Event) -> None:
        link = connect(self._redis, self._protocol.all_keys)
        client: Any = link.client
        while not stop.is_set():
            try:
                with contextlib.closing(client.pubsub(ignore_subscribe_messages=True)) as channel:
                    channel.subscribe(self._protocol.changed)
                    while not stop.is_set():
                        if channel.get_message(timeout=1.0) is not None:
                            link.evaluate(script("poke"), [self._protocol.default_limit])
            except redis_errors.NoPermissionError as error:
                log.warning("not allowed to listen for limits, so a raise is noticed within a second: %s", error)
                return
            except (
                redis_errors.RedisError,
                OSError,
                ValueError,
            ) as error:  # ValueError: redis-py, on a closed TLS socket
                log.info("not listening for limits, trying again: %s", error)
                stop.wait(1.0)
        link.close()

    def close(self) -> None:
        """End both threads. Leases still in hand run out by themselves."""
        self._stop.set()
        self._held.clear()
        self._process = 0
