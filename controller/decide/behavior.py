"""The HPA's `behavior`: the policy's when it says so, the owner's own again when the policy says so no longer."""

from __future__ import annotations

from dataclasses import dataclass

from controller.decide.pause import Pause
from controller.model import behavior
from controller.model.behavior import Direction, RatePolicy, Select, Sides
from controller.model.hpa import original_of
from controller.model.plan import Change, Hold
from controller.model.snapshot import HpaView
from controller.policy.behavior import ScaleDown, ScaleUp
from controller.policy.schema import Scaling

FIELD = "hpa behavior"


@dataclass(frozen=True, slots=True)
class Move:
    """What becomes of `behavior`.

    Args:
        send: what each write must carry, so that the fields we own stay; None when none are ours.
        change: the line of the plan, if it is not so yet.
        hold: why it is not wholly as the policy says, though nothing more can be written.
    """

    send: Sides | None = None
    change: Change | None = None
    hold: Hold | None = None


def propose(rules: Scaling, view: HpaView | None, pause: Pause) -> Move:
    """What to send, and whether that changes anything. `view` None: the HPA is to be created."""
    said = _said(rules)
    if view is None:
        return Move(said or None)
    wanted = said or (behavior.parse(original_of(view.annotations).get("behavior")) if view.behavior_owned else Sides())
    # A server without the feature drops a tolerance without a word, and leaves it in managedFields all the same.
    missing = behavior.missing(view.behavior, wanted)
    dropped = frozenset(f for f in missing & view.behavior_owned if f.endswith(".tolerance"))
    left = view.behavior_owned - wanted.fields()
    hold = _dropped(dropped) if dropped else None
    if missing <= dropped and not left:
        owned = bool(view.behavior_owned)
        taken = Change(FIELD, "another's", "trimtab's", "the policy says the same") if said and not owned else None
        return Move(wanted or None, taken, hold)
    if pause.lowering or pause.raising:
        kept = wanted if view.behavior_owned and not left else None
        return Move(kept, None, Hold(FIELD, f"{pause.why}; asked for {behavior.show(wanted)}"))
    reason = "the policy's behavior" if said else "the policy has none; as it was found"
    return Move(wanted or None, Change(FIELD, behavior.show(view.behavior), behavior.show(wanted), reason), hold)


def _said(rules: Scaling) -> Sides:
    given = rules.behavior
    return Sides() if given is None else Sides(_direction(given.scaleUp), _direction(given.scaleDown))


def _direction(side: ScaleUp | ScaleDown | None) -> Direction | None:
    if side is None:
        return None
    return Direction(
        policies=tuple(RatePolicy(p.type, p.value, float(p.periodSeconds)) for p in side.policies),
        window_seconds=None if side.stabilizationWindowSeconds is None else float(side.stabilizationWindowSeconds),
        select=Select(side.selectPolicy),
        tolerance=side.tolerance,
    )


def _dropped(fields: frozenset[str]) -> Hold:
    names = ", ".join(sorted(fields))
    return Hold(
        FIELD, f"this API server drops {names}: it needs Kubernetes 1.35, or the feature HPAConfigurableTolerance"
    )
