"""The calls that Trimtab makes get the same answers from a real API server and from the emulator."""

import copy
from types import MappingProxyType

import pytest
from support.eventually import eventually
from support.objects import deployment, hpa, managers, utilization

from controller.lab.cluster.api import ApiError


@pytest.fixture
def api(plane):
    return plane.api()


def refused(call, *args, **kwargs):
    with pytest.raises(ApiError) as caught:
        call(*args, **kwargs)
    return caught.value


class TestApply:
    def test_creates_and_updates(self, api, paths):
        made = api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
        assert made["spec"]["minReplicas"] == 2
        assert managers(made) == {("trimtab", "Apply")}
        moved = api.apply(f"{paths.hpas}/web", hpa(least=3), "trimtab")
        assert moved["spec"]["minReplicas"] == 3
        assert moved["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
        assert moved["metadata"]["uid"] == made["metadata"]["uid"]

    def test_of_the_same_values_changes_nothing(self, api, paths):
        made = api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
        again = api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
        assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    def test_owns_the_fields_it_sends(self, api, paths):
        made = api.apply(f"{paths.hpas}/web", hpa(cpu=None, memory=None), "trimtab")
        (entry,) = made["metadata"]["managedFields"]
        target = {"f:apiVersion": {}, "f:kind": {}, "f:name": {}}
        assert entry["fieldsV1"] == {"f:spec": {"f:maxReplicas": {}, "f:minReplicas": {}, "f:scaleTargetRef": target}}

    def test_conflicts_with_another_owner_and_takes_by_force(self, api, paths):
        api.post(paths.hpas, hpa(), fieldManager="kubectl-client-side-apply")
        error = refused(api.apply, f"{paths.hpas}/web", hpa(least=4), "trimtab")
        assert (error.status, error.reason) == (409, "Conflict")
        assert "kubectl-client-side-apply" in error.message
        assert "minReplicas" in error.message
        assert [(cause["reason"], cause["field"]) for cause in error.causes] == [
            ("FieldManagerConflict", ".spec.minReplicas")
        ]
        assert error.causes[0]["message"].startswith('conflict with "kubectl-client-side-apply" using autoscaling/v2')
        taken = api.apply(f"{paths.hpas}/web", hpa(least=4), "trimtab", force="true")
        assert taken["spec"]["minReplicas"] == 4
        assert managers(taken) == {("trimtab", "Apply"), ("kubectl-client-side-apply", "Update")}

    def test_of_an_equal_value_shares_the_field(self, api, paths):
        api.apply(f"{paths.hpas}/web", hpa(), "somebody")
        shared = api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
        assert managers(shared) == {("somebody", "Apply"), ("trimtab", "Apply")}
        assert refused(api.apply, f"{paths.hpas}/web", hpa(most=9), "trimtab").status == 409

    def test_that_leaves_out_an_owned_field_resets_it(self, api, paths):
        api.apply(f"{paths.hpas}/web", hpa(least=4), "trimtab")
        assert api.apply(f"{paths.hpas}/web", hpa(least=None), "trimtab")["spec"]["minReplicas"] == 1

    def test_that_leaves_out_a_field_of_another_keeps_it(self, api, paths):
        api.apply(f"{paths.hpas}/web", hpa(least=4), "somebody")
        api.apply(f"{paths.hpas}/web", hpa(least=4), "trimtab")
        assert api.apply(f"{paths.hpas}/web", hpa(least=None), "trimtab")["spec"]["minReplicas"] == 4

    def test_replaces_the_metrics_as_a_whole(self, api, paths):
        api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
        metrics = api.apply(f"{paths.hpas}/web", hpa(memory=None), "trimtab")["spec"]["metrics"]
        assert metrics == [utilization("cpu", 70)]

    def test_merges_annotations_of_several_managers(self, api, paths):
        first = hpa()
        first["metadata"]["annotations"] = {"them": "1"}
        api.apply(f"{paths.hpas}/web", first, "somebody")
        second = hpa()
        second["metadata"]["annotations"] = {"trimtab/policy": "models/web"}
        both = api.apply(f"{paths.hpas}/web", second, "trimtab")
        assert both["metadata"]["annotations"] == {"them": "1", "trimtab/policy": "models/web"}

    def test_as_a_dry_run_changes_nothing(self, api, paths):
        api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
        assert api.apply(f"{paths.hpas}/web", hpa(least=5), "trimtab", dryRun="All")["spec"]["minReplicas"] == 5
        assert api.get(f"{paths.hpas}/web")["spec"]["minReplicas"] == 2

    def test_after_a_merge_patch_by_the_same_name_splits_the_ownership(self, api, paths):
        api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
        patched = api.merge(f"{paths.hpas}/web", {"spec": {"minReplicas": 5}}, fieldManager="trimtab")
        assert managers(patched) == {("trimtab", "Apply"), ("trimtab", "Update")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"minReplicas": 11}, "maxReplicas", id="min above max"),
        pytest.param({"maxReplicas": 0}, "maxReplicas", id="max below 1"),
        pytest.param({"minReplicas": 0}, "minReplicas", id="min 0 with resource metrics"),
        pytest.param({"scaleTargetRef": {"kind": "Deployment", "name": ""}}, "scaleTargetRef", id="no target"),
        pytest.param({"metrics": [utilization("cpu", 0)]}, "averageUtilization", id="target of 0 percent"),
    ],
)
def test_an_invalid_hpa_is_unprocessable(api, paths, change, words):
    body = hpa()
    body["spec"] |= change
    for call in (lambda: api.apply(f"{paths.hpas}/web", body, "trimtab"), lambda: api.post(paths.hpas, body)):
        error = refused(call)
        assert (error.status, error.reason) == (422, "Invalid")
        assert words in error.message


