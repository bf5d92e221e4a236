import copy
import re
import socket
import time

import pytest
from scripted_api import Answer, fake_client, field_conflict, refusal

from controller.act.actor import Actor
from controller.act.hpa import CONFLICT_PAUSE_SECONDS
from controller.clients.kube import KubeApi
from controller.clients.redis import connect
from controller.deadline import Deadline
from controller.model.fence import Fence
from controller.model.outcome import Result
from controller.model.plan import Hold, HpaWrite, Plan, Publish
from controller.model.snapshot import HpaSpec, ResourceTarget
from controller.policy.schema import LoadPolicy
from controller.settings import Settings
from trimtab.contract import Keys

pytestmark = pytest.mark.integration

TARGETS = (ResourceTarget("cpu", 70), ResourceTarget("memory", 80))
BEFORE = HpaSpec("Deployment", "svc", 2, 10, TARGETS)
AFTER = HpaSpec("Deployment", "svc", 4, 10, TARGETS)


def make_policy(name="svc", mode="enforce", adopt=True):
    return LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": name, "namespace": "models"},
            "spec": {
                "mode": mode,
                "instances": {"selector": {"service": name}},
                "signals": {"preset": "fastapi"},
                "scaling": {"hpa": f"{name}-hpa", "target": {"name": "svc"}, "adopt": adopt},
            },
        }
    )


def make_task(name="svc", *, before=BEFORE, after=AFTER, publish=True, hpa=True, holds=(), **policy):
    what = Publish((), 40, panic=False, valid_for_seconds=60)
    write = HpaWrite("models", f"{name}-hpa", before, after, "backlog of 30")
    plan = Plan(f"models/{name}", 1000.0, what if publish else None, write if hpa else None, (), holds)
    return make_policy(name, **policy), plan


def metric(name, percent):
    return {
        "type": "Resource",
        "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": percent}},
    }


class Hpas:
    """HPAs by name. Applies as the server does, as far as these tests look; posts of Events are kept."""

    def __init__(self, *names):
        self.hpas = {name: self.made_by_hand(name) for name in names}
        self.events = []

    @staticmethod
    def made_by_hand(name):
        return {
            "metadata": {
                "name": name,
                "namespace": "models",
                "uid": f"uid-{name}",
                "resourceVersion": "7",
                "managedFields": [{"manager": "kubectl-client-side-apply", "operation": "Update"}],
            },
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "svc"},
                "minReplicas": 2,
                "maxReplicas": 10,
                "metrics": [metric("cpu", 70), metric("memory", 80)],
            },
            "status": {"currentReplicas": 3, "desiredReplicas": 3},
        }

    def __call__(self, request):
        if request.path.endswith("/events"):
            self.events.append(request.body)
            return Answer(201, request.body)
        name = request.path.rpartition("/")[2]
        if request.method == "GET":
            return Answer(200, copy.deepcopy(self.hpas[name])) if name in self.hpas else None
        hpa = self.hpas.setdefault(name, {"metadata": {"uid": f"uid-{name}"}, "spec": {}})
        hpa["spec"].update(request.body["spec"])
        metadata = hpa["metadata"]
        metadata["annotations"] = {**metadata.get("annotations", {}), **request.body["metadata"]["annotations"]}
        metadata["labels"] = {**metadata.get("labels", {}), **request.body["metadata"].get("labels", {})}
        metadata["managedFields"] = [*metadata.get("managedFields", []), {"manager": "trimtab", "operation": "Apply"}]
        metadata["resourceVersion"] = str(int(metadata.get("resourceVersion", "0")) + 1)
        return Answer(200, copy.deepcopy(hpa))

    def reasons(self):
        return [event["reason"] for event in self.events]


@pytest.fixture
def hpas(api):
    api.handler = Hpas("svc-hpa", "a-hpa", "b-hpa", "c-hpa")
    return api.handler


@pytest.fixture
def actor(redis, kube):
    made = Actor(Settings(), kube=kube, redis=redis)
    yield made
    made.close()


def act(actor, *tasks, fence=None, seconds=5.0):
    return actor.act(tasks, fence or Fence(1, lambda: True), Deadline.after(seconds))


def results(outcomes):
    return [(outcome.policy.rpartition("/")[2], outcome.actuator, outcome.result.value) for outcome in outcomes]


