"""Carries out one HPA write: looks again, then one server-side apply that touches only our fields."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from controller.act import manifest
from controller.act.fights import Fights
from controller.act.zero import Zero, without_zero
from controller.clients.kube import FIELD_MANAGER, FieldConflict, KubeApi, path_of
from controller.deadline import Deadline
from controller.errors import Conflict, NotFound, Rejected
from controller.model.fence import Fence
from controller.model.hpa import LEARNED, ORIGINAL, POLICY, adopted, annotations_of, original_of, owns
from controller.model.outcome import Result
from controller.model.plan import HpaRelease, HpaWrite

CONFLICT_PAUSE_SECONDS = 600.0
_BEHAVIOR = ".spec.behavior"
_LEARNED = f".metadata.annotations.{LEARNED}"
"""Nobody else's, whoever has written there."""
_APPLIERS = ("kubectl", "helm", "before-first-apply")
"""Tools that a person runs once. A GitOps controller is not among them: it would take the fields back, for ever."""


@dataclass(frozen=True, slots=True)
class Written:
    """How one write ended.

    Args:
        uid: of the HPA, for Events; empty when it is not known.
        conflict: whether somebody else owns fields that we would move.
    """

    result: Result
    detail: str
    uid: str = ""
    conflict: bool = False


class HpaWriter:
    """Remembers which HPAs were taken back by somebody else, so as not to fight each tick."""

    def __init__(self, kube: KubeApi, clock: Callable[[], float] = time.monotonic, *, installation: str = "") -> None:
        self._kube = kube
        self._installation = installation
        self._clock = clock
        self._fights = Fights(installation, clock)
        self._zero = Zero(kube, clock)
        self._contested: dict[str, tuple[str, float, str]] = {}  # path -> what it looked like, when, whose it is

    def write(
        self, write: HpaWrite, *, policy: str, at: float, adopt: bool, fence: Fence, deadline: Deadline
    ) -> Written:
        """Create or change one HPA.

        Args:
            at: when it was decided, seconds since the epoch.
            adopt: whether fields that a person applied by hand may be taken over, once.

        Raises:
            DependencyError: the API server did not do it.
        """
        path = hpa_path(write.namespace, write.name)
        live = self.read(path, deadline)
        uid = _uid(live)
        objection = manifest.objection(live, write, policy, at)
        if objection:
            return Written(Result.REFUSED, f"HPA {write.name}: {objection}", uid)
        wanted = manifest.body(write, policy, live, self._installation)
        refusal = self._zero.refusal(write, path, wanted, deadline)
        if refusal:
            write = without_zero(write)
            wanted = manifest.body(write, policy, live, self._installation)
            if live is not None and manifest.is_so(live, wanted):
                return Written(Result.REFUSED, f"HPA {write.name}: {refusal}", uid)
        if live is not None and manifest.is_so(live, wanted):
            return Written(Result.UNCHANGED, f"HPA {write.name}: {manifest.show(write.after)}", uid)
        if not fence.valid():
            return Written(Result.REFUSED, "this replica no longer leads", uid)
        return self._write(write, path, live, wanted, adopt=adopt, deadline=deadline)

    def _write(
        self,
        write: HpaWrite,
        path: str,
        live: dict[str, Any] | None,
        wanted: dict[str, Any],
        *,
        adopt: bool,
        deadline: Deadline,
    ) -> Written:
        uid, looks = _uid(live), _fingerprint(live)
        contested = self._contested.get(path)
        if contested and contested[0] == looks and self._clock() - contested[1] < CONFLICT_PAUSE_SECONDS:
            return Written(Result.REFUSED, contested[2], uid)
        fight = self._fights.quiet(path, live)
        if fight:
            return Written(Result.REFUSED, f"HPA {write.name}: {fight}", uid, conflict=True)
        try:
            answer = self._apply(path, wanted, live if adopt else None, deadline)
        except FieldConflict as conflict:
            detail = _whose(write, conflict, adopt=adopt)
            self._contested[path] = (looks, self._clock(), detail)
            return Written(Result.REFUSED, detail, uid, conflict=True)
        except Conflict:
            detail = f"HPA {write.name}: it changed while being written; the next tick looks again"
            return Written(Result.REFUSED, detail, uid)
        self._contested.pop(path, None)
        self._fights.wrote(path, answer)
        return Written(Result.DONE, _sentence(write), _uid(answer))

    def release(self, release: HpaRelease, *, policy: str, fence: Fence, deadline: Deadline) -> Written:
        """Let go of an HPA that a policy steered; its values stay.

        Raises:
            DependencyError: the API server did not do it.
        """
        path = hpa_path(release.namespace, release.name)
        live = self.read(path, deadline)
        if live is None or annotations_of(live).get(POLICY) != policy:
            return Written(Result.UNCHANGED, f"HPA {release.name}: it is no longer steered by {policy}", _uid(live))
        if not fence.valid():
            return Written(Result.REFUSED, "this replica no longer leads", _uid(live))
        operations = manifest.release(live, handover=release.handover)
        try:
            self._kube.patch_json(path, operations, query={"fieldManager": FIELD_MANAGER}, deadline=deadline)
        except Rejected as error:  # the test of its version: it changed since it was read
            return Written(Result.REFUSED, f"HPA {release.name}: {error.message}", _uid(live))
        self._contested.pop(path, None)
        return Written(Result.DONE, f"HPA {release.name}: let go ({release.reason})", _uid(live))

    def read(self, path: str, deadline: Deadline) -> dict[str, Any] | None:
        """The HPA as it is now; None when there is none."""
        try:
            return self._kube.get(path, deadline=deadline)
        except NotFound:
            return None

    def _apply(
        self, path: str, wanted: dict[str, Any], live: dict[str, Any] | None, deadline: Deadline
    ) -> dict[str, Any]:
        try:
            return self._kube.apply(path, wanted, deadline=deadline)
        except FieldConflict as conflict:
            theirs = [field for field in conflict.fields if field != _LEARNED]
            if theirs and (live is None or not _may_force(live, theirs, by_hand=_applied_by_hand(conflict))):
                raise
            return self._kube.apply(path, wanted, force=True, deadline=deadline)


