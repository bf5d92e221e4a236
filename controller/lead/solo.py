"""No election: the one replica of this deployment always leads.

Its epoch is ANY_EPOCH, so that it can follow replicas that had an election, or precede them, without being refused as
too old. It also means that Redis cannot tell two such replicas apart: run one (`replicas: 1`, strategy `Recreate`).
"""

from __future__ import annotations

from controller.lead.fence import ANY_EPOCH, Fence


class Solo:
    """A Leader that always leads, until it is stopped."""

    def __init__(self) -> None:
        self._stopped = False

    def start(self) -> None:
        """Nothing to begin."""

    def stop(self) -> None:
        """Nothing is written from here on."""
        self._stopped = True

    def fence(self) -> Fence | None:
        """The right to act."""
        return None if self._stopped else Fence(ANY_EPOCH, lambda: not self._stopped)

    def status(self) -> str:
        """One line for logs and `status`."""
        return "stopped" if self._stopped else "leads (no election)"