def test_everything_of_a_tick_is_carried_out_in_order(actor, api, hpas, redis):
    outcomes = act(actor, make_task("a"), make_task("b"))
    assert results(outcomes) == [
        ("a", "publish", "done"),
        ("a", "hpa", "done"),
        ("a", "event", "done"),
        ("b", "publish", "done"),
        ("b", "hpa", "done"),
        ("b", "event", "done"),
    ]
    assert outcomes[1].detail == (
        "HPA a-hpa: min 2, max 10, cpu 70 %, memory 80 % -> min 4, max 10, cpu 70 %, memory 80 % (backlog of 30)"
    )
    assert redis.get(Keys("models/a").limit) == "40"
    assert hpas.hpas["a-hpa"]["spec"]["minReplicas"] == 4
    assert hpas.hpas["a-hpa"]["metadata"]["annotations"]["trimtab/policy"] == "models/a"
    assert [request.query["force"] for request in api.sent("PATCH")] == ["false", "false"]
    event = hpas.events[0]
    assert (event["reason"], event["type"], event["regarding"]["uid"]) == ("TrimtabRescaled", "Normal", "uid-a-hpa")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["eventTime"])
    assert event["reportingInstance"]


def test_an_absent_hpa_is_created(actor, api, hpas):
    outcomes = act(actor, make_task("new", before=None, publish=False))
    assert results(outcomes)[0] == ("new", "hpa", "done")
    assert outcomes[0].detail.startswith("HPA new-hpa: created with min 4, max 10")
    assert hpas.hpas["new-hpa"]["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "trimtab"}
    assert "resourceVersion" not in api.sent("PATCH")[0].body["metadata"]


@pytest.mark.usefixtures("hpas")
def test_what_is_already_so_is_not_written_again(actor, api):
    act(actor, make_task(publish=False))
    again = act(actor, make_task(before=AFTER, publish=False))
    assert results(again) == [("svc", "hpa", "unchanged")]
    assert len(api.sent("PATCH")) == 1


@pytest.mark.parametrize("mode", ["observe"])
def test_a_policy_that_only_observes_is_refused(actor, api, redis, mode):
    outcomes = act(actor, make_task(mode=mode, holds=(Hold("hpa", "paused"),)))
    assert results(outcomes) == [("svc", "publish", "refused"), ("svc", "hpa", "refused")]
    assert api.requests == []
    assert redis.keys("*") == []


def test_first_adoption_takes_the_fields_of_a_person_once(actor, api, hpas):
    script_after_get(api, field_conflict("kubectl-client-side-apply", "helm"))
    outcomes = act(actor, make_task(publish=False))
    assert results(outcomes)[0] == ("svc", "hpa", "done")
    assert [request.query["force"] for request in api.sent("PATCH")] == ["false", "true"]
    assert '"minReplicas":2' in hpas.hpas["svc-hpa"]["metadata"]["annotations"]["trimtab/original"]


def script_after_get(api, *answers):
    """The next answers to writes; reads are answered as ever."""
    inner, waiting = api.handler, list(answers)

    def handler(request):
        if waiting and request.method == "PATCH":
            return waiting.pop(0)
        return inner(request)

    api.handler = handler


@pytest.mark.parametrize(
    ("manager", "adopt"),
    [
        pytest.param("argocd-controller", True, id="gitops"),
        pytest.param("kubectl-client-side-apply", False, id="policy-says-no"),
    ],
)
def test_fields_that_must_not_be_taken_are_refused(actor, api, hpas, manager, adopt):
    script_after_get(api, field_conflict(manager))
    outcomes = act(actor, make_task(publish=False, adopt=adopt))
    assert results(outcomes) == [("svc", "hpa", "refused"), ("svc", "event", "done")]
    assert f"{manager} owns spec.minReplicas" in outcomes[0].detail
    assert hpas.reasons() == ["TrimtabConflict"]
    assert [request.query["force"] for request in api.sent("PATCH")] == ["false"]


def test_fields_that_were_taken_back_are_not_fought_over(actor, api, hpas):
    act(actor, make_task(publish=False))
    hpas.hpas["svc-hpa"]["spec"]["minReplicas"] = 2  # the user's kubectl apply
    clock = [1000.0]
    actor._hpas._clock = lambda: clock[0]
    script_after_get(api, *[field_conflict("kubectl-client-side-apply")] * 3)
    sent = len(api.sent("PATCH"))
    for _ in range(4):
        assert results(act(actor, make_task(publish=False)))[0] == ("svc", "hpa", "refused")
    assert len(api.sent("PATCH")) == sent + 1
    clock[0] += CONFLICT_PAUSE_SECONDS
    act(actor, make_task(publish=False))
    assert len(api.sent("PATCH")) == sent + 2
    hpas.hpas["svc-hpa"]["metadata"]["annotations"].pop("trimtab/policy")  # handed over anew
    outcomes = act(actor, make_task(publish=False))
    assert results(outcomes)[0] == ("svc", "hpa", "done")
    assert [request.query["force"] for request in api.sent("PATCH")[sent:]] == ["false", "false", "false", "true"]
    assert hpas.reasons().count("TrimtabConflict") == 1


@pytest.mark.parametrize(
    ("answer", "result", "words"),
    [
        pytest.param(refusal(403, "cannot patch"), "failed", "403 cannot patch", id="403"),
        pytest.param(refusal(422, "maxReplicas must be greater"), "failed", "422 maxReplicas", id="422"),
        pytest.param(refusal(429, "slow down", headers={"Retry-After": "60"}), "failed", "429 slow down", id="429"),
        pytest.param(refusal(500, "etcd is gone"), "failed", "500 etcd is gone", id="500"),
        pytest.param(refusal(409, "the object has been modified"), "refused", "changed while being written", id="409"),
        pytest.param(Answer(how="close"), "failed", "closed connection", id="close"),
        pytest.param(Answer(how="hang"), "failed", "no answer within 0.5 s", id="hang"),
    ],
)
def test_a_refused_write_is_one_line_and_stops_nothing_else(actor, api, hpas, redis, answer, result, words):  # noqa: PLR0917 - fixtures and a table
    script_after_get(api, answer)
    started = time.monotonic()
    outcomes = act(actor, make_task())
    assert results(outcomes) == [("svc", "publish", "done"), ("svc", "hpa", result)]
    assert words in outcomes[1].detail
    assert "\n" not in outcomes[1].detail
    assert outcomes[1].system == ("Kubernetes" if result == "failed" else "")
    assert time.monotonic() - started < 5
    assert redis.get(Keys("models/svc").limit) == "40"
    assert hpas.events == []


@pytest.mark.usefixtures("hpas")
def test_a_forbidden_namespace_does_not_stop_the_next_policy(actor, api):
    script_after_get(api, refusal(403, "no"))
    outcomes = act(actor, make_task("a", publish=False), make_task("b", publish=False))
    assert results(outcomes) == [("a", "hpa", "failed"), ("b", "hpa", "done"), ("b", "event", "done")]


@pytest.mark.usefixtures("hpas")
def test_a_dead_api_server_is_asked_once_per_tick(actor, api):
    api.handler = lambda _request: Answer(how="hang")
    outcomes = act(actor, *[make_task(name) for name in ("a", "b", "c")])
    assert results(outcomes) == [
        (name, actuator, result)
        for name in ("a", "b", "c")
        for actuator, result in (("publish", "done"), ("hpa", "failed"))
    ]
    assert len({outcome.detail for outcome in outcomes if outcome.actuator == "hpa"}) == 1
    assert len(api.requests) == 1


@pytest.mark.usefixtures("hpas")
def test_a_hanging_redis_is_asked_once_and_takes_nothing_from_kubernetes(kube):
    with socket.socket() as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen(20)
        settings = Settings(redis_url=f"redis://127.0.0.1:{hung.getsockname()[1]}/0", redis_timeout_seconds=0.5)
        client = connect(settings)
        actor = Actor(settings, kube=kube, redis=client)
        outcomes = act(actor, *[make_task(name) for name in ("a", "b", "c")])
        assert [r for r in results(outcomes) if r[1] == "publish"] == [
            (n, "publish", "failed") for n in ("a", "b", "c")
        ]
        assert [r for r in results(outcomes) if r[1] == "hpa"] == [(n, "hpa", "done") for n in ("a", "b", "c")]
        assert {outcome.system for outcome in outcomes if outcome.result is Result.FAILED} == {"Redis"}
        hung.settimeout(0.2)
        connections = 0
        try:
            while True:
                hung.accept()[0].close()
                connections += 1
        except TimeoutError:
            pass
        assert connections == 1
        actor.close()
        client.close()


@pytest.mark.usefixtures("hpas")
def test_losing_the_lead_half_way_stops_every_write(actor, api, redis):
    outcomes = act(actor, make_task("a"), make_task("b"), fence=Fence(1, lambda: False))
    assert {(outcome.actuator, outcome.result) for outcome in outcomes} == {
        ("publish", Result.REFUSED),
        ("hpa", Result.REFUSED),
    }
    assert redis.keys("*") == []
    assert api.requests == []


@pytest.mark.usefixtures("hpas")
def test_the_lead_is_asked_for_again_right_before_the_apply(actor, api):
    def valid():
        return not api.requests  # lost while the HPA was being read

    outcomes = act(actor, make_task(publish=False), fence=Fence(1, valid))
    assert results(outcomes) == [("svc", "hpa", "refused")]
    assert [request.method for request in api.requests] == ["GET"]


@pytest.mark.usefixtures("hpas")
def test_an_older_epoch_may_not_publish(actor, redis):
    redis.hset(Keys("models/svc").fence, mapping={"epoch": 9, "seq": 3})
    outcomes = act(actor, make_task(hpa=False))
    assert results(outcomes) == [("svc", "publish", "refused")]
    assert "epoch 9" in outcomes[0].detail


def test_a_deadline_that_has_passed_writes_nothing(actor, api, redis):
    outcomes = act(actor, make_task(), seconds=0)
    assert {outcome.detail for outcome in outcomes} == {"no time left in this tick"}
    assert api.requests == []
    assert redis.keys("*") == []


@pytest.mark.usefixtures("hpas")
def test_a_bug_in_one_effect_is_told_and_contained(actor):
    broken = make_task("a", hpa=False)
    object.__setattr__(broken[1].publish, "valid_for_seconds", float("nan"))
    outcomes = act(actor, broken, make_task("b", hpa=False))
    assert results(outcomes) == [("a", "publish", "failed"), ("b", "publish", "done")]
    assert re.match(r"a bug in Trimtab: ValueError: .* \(\w+\.py:\d+\)$", outcomes[0].detail)


def test_without_kubernetes_an_hpa_is_refused(redis):
    actor = Actor(Settings(), kube=None, redis=redis)
    outcomes = act(actor, make_task(holds=(Hold("hpa", "x"),)))
    assert results(outcomes) == [("svc", "publish", "done"), ("svc", "hpa", "refused")]
    actor.close()


def test_a_held_hpa_is_told_once(actor, hpas):
    task = make_task(publish=False, hpa=False, holds=(Hold("minReplicas", "metrics are stale"), Hold("weights", "x")))
    assert results(act(actor, task)) == [("svc", "event", "done")]
    assert act(actor, task) == ()
    assert [(event["reason"], event["type"], event["note"]) for event in hpas.events] == [
        ("TrimtabHeld", "Warning", "minReplicas: metrics are stale")
    ]


def test_events_are_a_trickle(actor, hpas):
    for number in range(30):
        act(actor, make_task(publish=False, hpa=False, holds=(Hold("minReplicas", f"reason {number}"),)))
    assert 1 <= len(hpas.events) <= 11


@pytest.mark.usefixtures("hpas")
def test_an_event_that_cannot_be_posted_does_not_undo_the_write(actor, api):
    inner = api.handler
    api.handler = lambda request: refusal(403, "no events") if request.path.endswith("/events") else inner(request)
    outcomes = act(actor, make_task(publish=False))
    assert results(outcomes) == [("svc", "hpa", "done"), ("svc", "event", "failed")]


@pytest.mark.usefixtures("hpas")
def test_an_api_server_that_comes_back_is_used_again(redis, api):
    client = KubeApi(fake_client(api.url), timeout_seconds=0.3)
    actor = Actor(Settings(), kube=client, redis=redis)
    inner = api.handler
    api.handler = lambda _request: Answer(how="hang")
    assert results(act(actor, make_task(publish=False)))[0][2] == "failed"
    api.handler = inner
    assert results(act(actor, make_task(publish=False)))[0][2] == "done"
    actor.close()
    client.close()