def hpa_path(namespace: str, name: str) -> str:
    """The path of one HPA."""
    return path_of(manifest.API, manifest.PLURAL, namespace, name)


def _uid(live: dict[str, Any] | None) -> str:
    return str(((live or {}).get("metadata") or {}).get("uid", ""))


def _fingerprint(live: dict[str, Any] | None) -> str:
    """What a person may have changed; the status moves by itself and does not count."""
    if live is None:
        return ""
    metadata = live["metadata"]
    return json.dumps([live["spec"], metadata.get("annotations"), metadata.get("labels")], sort_keys=True)


def _may_force(live: dict[str, Any], fields: Sequence[str], *, by_hand: bool) -> bool:
    """Whether the fields in conflict are ours to take: applied by hand, and either not adopted yet or still ours too.

    An adoption that changes no value leaves both managers as owners. Whoever changes a field afterwards takes it from us.
    `behavior` may come later, when the policy first says something of it, and is then adopted like the rest.
    """
    if not by_hand:
        return False
    untouched = ORIGINAL in annotations_of(live) and "behavior" not in original_of(annotations_of(live))
    return not adopted(live) or all(
        owns(live, field) or (untouched and field.startswith(_BEHAVIOR)) for field in fields
    )


def _applied_by_hand(conflict: FieldConflict) -> bool:
    return all(manager.startswith(_APPLIERS) for manager in conflict.managers)


def _whose(write: HpaWrite, conflict: FieldConflict, *, adopt: bool) -> str:
    fields = ", ".join(field.removeprefix(".") for field in conflict.fields)
    remedy = "take these fields out of what it applies"
    if not adopt:
        remedy += ", or set scaling.adopt: true"
    elif _applied_by_hand(conflict):
        remedy += (
            f", or `kubectl annotate hpa {write.name} -n {write.namespace} {POLICY}-` hands them to Trimtab once more"
        )
    return f"HPA {write.name}: {', '.join(conflict.managers)} owns {fields}; {remedy}"


def _sentence(write: HpaWrite) -> str:
    after = manifest.show(write.after)
    if write.before is None:
        return f"HPA {write.name}: created with {after}"
    return f"HPA {write.name}: {manifest.show(write.before)} -> {after}" + (
        f" ({write.reason})" if write.reason else ""
    )
