"""Leader election by a coordination.k8s.io Lease, in a thread of its own.

The library's elector has no time limit on its calls and can go on acting long after its lease has expired. Here the question
"do I lead?" reads the monotonic clock alone: an API server that hangs ends the right to act, it cannot extend it. Another
replica takes over only once it has seen the Lease unchanged for its whole duration by its own clock, so that skewed wall
clocks elect nobody twice. What still gets through (a paused process) is refused by its epoch, in Redis.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.clients.kube import KubeApi, path_of
from controller.deadline import Deadline
from controller.errors import Conflict, DependencyError, NotFound
from controller.model.fence import Fence

API = "coordination.k8s.io/v1"
EPOCH_ZERO = 1_577_836_800
"""2020-01-01. A new Lease counts its transitions from the seconds since then: a Lease that was deleted and made anew must
not start below the epochs that Redis has seen, and an int32 holds them until 2088."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. A holder that cannot renew stops acting after `renew`; others may take over after `lease`."""

    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


class LeaseLeader:
    """A Leader by Lease `namespace/name`; `identity` must be this replica's alone."""

    def __init__(
        self,
        kube: KubeApi,
        *,
        namespace: str,
        identity: str,
        name: str = "trimtab-controller",
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._collection = path_of(API, "leases", namespace)
        self._path = path_of(API, "leases", namespace, name)
        self._metadata = {"name": name, "namespace": namespace}
        self._identity = identity
        self._timing = timing or Timing()
        self._clock = clock
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trimtab-lease", daemon=True)
        # The elector's thread writes these; `fence` reads (epoch, until) as one tuple, which needs no lock.
        self._held: tuple[int, float] | None = None
        self._seen: tuple[str, float] | None = None  # resourceVersion of another's Lease, and since when we see it
        self._status = "has not competed yet"

    def start(self) -> None:
        """Begin to compete, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop acting, then give the Lease back; takes no longer than one call."""
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(self._timing.renew)

    def is_leader(self) -> bool:
        """Whether this replica may act at this instant."""
        held = self._held
        return held is not None and not self._wake.is_set() and self._clock() < held[1]

    def fence(self) -> Fence | None:
        """The right to act; None when another replica has it."""
        held = self._held
        if held is None or not self.is_leader():
            return None
        epoch = held[0]
        return Fence(epoch, lambda: self.is_leader() and self._held is not None and self._held[0] == epoch)

    def status(self) -> str:
        """One line for logs and `status`."""
        if self._wake.is_set():
            return "stopped"
        held = self._held
        return f"leads as {self._identity}, epoch {held[0]}" if held and self.is_leader() else self._status

    def _run(self) -> None:
        while not self._wake.is_set():
            try:
                self._compete()
            except DependencyError as error:
                self._status = f"cannot reach the Lease: {error}"
            except Exception as error:  # noqa: BLE001 - an elector that died would leave nobody to act
                self._status = f"cannot read the Lease: {type(error).__name__}: {error}"
            pause = self._timing.retry * random.uniform(0.8, 1.2)  # noqa: S311 - spreads replicas, no secret
            self._wake.wait(pause)
        self._release()

    def _compete(self) -> None:
        """One look at the Lease; renews it when it is ours, takes it when it is free or has expired."""
        deadline = Deadline.after(self._timing.renew / 2.5, self._clock)
        asked_at = self._clock()  # the right to act counts from before the call, whenever its answer comes
        try:
            lease = self._kube.get(self._path, deadline=deadline)
        except NotFound:
            self._create(asked_at, deadline)
            return
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        epoch = int(spec.get("leaseTransitions") or 0)
        held = self._held
        if held is not None and holder == self._identity and held[0] == epoch:
            self._write(lease, epoch, deadline)
            self._hold(epoch, asked_at)
            return
        self._held = None
        if holder and holder != self._identity and not self._expired(lease):
            self._status = f"waits, {holder} leads"
            return
        self._write(lease, max(epoch + 1, 1), deadline, acquired=True)
        self._hold(max(epoch + 1, 1), asked_at)

    def _create(self, asked_at: float, deadline: Deadline) -> None:
        self._held = None
        epoch = int(time.time()) - EPOCH_ZERO
        spec = self._spec(epoch)
        spec["acquireTime"] = spec["renewTime"]
        body = {"apiVersion": API, "kind": "Lease", "metadata": self._metadata, "spec": spec}
        try:
            self._kube.create(self._collection, body, deadline=deadline)
        except Conflict:
            self._status = "waits, another replica was faster"
            return
        self._hold(epoch, asked_at)

    def _write(self, lease: dict[str, Any], epoch: int, deadline: Deadline, *, acquired: bool = False) -> None:
        """PUT with the resourceVersion that was read: of two that try, the server takes one."""
        spec = {**(lease.get("spec") or {}), **self._spec(epoch)}
        if acquired:
            spec["acquireTime"] = spec["renewTime"]
        try:
            self._kube.replace(self._path, {**lease, "spec": spec}, deadline=deadline)
        except Conflict:
            self._held = None
            self._seen = None
            raise

    def _spec(self, epoch: int) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.lease)),
            "renewTime": micro_time(datetime.now(UTC)),
            "leaseTransitions": epoch,
        }

    def _hold(self, epoch: int, asked_at: float) -> None:
        self._seen = None
        self._held = (epoch, asked_at + self._timing.renew)

    def _expired(self, lease: dict[str, Any]) -> bool:
        version = str((lease.get("metadata") or {}).get("resourceVersion", ""))
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._clock())
            return False
        duration = (lease.get("spec") or {}).get("leaseDurationSeconds") or self._timing.lease
        return self._clock() - self._seen[1] >= float(duration)

    def _release(self) -> None:
        """Empty the holder, so that another replica takes over at once."""
        held, self._held = self._held, None
        if held is None:
            return
        deadline = Deadline.after(self._timing.renew / 2.5, self._clock)
        try:
            lease = self._kube.get(self._path, deadline=deadline)
            spec = lease.get("spec") or {}
            if spec.get("holderIdentity") == self._identity and spec.get("leaseTransitions") == held[0]:
                released = {**spec, "holderIdentity": "", "renewTime": micro_time(datetime.now(UTC))}
                self._kube.replace(self._path, {**lease, "spec": released}, deadline=deadline)
        except DependencyError:
            return  # it expires by itself


def micro_time(at: datetime) -> str:
    """Kubernetes' MicroTime, which needs exactly six fractional digits."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