class TestReads:
    def test_what_is_absent_is_not_found(self, api, paths):
        for path in (f"{paths.hpas}/x", f"{paths.deployments}/x/scale", f"{paths.leases}/x", f"{paths.pods}/x"):
            error = refused(api.get, path)
            assert (error.status, error.reason) == (404, "NotFound")

    def test_lists_name_their_kind_and_keep_to_the_namespace(self, api, paths):
        api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
        found = api.get(paths.hpas)
        assert (found["kind"], found["apiVersion"]) == ("HorizontalPodAutoscalerList", "autoscaling/v2")
        assert [item["metadata"]["name"] for item in found["items"]] == ["web"]
        assert "kind" not in found["items"][0]
        everywhere = api.get("/apis/autoscaling/v2/horizontalpodautoscalers")["items"]
        assert (paths.namespace, "web") in {(i["metadata"]["namespace"], i["metadata"]["name"]) for i in everywhere}

    def test_lists_come_in_pages(self, api, paths):
        for name in ("a", "b", "c"):
            api.apply(f"{paths.hpas}/{name}", hpa(name), "trimtab")
        first = api.get(paths.hpas, limit=2)
        rest = api.get(paths.hpas, **{"limit": 2, "continue": first["metadata"]["continue"]})
        assert [i["metadata"]["name"] for i in first["items"] + rest["items"]] == ["a", "b", "c"]
        assert not rest["metadata"].get("continue")

    @pytest.mark.parametrize(
        ("selector", "names"),
        [
            ("app=a", ["a"]),
            ("app!=a", ["b", "c"]),
            ("app in (a, b)", ["a", "b"]),
            ("app notin (a,b)", ["c"]),
            ("tier", ["c"]),
            ("!tier", ["a", "b"]),
            ("app=c,tier=gold", ["c"]),
        ],
    )
    def test_label_selectors(self, api, paths, selector, names):
        for name, labels in (("a", {}), ("b", {}), ("c", {"tier": "gold"})):
            body = hpa(name)
            body["metadata"]["labels"] = {"app": name, **labels}
            api.post(paths.hpas, body)
        assert [i["metadata"]["name"] for i in api.get(paths.hpas, labelSelector=selector)["items"]] == names


class TestLeases:
    SPEC = MappingProxyType(
        {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}
    )

    def test_one_of_two_creators_wins(self, api, paths):
        body = {"metadata": {"name": "trimtab"}, "spec": dict(self.SPEC)}
        api.post(paths.leases, body)
        error = refused(api.post, paths.leases, body)
        assert (error.status, error.reason) == (409, "AlreadyExists")

    def test_one_of_two_updates_wins(self, api, paths):
        first = api.post(paths.leases, {"metadata": {"name": "trimtab"}, "spec": dict(self.SPEC)})
        second = copy.deepcopy(first)
        first["spec"]["holderIdentity"] = "first"
        assert api.put(f"{paths.leases}/trimtab", first)["spec"]["holderIdentity"] == "first"
        error = refused(api.put, f"{paths.leases}/trimtab", second)
        assert (error.status, error.reason) == (409, "Conflict")
        assert api.get(f"{paths.leases}/trimtab")["spec"]["holderIdentity"] == "first"


def test_events_are_created_under_a_generated_name(api, paths):
    body = {
        "metadata": {"generateName": "web."},
        "involvedObject": {"kind": "HorizontalPodAutoscaler", "name": "web", "namespace": paths.namespace},
        "reason": "TrimtabRescaled",
        "message": "minReplicas 2 -> 3",
        "type": "Normal",
    }
    assert api.post(paths.events, body)["metadata"]["name"].startswith("web.")
    found = api.get(paths.events, fieldSelector="involvedObject.name=web,reason=TrimtabRescaled")["items"]
    assert [event["message"] for event in found] == ["minReplicas 2 -> 3"]


