"""The best control plane that this machine can run: the real one, else the emulator."""

from __future__ import annotations

from pathlib import Path

from controller.lab.cluster.binaries import find_binaries
from controller.lab.cluster.control_plane import Cluster
from controller.lab.cluster.kubelet import Hooks
from controller.lab.emulator.emulator import Emulator


def start_plane(
    folder: Path, *, hooks: Hooks | None = None, hpa_sync_seconds: float = 1.0
) -> tuple[Cluster | Emulator, str]:
    """Start it. The text says why it is the emulator, and is empty for the real one.

    Binaries without a controller manager cannot scale anything, so the emulator stands in for these too.
    """
    found = find_binaries()
    why = found if isinstance(found, str) else found.note
    if isinstance(found, str) or why:
        return Emulator.start(folder, hooks=hooks, hpa_sync_seconds=hpa_sync_seconds), why
    return Cluster.start(folder, binaries=found, hooks=hooks, hpa_sync_seconds=hpa_sync_seconds), ""
