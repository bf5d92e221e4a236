"""minReplicas 0, where the API server takes it: asked once by a dry run, not guessed from its version."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from controller.clients.kube import KubeApi
from controller.deadline import Deadline
from controller.errors import Rejected
from controller.model.plan import HpaWrite

AGAIN_SECONDS = 3600.0
"""A refusal is believed for so long: servers are upgraded."""
REFUSAL = "this API server takes no minReplicas 0 (it needs the feature HPAScaleToZero)"


class Zero:
    """Whether the server takes it, once it is known."""

    def __init__(self, kube: KubeApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._clock = clock
        self._taken: bool | None = None
        self._asked_at = 0.0

    def refusal(self, write: HpaWrite, path: str, wanted: Mapping[str, Any], deadline: Deadline) -> str | None:
        """Why this write's minReplicas 0 cannot be, in words; None when it can, or is not asked for.

        Raises:
            DependencyError: the API server could not be asked.
        """
        asks = write.after.min_replicas == 0 and (write.before is None or write.before.min_replicas != 0)
        if not asks:
            return None
        if self._taken is None or (not self._taken and self._clock() - self._asked_at >= AGAIN_SECONDS):
            self._asked_at = self._clock()
            try:
                # Forced, as it is a dry run: who owns the fields is another question, which the write itself asks.
                self._kube.apply(path, wanted, force=True, dry_run=True, deadline=deadline)
                self._taken = True
            except Rejected as error:
                if "minReplicas" not in error.message:
                    raise
                self._taken = False
        return None if self._taken else REFUSAL


def without_zero(write: HpaWrite) -> HpaWrite:
    """The same write with the least that any server takes."""
    least = 1 if write.before is None else max(1, write.before.min_replicas)
    return replace(write, after=replace(write.after, min_replicas=least))
