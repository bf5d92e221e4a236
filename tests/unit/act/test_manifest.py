import copy
import json
import re
from dataclasses import replace

import pytest

from controller.act import manifest
from controller.model.behavior import parse
from controller.model.hpa import owns
from controller.model.plan import HpaWrite
from controller.model.snapshot import HpaSpec, ResourceTarget

POLICY = "models/svc"
NOW = 1_790_000_000.0
TARGETS = (ResourceTarget("cpu", 70), ResourceTarget("memory", 80))
BEFORE = HpaSpec("Deployment", "svc", 2, 10, TARGETS)


def resource(name, percent):
    return {
        "type": "Resource",
        "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": percent}},
    }


QUEUE_METRIC = {
    "type": "External",
    "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}},
}


def make_live(**changes):
    live = {
        "metadata": {"name": "hpa", "namespace": "models", "uid": "u-1", "resourceVersion": "41"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "svc"},
            "minReplicas": 2,
            "maxReplicas": 10,
            "metrics": [resource("cpu", 70), QUEUE_METRIC, resource("memory", 80)],
        },
        "status": {"currentReplicas": 4, "desiredReplicas": 4},
    }
    for path, value in changes.items():
        part, _, name = path.partition("__")
        live[part][name] = value
    return live


def make_write(minimum=2, maximum=10, before=BEFORE, targets=TARGETS):
    return HpaWrite("models", "hpa", before, HpaSpec("Deployment", "svc", minimum, maximum, targets), "because")


def test_metrics_of_others_go_back_as_they_are_and_in_their_place():
    live = make_live()
    frozen = copy.deepcopy(live)
    body = manifest.body(make_write(targets=(ResourceTarget("cpu", 60), ResourceTarget("memory", 80))), POLICY, live)
    assert body["spec"]["metrics"] == [resource("cpu", 60), QUEUE_METRIC, resource("memory", 80)]
    assert live == frozen


def test_a_target_that_the_plan_drops_is_dropped_and_a_new_one_is_added():
    only_cpu = (ResourceTarget("cpu", 70),)
    assert manifest.body(make_write(targets=only_cpu), POLICY, make_live())["spec"]["metrics"] == [
        resource("cpu", 70),
        QUEUE_METRIC,
    ]
    live = make_live(spec__metrics=[QUEUE_METRIC])
    assert manifest.body(make_write(), POLICY, live)["spec"]["metrics"] == [
        QUEUE_METRIC,
        resource("cpu", 70),
        resource("memory", 80),
    ]


