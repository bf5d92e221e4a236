"""What every way of leading offers. The right to act itself is a value of model/, since act/ takes it too."""

from __future__ import annotations

from typing import Protocol

from controller.model.fence import ANY_EPOCH, Fence

__all__ = ["ANY_EPOCH", "Fence", "Leader"]


class Leader(Protocol):
    """Who may act."""

    def start(self) -> None:
        """Begin to compete, in the background."""

    def stop(self) -> None:
        """Give the lead back, so that another replica need not wait for it to expire."""

    def fence(self) -> Fence | None:
        """The right to act; None when another replica has it."""

    def status(self) -> str:
        """One line for logs and `status`."""
