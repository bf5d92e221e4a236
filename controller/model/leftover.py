"""HPAs that a policy steered which steers them no more."""

from __future__ import annotations

from dataclasses import dataclass

from controller.model.snapshot import HpaView, Reading, ScaleView


@dataclass(frozen=True, slots=True)
class Leftover:
    """An HPA that carries the mark of a policy that is gone, or that has let go of it.

    Args:
        policy: the key of that policy.
        bounds_owned: whether both bounds are still Trimtab's; who has taken one back has taken the HPA back.
        created: whether Trimtab made it, so that there is nothing to go back to.
        successor: the key of a policy that steers this HPA now; None when none does.
    """

    namespace: str
    name: str
    policy: str
    view: HpaView
    scale: Reading[ScaleView | None]
    bounds_owned: bool = True
    created: bool = False
    successor: str | None = None
