"""Kubernetes Events about HPAs: what `kubectl describe hpa` shows a person. Best effort, few, never the same one twice in a row."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.act.manifest import API
from controller.clients.kube import KubeApi, path_of
from controller.deadline import Deadline

EVENTS_API = "events.k8s.io/v1"
RESCALED, HELD, CONFLICT = "TrimtabRescaled", "TrimtabHeld", "TrimtabConflict"
QUIET_SECONDS = {RESCALED: 120.0, HELD: 600.0, CONFLICT: 600.0}
BURST = 10.0
REFILL_PER_SECOND = 1 / 30
NOTE_LIMIT_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Subject:
    """The HPA that an Event is about."""

    namespace: str
    name: str
    uid: str


class Recorder:
    """Posts Events, each (object, reason, note) once per quiet time, and never more than a trickle of them."""

    def __init__(self, kube: KubeApi, identity: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._identity = identity[:128] or "trimtab"
        self._clock = clock
        self._posted: dict[tuple[str, str, str, str], float] = {}
        self._tokens = BURST
        self._refilled = clock()

    def wanted(self, namespace: str, name: str, reason: str, note: str) -> bool:
        """Whether this Event is new enough to be posted."""
        now = self._clock()
        self._posted = {key: at for key, at in self._posted.items() if now - at < QUIET_SECONDS[key[2]]}
        self._tokens = min(BURST, self._tokens + (now - self._refilled) * REFILL_PER_SECOND)
        self._refilled = now
        return (namespace, name, reason, note) not in self._posted and self._tokens >= 1

    def post(self, subject: Subject, reason: str, note: str, *, action: str, deadline: Deadline) -> None:
        """Post one Event.

        Raises:
            DependencyError: the API server did not take it.
        """
        self._posted[subject.namespace, subject.name, reason, note] = self._clock()
        self._tokens -= 1  # also when it fails: a server in trouble is not asked more often
        regarding = {
            "apiVersion": API,
            "kind": "HorizontalPodAutoscaler",
            "namespace": subject.namespace,
            "name": subject.name,
        }
        event = {
            "apiVersion": EVENTS_API,
            "kind": "Event",
            "metadata": {"name": f"{subject.name[:200]}.{secrets.token_hex(8)}", "namespace": subject.namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),  # six digits, or the server refuses
            "reportingController": "trimtab",
            "reportingInstance": self._identity,
            "action": action,
            "reason": reason,
            "type": "Normal" if reason == RESCALED else "Warning",
            "regarding": {**regarding, **({"uid": subject.uid} if subject.uid else {})},
            "note": note.encode()[:NOTE_LIMIT_BYTES].decode(errors="ignore"),
        }
        self._kube.create(path_of(EVENTS_API, "events", subject.namespace), event, deadline=deadline)
