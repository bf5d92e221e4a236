"""Somebody puts the HPA back again and again: seen, named, not fought; and what is not ours to write stays theirs."""

import pytest
from acceptance_world import done, outcome_of
from support.objects import hpa

from controller.model.outcome import Result

TICKS_A_MINUTE = 4
"""The interval is 15 s: a revert each minute comes every fourth tick."""


def by_replace(world, body):
    """The whole object, as a cron job with `kubectl replace` does it: our mark goes with it."""
    world.kubectl("replace", body=body)


def by_apply(world, body):
    world.kubectl("apply", body=body)


def by_forced_apply(world, body):
    """As Flux does it."""
    world.api.apply(f"{world.paths.hpas}/web", body, "kustomize-controller", force="true")


def by_update(world, body):
    """As a controller with a typed client does it: read, change, put."""
    live = world.hpa()
    live["spec"] |= body["spec"]
    world.api.put(f"{world.paths.hpas}/web", live, fieldManager="argocd-controller")


@pytest.mark.parametrize(
    ("revert", "who"),
    [
        (by_replace, "kubectl-replace"),
        (by_apply, "kubectl-client-side-apply"),
        (by_forced_apply, "kustomize-controller"),
        (by_update, "argocd-controller"),
    ],
)
def test_a_revert_each_minute_is_told_of_and_not_fought(steered, daemon, revert, who):
    world = steered
    theirs = hpa(least=3, most=12)
    theirs["metadata"]["labels"] = {"team": "vision"}
    theirs["spec"]["behavior"] = {"scaleDown": {"stabilizationWindowSeconds": 7}}
    external = {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}}
    theirs["spec"]["metrics"].append({"type": "External", "external": external})
    world.kubectl("apply", body=theirs)
    world.backlog(9)
    daemon.tick_until(lambda _: world.bounds()[0] > 3)
    written = []
    for _ in range(10):
        revert(world, theirs)
        for _ in range(TICKS_A_MINUTE):
            report = daemon.tick()
            written.append(bool(outcome_of(report, "hpa", Result.DONE)))
    assert sum(written[:8]) <= 2, written
    assert not any(written[8:]), "after two minutes it is theirs"
    assert world.bounds() == (3, 12)
    conflicts = [note for reason, note in world.events() if reason == "TrimtabConflict"]
    assert 1 <= len(conflicts) <= 2, conflicts
    assert who in conflicts[-1]
    assert who in daemon.decisions()
    live = world.hpa()
    assert live["metadata"]["labels"] == {"team": "vision"}
    assert live["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 7
    assert live["spec"]["metrics"][2]["external"] == external


def test_min_zero_where_the_server_takes_none_is_said_and_the_rest_goes_on(steered, daemon):
    world = steered
    body = hpa(least=1, most=12)
    external = {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}}
    body["spec"]["metrics"].append({"type": "External", "external": external})
    world.kubectl("apply", body=body)
    world.exporter.set(world.namespace, (0.1, 0.0))
    world.policy(least=(0, 6), most=(10, 20))
    report = daemon.tick_until(lambda r: "takes no minReplicas 0" in str(outcome_of(r, "hpa")), 30)
    assert outcome_of(report, "hpa", Result.REFUSED)
    assert world.bounds()[0] == 1
    world.backlog(9)
    daemon.tick_until(done("hpa"))
    assert world.bounds()[0] > 1