class TestNewEvents:
    EVENT = MappingProxyType(
        {
            "metadata": {"name": "web.1"},
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "trimtab",
            "reportingInstance": "trimtab-0",
            "action": "Rescale",
            "reason": "TrimtabRescaled",
            "type": "Normal",
            "note": "minReplicas 2 -> 3",
        }
    )

    def event(self, paths):
        return {
            **self.EVENT,
            "regarding": {"kind": "HorizontalPodAutoscaler", "name": "web", "namespace": paths.namespace},
        }

    def test_are_seen_by_both_apis(self, api, paths):
        assert api.post(paths.new_events, self.event(paths))["apiVersion"] == "events.k8s.io/v1"
        assert api.get(f"{paths.new_events}/web.1")["note"] == "minReplicas 2 -> 3"
        (seen,) = api.get(paths.events, fieldSelector="involvedObject.name=web")["items"]
        assert (seen["message"], seen["reason"], seen["involvedObject"]["name"]) == (
            "minReplicas 2 -> 3",
            "TrimtabRescaled",
            "web",
        )

    @pytest.mark.parametrize(
        "field", ["eventTime", "reportingController", "reportingInstance", "action", "reason", "type"]
    )
    def test_need_every_field(self, api, paths, field):
        event = {key: value for key, value in self.event(paths).items() if key != field}
        error = refused(api.post, paths.new_events, event)
        assert (error.status, error.reason) == (422, "Invalid")
        assert field in error.message


class TestPods:
    @pytest.fixture(autouse=True)
    def _needs_controllers(self, plane):
        if not plane.has_controllers:
            pytest.skip("no kube-controller-manager; run `make cluster`")

    def ready(self, api, paths):
        return api.get(f"{paths.deployments}/web")["status"].get("readyReplicas", 0)

    def test_follow_the_replicas_become_ready_and_have_addresses(self, api, paths):
        api.post(paths.deployments, deployment(replicas=3))
        eventually(lambda: self.ready(api, paths) == 3)
        scale = api.get(f"{paths.deployments}/web/scale")
        assert (scale["spec"]["replicas"], scale["status"]["selector"]) == (3, "app=web")
        pods = api.get(paths.pods, labelSelector=scale["status"]["selector"])["items"]
        assert len({pod["status"]["podIP"] for pod in pods}) == 3
        assert all(pod["status"]["podIP"].startswith("127.1.") and pod["status"]["startTime"] for pod in pods)

    def test_are_started_and_stopped_through_the_hooks(self, plane, api, paths, monkeypatch):
        started, stopped = [], []

        def on_start(pod):
            started.append(pod["metadata"]["name"])
            return "127.1.9.9"

        monkeypatch.setattr(plane.kubelet.hooks, "on_start", on_start)
        monkeypatch.setattr(plane.kubelet.hooks, "on_stop", lambda pod: stopped.append(pod["metadata"]["name"]))
        api.post(paths.deployments, deployment(replicas=1))
        eventually(lambda: self.ready(api, paths) == 1)
        assert api.get(paths.pods)["items"][0]["status"]["podIP"] == "127.1.9.9"
        api.merge(f"{paths.deployments}/web", {"spec": {"replicas": 0}})
        eventually(lambda: not api.get(paths.pods)["items"] and set(started) <= set(stopped))

    def test_can_be_held_unready(self, plane, api, paths):
        api.post(paths.deployments, deployment(replicas=1))
        eventually(lambda: self.ready(api, paths) == 1)
        name = api.get(paths.pods)["items"][0]["metadata"]["name"]
        plane.kubelet.set_ready(paths.namespace, name, ready=False)
        eventually(lambda: self.ready(api, paths) == 0)
        plane.kubelet.set_ready(paths.namespace, name, ready=None)
        eventually(lambda: self.ready(api, paths) == 1)

    def test_start_at_once_when_the_minimum_rises_and_end_at_once_when_the_maximum_falls(self, plane, api, paths):
        plane.metrics.set(paths.namespace, "*", cpu_cores=0.7, memory_bytes=2**29)
        api.post(paths.deployments, deployment(replicas=2))
        api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
        eventually(lambda: self.ready(api, paths) == 2)
        api.apply(f"{paths.hpas}/web", hpa(least=6), "trimtab")
        eventually(lambda: self.ready(api, paths) == 6)
        api.apply(f"{paths.hpas}/web", hpa(least=2, most=3), "trimtab")
        eventually(lambda: len(api.get(paths.pods)["items"]) == 3)
