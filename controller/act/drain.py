"""Marks pods as the next to go, and takes the mark away again: two annotations, of exactly this pod."""

from __future__ import annotations

from typing import Any

from controller.clients.kube import KubeApi, path_of
from controller.deadline import Deadline
from controller.errors import Conflict, Denied, NotFound
from controller.model.drain import COST, DELETION_COST, DRAINING, Mark, text_of
from controller.model.fence import Fence
from controller.model.outcome import Result
from controller.model.plan import Drain, DrainPod

NEEDS = "scaling.drain needs the verb patch on pods (manifests/components/drain)"


class PodMarker:
    """Writes the annotations. A pod that is gone by now, or is another one, needs none."""

    def __init__(self, kube: KubeApi) -> None:
        self._kube = kube

    def carry_out(
        self, drain: Drain, namespace: str, *, at: float, fence: Fence, deadline: Deadline
    ) -> tuple[Result, str]:
        """Give pods back first, then mark others; the result and what was done, in words.

        Raises:
            DependencyError: the API server did not do it.
        """
        done = []
        for word, pods in (("given back", drain.release), ("draining", drain.mark)):
            for pod in pods:
                if not fence.valid():
                    return Result.REFUSED, "this replica no longer leads"
                wanted = _mark(pod, at) if word == "draining" else {DRAINING: None, DELETION_COST: pod.cost_before}
                if self._patch(namespace, pod, wanted, deadline):
                    done.append(f"{pod.name} {word}")
        return (Result.DONE, ", ".join(done)) if done else (Result.UNCHANGED, "the pods are gone")

    def _patch(self, namespace: str, pod: DrainPod, annotations: dict[str, Any], deadline: Deadline) -> bool:
        # The uid makes the server refuse a pod of the same name that is another one.
        body = {"metadata": {"uid": pod.uid, "annotations": annotations}}
        try:
            self._kube.patch_merge(
                path_of("v1", "pods", namespace, pod.name), body, query={"fieldManager": "trimtab"}, deadline=deadline
            )
        except (NotFound, Conflict):
            return False
        except Denied as error:
            raise Denied(error.system, f"{NEEDS}: {error.message}") from error
        return True


def _mark(pod: DrainPod, at: float) -> dict[str, Any]:
    return {DRAINING: text_of(Mark(at, pod.cost)), DELETION_COST: COST}
