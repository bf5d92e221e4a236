"""The mark on a pod that is to go next: how `act` writes it, and `observe` reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite

DRAINING = "trimtab/draining"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
COST = "-1000"
"""Pods of a ReplicaSet with a lower cost go first; a pod without the annotation has 0."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Since when a pod is drained, seconds since the epoch, and the deletion cost that it had before, None for none."""

    since: float
    cost: str | None = None


def parse(text: str | None) -> Mark | None:
    """The mark in the annotation `trimtab/draining`; None when there is none that Trimtab wrote."""
    try:
        found = json.loads(text or "")
        mark = Mark(float(found["since"]), None if found.get("cost") is None else str(found["cost"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return mark if isfinite(mark.since) else None


def text_of(mark: Mark) -> str:
    """The annotation's value."""
    return json.dumps({"since": round(mark.since, 3), "cost": mark.cost}, separators=(",", ":"))
