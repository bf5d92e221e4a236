"""The daemon and one HPA on a real API server: created, adopted, stepped, left alone, paused, taken away."""

import itertools
import json
import time

import pytest
from acceptance_world import BUSY, done, holds, outcome_of
from support.eventually import eventually
from support.objects import hpa, managers, utilization

from controller.clients.kube import KubeApi
from controller.model.outcome import Result

POLICY, ORIGINAL, PAUSED = "trimtab/policy", "trimtab/original", "trimtab/paused"


def rich_hpa(least=3, most=12, cpu=60):
    """An HPA as a person writes it, with more in it than Trimtab moves."""
    body = hpa(least=least, most=most, cpu=cpu)
    body["metadata"]["annotations"] = {"example.com/team": "vision"}
    body["spec"]["behavior"] = {"scaleDown": {"stabilizationWindowSeconds": 7}}
    target = {"type": "AverageValue", "averageValue": "50"}
    body["spec"]["metrics"].append({"type": "Pods", "pods": {"metric": {"name": "queue"}, "target": target}})
    return body


def test_created_when_absent_and_again_when_deleted(steered, daemon):
    report = daemon.tick()
    made = steered.hpa()
    assert [o.detail for o in outcome_of(report, "hpa", Result.DONE)] == [
        "HPA web: created with min 2, max 10, cpu 70 %, memory 80 %"
    ]
    assert (made["spec"]["minReplicas"], made["spec"]["maxReplicas"]) == (2, 10)
    assert made["spec"]["metrics"] == [utilization("cpu", 70), utilization("memory", 80)]
    assert made["metadata"]["annotations"][POLICY] == steered.key()
    assert managers(made) == {("trimtab", "Apply")}
    assert ("TrimtabRescaled", "HPA web: created with min 2, max 10, cpu 70 %, memory 80 %") in steered.events()
    assert "created with the policy's floor" in daemon.decisions()
    steered.api.delete(f"{steered.paths.hpas}/web")
    daemon.tick()
    again = steered.hpa()
    assert again["metadata"]["uid"] != made["metadata"]["uid"]
    assert again["spec"] == made["spec"]


def by_apply(world, body):
    world.kubectl("apply", body=body)


def by_server_side_apply(world, body):
    world.kubectl("apply", "--server-side", body=body)


def by_create(world, body):
    world.kubectl("create", body=body)


def by_another_program_that_agrees(world, body):
    world.api.apply(f"{world.paths.hpas}/web", body, "deploy-script")