def test_a_new_hpa_is_labelled_as_ours_and_has_no_original():
    body = manifest.body(make_write(before=None), POLICY, None)
    assert body["metadata"] == {
        "name": "hpa",
        "namespace": "models",
        "annotations": {"trimtab/policy": POLICY},
        "labels": {"app.kubernetes.io/managed-by": "trimtab"},
    }
    assert body["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "svc"}


def test_an_adopted_hpa_keeps_the_bounds_that_it_was_found_with():
    live = make_live()
    body = manifest.body(make_write(minimum=4), POLICY, live)
    original = body["metadata"]["annotations"]["trimtab/original"]
    assert json.loads(original) == {"minReplicas": 2, "maxReplicas": 10, "cpu": 70, "memory": 80}
    assert "labels" not in body["metadata"]
    assert body["metadata"]["resourceVersion"] == "41"
    later = make_live(spec__minReplicas=4, metadata__annotations={"trimtab/original": original})
    assert (
        manifest.body(make_write(minimum=6), POLICY, later)["metadata"]["annotations"]["trimtab/original"] == original
    )


def test_what_we_created_stays_labelled_and_gets_no_original():
    live = make_live(metadata__labels={"app.kubernetes.io/managed-by": "trimtab"})
    metadata = manifest.body(make_write(minimum=3), POLICY, live)["metadata"]
    assert metadata["labels"] == {"app.kubernetes.io/managed-by": "trimtab"}
    assert set(metadata["annotations"]) == {"trimtab/policy"}


@pytest.mark.parametrize(
    ("live", "write", "words"),
    [
        pytest.param(None, make_write(), "gone since it was read", id="gone"),
        pytest.param(make_live(), make_write(before=None), "exists by now", id="exists"),
        pytest.param(make_live(metadata__deletionTimestamp="now"), make_write(), "being deleted", id="deleting"),
        pytest.param(
            make_live(metadata__ownerReferences=[{"kind": "ScaledObject", "name": "so"}]),
            make_write(),
            "belongs to KEDA ScaledObject so",
            id="keda-owner",
        ),
        pytest.param(
            make_live(metadata__labels={"scaledobject.keda.sh/name": "so"}),
            make_write(),
            "belongs to KEDA ScaledObject so",
            id="keda-label",
        ),
        pytest.param(
            make_live(metadata__labels={"app.kubernetes.io/managed-by": "keda-operator"}),
            make_write(),
            "belongs to KEDA",
            id="keda-managed",
        ),
        pytest.param(
            make_live(metadata__ownerReferences=[{"kind": "Rollout", "name": "r", "controller": True}]),
            make_write(),
            "belongs to Rollout r",
            id="owner",
        ),
        pytest.param(
            make_live(metadata__annotations={"trimtab/policy": "models/other"}),
            make_write(),
            "belongs to Trimtab policy models/other",
            id="other-policy",
        ),
        pytest.param(
            make_live(spec__scaleTargetRef={"kind": "Deployment", "name": "other"}),
            make_write(),
            "scales Deployment other, not Deployment svc",
            id="other-target",
        ),
        pytest.param(
            make_live(spec__minReplicas=3), make_write(), "changed since it was read: min 2, .* -> min 3", id="moved"
        ),
        pytest.param(
            make_live(spec__metrics=[resource("cpu", 50)]),
            make_write(),
            "changed since it was read",
            id="metrics-moved",
        ),
        pytest.param(
            make_live(metadata__annotations={"trimtab/paused": "true"}),
            make_write(),
            "paused by trimtab/paused",
            id="paused",
        ),
        pytest.param(
            make_live(metadata__annotations={"trimtab/paused": str(NOW + 60)}), make_write(), "paused until", id="until"
        ),
        pytest.param(
            make_live(metadata__annotations={"trimtab/paused": "out"}), make_write(minimum=4), "paused", id="paused-out"
        ),
        pytest.param(
            make_live(metadata__annotations={"trimtab/paused": "in"}), make_write(maximum=8), "paused", id="paused-in"
        ),
        pytest.param(
            make_live(status__currentReplicas=9),
            make_write(maximum=8),
            "9 replicas run, maxReplicas 8",
            id="max-below-running",
        ),
        pytest.param(
            make_live(status__desiredReplicas=9), make_write(maximum=8), "9 replicas run", id="max-below-desired"
        ),
    ],
)
def test_objections(live, write, words):
    assert re.search(words, manifest.objection(live, write, POLICY, NOW) or "")


@pytest.mark.parametrize(
    ("live", "write"),
    [
        pytest.param(make_live(), make_write(minimum=4), id="raise-min"),
        pytest.param(make_live(), make_write(maximum=8), id="lower-max-above-running"),
        pytest.param(make_live(status__currentReplicas=14), make_write(maximum=12), id="raise-max-while-more-run"),
        pytest.param(
            make_live(metadata__annotations={"trimtab/paused": "in"}), make_write(minimum=4), id="paused-in-raises"
        ),
        pytest.param(
            make_live(metadata__annotations={"trimtab/paused": "false"}), make_write(minimum=4), id="unpaused"
        ),
        pytest.param(
            make_live(metadata__annotations={"trimtab/paused": str(NOW - 1)}), make_write(), id="pause-is-over"
        ),
        pytest.param(None, make_write(before=None), id="create"),
    ],
)
def test_no_objection(live, write):
    assert manifest.objection(live, write, POLICY, NOW) is None


def test_an_unknown_number_of_replicas_freezes_max():
    live = make_live()
    live["status"] = {}
    assert "is not known" in manifest.objection(live, make_write(maximum=9), POLICY, NOW)
    assert manifest.objection(live, make_write(maximum=12), POLICY, NOW) is None


OWNED = {"f:spec": {"f:minReplicas": {}, "f:metrics": {}}, "f:metadata": {"f:annotations": {"f:trimtab/policy": {}}}}


@pytest.mark.parametrize(
    ("entry", "field", "expected"),
    [
        pytest.param({}, ".spec.minReplicas", True, id="ours"),
        pytest.param({}, ".spec.metrics", True, id="ours, a list as a whole"),
        pytest.param({}, ".spec.maxReplicas", False, id="taken by somebody else"),
        pytest.param({"manager": "kubectl"}, ".spec.minReplicas", False, id="another manager's entry"),
        pytest.param({"operation": "Update"}, ".spec.minReplicas", False, id="our name, but no apply"),
        pytest.param({"fieldsV1": None}, ".spec.minReplicas", False, id="an entry without fields"),
    ],
)
def test_what_our_last_apply_still_owns(entry, field, expected):
    ours = {"manager": "trimtab", "operation": "Apply", "fieldsV1": OWNED}
    live = {"metadata": {"managedFields": [{"manager": "helm", "operation": "Update"}, {**ours, **entry}]}}
    assert owns(live, field) is expected


ROUGH = {"scaleDown": {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
FOUND = {"scaleDown": {"stabilizationWindowSeconds": 7}}
ORIGINAL = {"minReplicas": 2, "maxReplicas": 10, "cpu": 70, "memory": 80}


def owning(*fields):
    owned = {"f:scaleDown": {f"f:{field}": {} for field in fields}} if fields else {}
    return [{"manager": "trimtab", "operation": "Apply", "fieldsV1": {"f:spec": {"f:behavior": owned}}}]


@pytest.mark.parametrize(
    ("annotations", "fields", "expected"),
    [
        pytest.param({}, (), {**ORIGINAL, "behavior": FOUND}, id="adopted with a behavior of its own"),
        pytest.param(
            {"trimtab/original": json.dumps(ORIGINAL)}, (), {**ORIGINAL, "behavior": FOUND}, id="adopted before"
        ),
        pytest.param(
            {"trimtab/original": json.dumps({**ORIGINAL, "behavior": None})},
            ("policies",),
            {**ORIGINAL, "behavior": None},
            id="kept ever after",
        ),
    ],
)
def test_the_behavior_that_was_found_is_kept_from_when_we_first_set_it(annotations, fields, expected):
    live = make_live(spec__behavior=FOUND, metadata__annotations=annotations, metadata__managedFields=owning(*fields))
    write = replace(make_write(), behavior=parse(ROUGH))
    body = manifest.body(write, POLICY, live)
    assert body["spec"]["behavior"] == ROUGH
    assert json.loads(body["metadata"]["annotations"]["trimtab/original"]) == expected


def test_without_a_word_on_behavior_none_is_sent_and_none_is_kept():
    body = manifest.body(make_write(), POLICY, make_live(spec__behavior=FOUND))
    assert "behavior" not in body["spec"]
    assert json.loads(body["metadata"]["annotations"]["trimtab/original"]) == ORIGINAL


@pytest.mark.parametrize(
    ("behavior", "fields", "expected"),
    [
        pytest.param(ROUGH, ("policies", "selectPolicy"), True, id="as it is, and ours"),
        pytest.param(ROUGH, (), False, id="as it is, but not ours"),
        pytest.param(FOUND, ("policies", "selectPolicy"), False, id="another"),
        pytest.param(ROUGH, ("policies", "selectPolicy", "tolerance"), False, id="one of our fields is to go"),
    ],
)
def test_whether_the_behavior_stands(behavior, fields, expected):
    annotations = {"trimtab/policy": POLICY, "trimtab/original": json.dumps({**ORIGINAL, "behavior": None})}
    live = make_live(
        spec__behavior=behavior, metadata__annotations=annotations, metadata__managedFields=owning(*fields)
    )
    wanted = manifest.body(replace(make_write(), behavior=parse(ROUGH)), POLICY, live)
    assert manifest.is_so(live, wanted) is expected


OURS = {"manager": "trimtab", "operation": "Apply", "fieldsV1": {"f:spec": {"f:minReplicas": {}}}}
THEIRS = {"manager": "kubectl-client-side-apply", "operation": "Update", "fieldsV1": {"f:spec": {"f:maxReplicas": {}}}}
MARKS = {
    "trimtab/learned": "{}",
    "trimtab/policy": POLICY,
    "trimtab/original": "{}",
    "trimtab/installation": "here",
    "example.com/team": "vision",
}


def removed(operations):
    return {o["path"].rpartition("/")[2].replace("~1", "/") for o in operations if o["op"] == "remove"}


@pytest.mark.parametrize(
    ("managers", "left"),
    [([OURS, THEIRS], [THEIRS]), ([OURS], [{}])],
    ids=["shared", "ours alone: an empty entry resets it"],
)
def test_letting_go_takes_our_marks_and_our_entry_and_nothing_else(managers, left):
    live = make_live(metadata__annotations=MARKS, metadata__managedFields=managers)
    operations = manifest.release(live, handover=False)
    assert operations[0] == {"op": "test", "path": "/metadata/resourceVersion", "value": "41"}
    assert removed(operations) == set(MARKS) - {"example.com/team"}
    assert operations[-1] == {"op": "replace", "path": "/metadata/managedFields", "value": left}
    assert all(o["path"].startswith("/metadata/") for o in operations)


def test_what_we_created_loses_its_label_too():
    label = {"app.kubernetes.io/managed-by": "trimtab"}
    live = make_live(metadata__annotations=MARKS, metadata__labels=label, metadata__managedFields=[OURS])
    assert "app.kubernetes.io/managed-by" in removed(manifest.release(live, handover=False))


def test_handed_over_it_keeps_what_it_was_found_with():
    live = make_live(metadata__annotations=MARKS, metadata__managedFields=[OURS])
    operations = manifest.release(live, handover=True)
    assert removed(operations) == {"trimtab/policy"}
    assert len(operations) == 2


def test_the_installation_is_written_when_it_is_known():
    annotations = manifest.body(make_write(), POLICY, make_live(), "trimtab-system")["metadata"]["annotations"]
    assert annotations["trimtab/installation"] == "trimtab-system"
    assert "trimtab/installation" not in manifest.body(make_write(), POLICY, make_live())["metadata"]["annotations"]


def test_what_was_learned_goes_with_a_change_and_is_no_reason_for_one():
    write = replace(make_write(), learned='{"v":1,"at":2}')
    annotations = {
        "trimtab/policy": POLICY,
        "trimtab/original": json.dumps(ORIGINAL),
        "trimtab/learned": '{"v":1,"at":1}',
    }
    live = make_live(metadata__annotations=annotations, metadata__managedFields=[OURS])
    wanted = manifest.body(write, POLICY, live)
    assert wanted["metadata"]["annotations"]["trimtab/learned"] == '{"v":1,"at":2}'
    assert manifest.is_so(live, wanted)
    assert not manifest.is_so(live, manifest.body(replace(make_write(minimum=4), learned="{}"), POLICY, live))
    assert "trimtab/learned" not in manifest.body(make_write(), POLICY, live)["metadata"]["annotations"]
