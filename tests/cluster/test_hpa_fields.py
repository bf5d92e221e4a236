"""Who owns which field of a steered HPA: `behavior` comes and goes with the policy, what others write beside us stays."""

import json

import pytest
from acceptance_world import holds, outcome_of
from support.objects import deployment, hpa

DOWN = {
    "stabilizationWindowSeconds": 3,
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 1}],
}
FOUND = {"scaleDown": {"stabilizationWindowSeconds": 7}}


def quiet(daemon, ticks=4):
    reports = [daemon.tick() for _ in range(ticks)]
    assert not any(outcome_of(report, "hpa") for report in reports), [r.plans[0].sentence() for r in reports]


@pytest.mark.parametrize("found", [None, FOUND], ids=["found with none", "found with its owner's"])
def test_behavior_comes_with_the_policy_and_goes_with_it(steered, daemon, found):
    body = hpa()
    if found:
        body["spec"]["behavior"] = found
    steered.kubectl("apply", body=body)
    daemon.tick()
    before = steered.hpa()["spec"].get("behavior")
    steered.policy(behavior={"scaleDown": {**DOWN, "tolerance": 0.05}})
    daemon.tick()
    assert steered.hpa()["spec"]["behavior"]["scaleDown"] == {**DOWN, "tolerance": "50m"}
    assert json.loads(steered.hpa()["metadata"]["annotations"]["trimtab/original"])["behavior"] == before
    quiet(daemon)
    steered.policy(behavior={"scaleDown": DOWN})
    daemon.tick()
    assert steered.hpa()["spec"]["behavior"]["scaleDown"] == DOWN
    quiet(daemon)
    steered.policy()
    daemon.tick()
    assert steered.hpa()["spec"].get("behavior") == before
    quiet(daemon)


def test_a_behavior_that_the_server_would_refuse_is_a_fault_of_the_policy(steered, daemon):
    daemon.tick()
    steered.policy(behavior={"scaleDown": {**DOWN, "stabilizationWindowSeconds": 3601}})
    daemon.tick()
    assert "at most 3600" in str(daemon.app.store.current.faults)
    assert "behavior" not in steered.hpa()["spec"]


def test_what_others_write_beside_us_stays(steered, daemon):
    steered.kubectl("apply", body=hpa())
    daemon.tick()
    external = {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}}
    theirs = {
        "metadata": {"labels": {"team": "vision"}, "annotations": {"example.com/note": "ours"}},
        "spec": {"behavior": {"scaleUp": {"stabilizationWindowSeconds": 3}}},
    }
    steered.kubectl("patch", "hpa", "web", "--type=merge", "-p", json.dumps(theirs))
    theirs = {"spec": {"metrics": [*steered.hpa()["spec"]["metrics"], {"type": "External", "external": external}]}}
    steered.api.merge(f"{steered.paths.hpas}/web", theirs)  # by a program: the list is its own now, as long as we agree
    steered.policy(least=(3, 6), behavior={"scaleDown": DOWN})
    daemon.tick_until(lambda _: steered.bounds()[0] == 3)
    live = steered.hpa()
    assert live["metadata"]["labels"]["team"] == "vision"
    assert live["metadata"]["annotations"]["example.com/note"] == "ours"
    assert live["spec"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 3
    assert live["spec"]["behavior"]["scaleDown"] == DOWN
    assert [metric["type"] for metric in live["spec"]["metrics"]] == ["Resource", "Resource", "External"]
    assert live["spec"]["metrics"][2]["external"] == external


def test_an_hpa_that_is_blind_is_not_lowered_and_it_is_said(steered, daemon):
    steered.backlog(9)
    daemon.tick_until(lambda _: steered.bounds()[0] == 4)
    steered.cluster.metrics.clear(steered.namespace)
    daemon.tick_until(lambda r: "cannot read its metrics: FailedGet" in holds(r), 30)
    steered.backlog(0)
    stood = steered.bounds()
    daemon.tick_until(lambda r: "no decrease on doubtful data: the HPA itself cannot read its metrics" in holds(r))
    for _ in range(8):
        daemon.tick()
    assert steered.bounds() == stood
    assert any("cannot read its metrics" in note for reason, note in steered.events() if reason == "TrimtabHeld")
    steered.cluster.metrics.set(steered.namespace, "*", 0.3, 2**20)
    daemon.tick_until(lambda _: steered.bounds()[0] == 2, 30)


def test_hpas_of_two_workloads_with_the_same_labels_are_left_alone(steered, daemon):
    daemon.tick()
    double = deployment("double", 1)
    double["spec"]["selector"] = {"matchLabels": {"app": "web"}}
    double["spec"]["template"]["metadata"] = {"labels": {"app": "web"}}
    steered.api.post(steered.paths.deployments, double)
    steered.kubectl("create", body=hpa("double"))
    steered.backlog(9)
    daemon.tick_until(lambda r: "another HPA selects the same pods, so neither scales" in holds(r), 30)
    stood = steered.bounds()
    for _ in range(4):
        assert not outcome_of(daemon.tick(), "hpa")
    assert steered.bounds() == stood


def test_two_hpas_on_the_same_pods_are_both_left_alone_and_it_is_said(steered, daemon):
    daemon.tick()
    other = hpa(name="other")
    other["spec"]["scaleTargetRef"]["name"] = "web"
    steered.kubectl("create", body=other)
    spec = steered.hpa()["spec"]
    steered.backlog(9)
    reports = [daemon.tick() for _ in range(3)]
    assert all("HPA other on the same target" in holds(report) for report in reports)
    assert steered.hpa()["spec"] == spec