@pytest.mark.parametrize(
    ("made", "cpu"),
    [
        pytest.param(by_apply, 60, id="kubectl apply, another target"),
        pytest.param(by_apply, 70, id="kubectl apply, as in the policy"),
        pytest.param(by_server_side_apply, 70, id="kubectl apply --server-side, as in the policy"),
        pytest.param(by_create, 70, id="kubectl create, as in the policy"),
    ],
)
def test_adopted_with_the_bounds_it_has_and_then_stepped(steered, daemon, made, cpu):
    made(steered, rich_hpa(cpu=cpu))
    steered.backlog(9)
    daemon.tick_until(lambda _: steered.bounds()[0] >= 5)
    adopted = steered.hpa()
    annotations = adopted["metadata"]["annotations"]
    assert json.loads(annotations[ORIGINAL]) == {"minReplicas": 3, "maxReplicas": 12, "cpu": cpu, "memory": 80}
    assert annotations["example.com/team"] == "vision"
    assert annotations[POLICY] == steered.key()
    assert adopted["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 7
    assert [m["type"] for m in adopted["spec"]["metrics"]] == ["Resource", "Resource", "Pods"]
    assert adopted["spec"]["metrics"][0] == utilization("cpu", 70)
    assert adopted["spec"]["maxReplicas"] == 12
    notes = [note for reason, note in steered.events() if reason == "TrimtabRescaled"]
    assert any("min 3, max 12" in note and "requests wait" in note for note in notes), notes


def test_another_program_that_agrees_shares_the_fields_until_they_are_to_move(steered, daemon):
    by_another_program_that_agrees(steered, rich_hpa(cpu=70))
    assert outcome_of(daemon.tick(), "hpa", Result.DONE)
    assert {("trimtab", "Apply"), ("deploy-script", "Apply")} <= managers(steered.hpa())
    steered.backlog(9)
    report = daemon.tick_until(lambda r: outcome_of(r, "hpa", Result.REFUSED))
    assert "deploy-script owns spec.minReplicas" in report.outcomes[-2].detail + report.outcomes[-1].detail
    assert steered.bounds() == (3, 12)


def test_bounds_move_in_steps_and_the_maximum_stays_above_what_runs(steered, daemon):
    steered.policy(least=(2, 6), most=(4, 8))
    steered.backlog(9)
    seen = [(2, 4)]
    daemon.tick()
    until = time.monotonic() + 20
    while seen[-1] != (6, 8) and time.monotonic() < until:
        daemon.tick()
        runs = steered.replicas()
        bounds = steered.bounds()
        assert bounds[0] <= bounds[1]
        assert bounds[1] >= runs
        if bounds != seen[-1]:
            seen.append(bounds)
        eventually(lambda: steered.ready() >= min(steered.bounds()[0], steered.bounds()[1]))
    assert seen[-1] == (6, 8)
    for before, after in itertools.pairwise(seen):
        assert all(0 <= b - a <= 2 for a, b in zip(before, after, strict=True)), seen


def with_owner(world, body):
    owner = world.api.post(f"/api/v1/namespaces/{world.namespace}/configmaps", {"metadata": {"name": "scaler"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "scaler", "uid": owner["metadata"]["uid"]}
    body["metadata"]["ownerReferences"] = [{**reference, "controller": True}]
    return "belongs to ConfigMap scaler"


def with_keda_label(_world, body):
    body["metadata"]["labels"] = {"scaledobject.keda.sh/name": "web-scaler"}
    return "belongs to KEDA ScaledObject web-scaler"


def with_other_policy(world, body):
    body["metadata"].setdefault("annotations", {})[POLICY] = f"{world.namespace}/other"
    return f"belongs to Trimtab policy {world.namespace}/other"


def with_other_target(_world, body):
    body["spec"]["scaleTargetRef"]["name"] = "elsewhere"
    return "scales Deployment elsewhere, the policy says Deployment web"


@pytest.mark.parametrize("foreign", [with_owner, with_keda_label, with_other_policy, with_other_target])
def test_a_foreign_one_is_left_alone_and_told_of(steered, daemon, foreign):
    body = hpa(least=1, most=3)
    message = foreign(steered, body)
    steered.kubectl("create", body=body)
    spec = steered.hpa()["spec"]
    steered.backlog(9)
    reports = [daemon.tick() for _ in range(4)]
    assert all(message in holds(report) for report in reports), holds(reports[-1])
    assert not any(outcome_of(report, "hpa") for report in reports)
    assert message in daemon.decisions()
    assert [reason for reason, note in steered.events() if message in note] == ["TrimtabHeld"]
    assert steered.hpa()["spec"] == spec
    assert "trimtab" not in {manager for manager, _ in managers(steered.hpa())}


def test_a_foreign_field_manager_is_refused_with_its_name(steered, daemon):
    steered.api.apply(f"{steered.paths.hpas}/web", hpa(least=1, most=30), "argocd-controller")
    reports = [daemon.tick() for _ in range(3)]
    for report in reports:
        (outcome,) = outcome_of(report, "hpa")
        assert outcome.result is Result.REFUSED
        assert "argocd-controller owns" in outcome.detail
    assert steered.bounds() == (1, 30)
    assert "argocd-controller owns" in daemon.decisions()
    assert [reason for reason, note in steered.events() if "argocd-controller owns" in note] == ["TrimtabConflict"]


def test_fields_taken_back_are_not_fought_over_and_handed_over_again(steered, daemon):
    theirs = hpa(least=3, most=12)
    steered.kubectl("apply", body=theirs)
    steered.backlog(9)
    daemon.tick_until(lambda _: steered.bounds()[0] > 3)
    steered.kubectl("apply", body=theirs)
    report = daemon.tick_until(lambda r: outcome_of(r, "hpa", Result.REFUSED))
    (outcome,) = outcome_of(report, "hpa")
    assert "kubectl-client-side-apply owns spec.minReplicas" in outcome.detail
    assert f"kubectl annotate hpa web -n {steered.namespace} trimtab/policy-" in outcome.detail
    assert outcome.detail in daemon.decisions()
    assert ("TrimtabConflict", outcome.detail) in steered.events()
    for _ in range(4):
        daemon.tick()
    assert steered.bounds() == (3, 12)
    assert len([reason for reason, _ in steered.events() if reason == "TrimtabConflict"]) == 1
    steered.backlog(0)  # nothing asks for a move now; handing over is an act of its own
    steered.kubectl("annotate", "hpa", "web", "trimtab/policy-")
    daemon.tick_until(lambda _: steered.hpa()["metadata"]["annotations"].get(POLICY) == steered.key())
    steered.backlog(9)
    daemon.tick_until(lambda _: steered.bounds()[0] > 3)


def instant(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


@pytest.mark.parametrize(
    ("word", "message", "moves"),
    [
        ("true", "paused by trimtab/paused: true", (False, False)),
        ("all", "paused by trimtab/paused: all", (False, False)),
        ("in", "paused by trimtab/paused: in", (True, False)),
        ("out", "paused by trimtab/paused: out", (False, True)),
        ("in an hour", "paused until", (False, False)),
        ("an hour ago", "", (True, None)),
    ],
)
def test_a_pause_is_kept(steered, daemon, word, message, moves):
    raises, lowers = moves
    steered.backlog(9)
    daemon.tick_until(lambda _: steered.bounds()[0] == 4)
    word = {"in an hour": instant(3600), "an hour ago": instant(-3600)}.get(word, word)
    steered.kubectl("annotate", "hpa", "web", f"{PAUSED}={word}")
    spec = steered.hpa()["spec"]
    if raises:
        daemon.tick_until(lambda _: steered.bounds()[0] == 6)
    else:
        daemon.tick_until(lambda report: message in holds(report))
        assert steered.hpa()["spec"] == spec
        assert message in daemon.decisions()
        assert any(reason == "TrimtabHeld" and message in note for reason, note in steered.events())
    steered.backlog(0)
    stood = steered.bounds()
    if lowers:
        daemon.tick_until(lambda _: steered.bounds()[0] == 2)
    elif lowers is False:
        daemon.tick_until(lambda report: message in holds(report))
        assert steered.bounds() == stood


def test_a_missing_target_gets_no_hpa_until_it_is_there(world):
    world.policy()
    with world.daemon() as daemon:
        assert "there is no Deployment web" in holds(daemon.tick())
        assert world.hpa() is None
        assert "there is no Deployment web" in daemon.decisions()
        world.deploy()
        daemon.tick_until(done("hpa"))
        assert world.bounds() == (2, 10)


def test_a_workload_switched_off_by_hand_stays_off(steered, daemon):
    daemon.tick()
    steered.kubectl("scale", "deployment", "web", "--replicas=0")
    eventually(lambda: steered.ready() == 0)
    steered.backlog(9)
    spec = steered.hpa()["spec"]
    reports = [daemon.tick() for _ in range(4)]
    assert all("is switched off by its owner (0 replicas)" in holds(report) for report in reports)
    assert steered.hpa()["spec"] == spec
    assert steered.replicas() == 0
    assert [r for r, note in steered.events() if "switched off" in note] == ["TrimtabHeld"]


def test_nothing_is_written_while_nothing_changes(steered, daemon, monkeypatch):
    daemon.tick()
    assert eventually(lambda: steered.hpa().get("status", {}).get("conditions"))
    eventually(
        lambda: (
            {c["type"]: c["reason"] for c in steered.hpa()["status"]["conditions"]}.get("ScalingActive")
            == "ValidMetricFound"
        )
    )
    version = None

    def settled():
        nonlocal version
        before, version = version, steered.hpa()["metadata"]["resourceVersion"]
        return before == version

    eventually(settled, every_seconds=1.5)  # the HPA's own status is still by now
    calls = []
    whole = KubeApi._call

    def recorded(self, method, *args, **options):
        calls.append(method)
        return whole(self, method, *args, **options)

    monkeypatch.setattr(KubeApi, "_call", recorded)
    for _ in range(35):
        report = daemon.tick()
        assert not outcome_of(report, "hpa")
        assert not report.snapshot.problems
    assert set(calls) == {"GET"}
    assert len(calls) == 35 * 3  # HPAs, scale, pods
    assert steered.hpa()["metadata"]["resourceVersion"] == version
    steered.exporter.set(steered.namespace, BUSY)  # and it is awake all the same
    daemon.tick_until(done("hpa"))
