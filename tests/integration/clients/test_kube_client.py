import datetime as dt
import json
import time

import pytest
from kubernetes.config import incluster_config as loader
from scripted_api import Answer, field_conflict, refusal

from controller.clients.kube import FieldConflict, KubeApi, path_of
from controller.deadline import Deadline
from controller.errors import (
    ConfigError,
    Conflict,
    Denied,
    NotFound,
    Rejected,
    Throttled,
    TimedOut,
    Unreachable,
)
from controller.settings import Settings

pytestmark = pytest.mark.integration

PATH = path_of("autoscaling/v2", "horizontalpodautoscalers", "models", "hpa")


def kubeconfig(tmp_path, url, *, user=None):
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": user or {"token": "a-secret-token"}}],
            }
        )
    )
    return str(path)


@pytest.fixture
def kube(api, tmp_path):
    client = KubeApi.connect(
        Settings(kubernetes="kubeconfig", kubeconfig=kubeconfig(tmp_path, api.url), kubernetes_timeout_seconds=0.4)
    )
    yield client
    client.close()


def soon():
    return Deadline.after(5)


def test_a_get_carries_the_credentials_and_gives_raw_json(kube, api):
    api.script.append(Answer(200, {"spec": {"unknownToUs": [1]}}))
    assert kube.get(PATH, query={"labelSelector": "a=b"}, deadline=soon()) == {"spec": {"unknownToUs": [1]}}
    sent = api.requests[0]
    assert (sent.method, sent.path, sent.query) == ("GET", PATH, {"labelSelector": "a=b"})
    assert sent.headers["Authorization"] == "Bearer a-secret-token"


@pytest.mark.parametrize(
    ("call", "method", "content_type", "query"),
    [
        pytest.param(
            lambda k: k.create(PATH, {"a": None}, deadline=soon()), "POST", "application/json", {}, id="create"
        ),
        pytest.param(
            lambda k: k.replace(PATH, {"a": None}, deadline=soon()), "PUT", "application/json", {}, id="replace"
        ),
        pytest.param(
            lambda k: k.apply(PATH, {"a": None}, deadline=soon()),
            "PATCH",
            "application/apply-patch+yaml",
            {"fieldManager": "trimtab", "fieldValidation": "Strict", "force": "false"},
            id="apply",
        ),
        pytest.param(
            lambda k: k.apply(PATH, {"a": None}, force=True, dry_run=True, field_manager="x", deadline=soon()),
            "PATCH",
            "application/apply-patch+yaml",
            {"fieldManager": "x", "fieldValidation": "Strict", "force": "true", "dryRun": "All"},
            id="apply-forced-dry",
        ),
        pytest.param(
            lambda k: k.patch_merge(PATH, {"a": None}, deadline=soon()),
            "PATCH",
            "application/merge-patch+json",
            {},
            id="merge",
        ),
    ],
)
def test_a_body_keeps_its_nulls_and_its_type(kube, api, call, method, content_type, query):  # noqa: PLR0917 - a table's columns
    api.script.append(Answer(200, {"kind": "x"}))
    assert call(kube) == {"kind": "x"}
    sent = api.requests[0]
    assert (sent.method, sent.headers["Content-Type"], sent.query, sent.body) == (
        method,
        content_type,
        query,
        {"a": None},
    )


def test_json_patch_and_delete(kube, api):
    api.script.extend([Answer(200, {}), Answer(200, {})])
    kube.patch_json(PATH, [{"op": "test", "path": "/a", "value": 1}], deadline=soon())
    kube.delete(PATH, deadline=soon())
    assert api.requests[0].body == [{"op": "test", "path": "/a", "value": 1}]
    assert [request.method for request in api.requests] == ["PATCH", "DELETE"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Rejected),
        (401, Denied),
        (403, Denied),
        (404, NotFound),
        (405, Rejected),
        (409, Conflict),
        (410, Rejected),
        (422, Rejected),
        (429, Throttled),
        (500, Unreachable),
        (503, Unreachable),
        (504, TimedOut),
        (302, Unreachable),
    ],
)
def test_a_refusal_becomes_one_line_of_the_servers_own_words(kube, api, status, error):
    api.script.append(refusal(status, "the server's\n own words", headers={"Retry-After": "30", "Location": "/"}))
    started = time.monotonic()
    with pytest.raises(error) as raised:
        kube.get(PATH, deadline=soon())
    assert type(raised.value) is error
    assert raised.value.message == f"GET {PATH}: {status} the server's own words"
    assert time.monotonic() - started < 5  # Retry-After asks for 30
    assert len(api.requests) == 1


def test_a_refusal_without_a_status_object_still_says_its_code(kube, api):
    api.script.append(Answer(503, b"<html>upstream</html>"))
    with pytest.raises(Unreachable, match="503 Service Unavailable"):
        kube.get(PATH, deadline=soon())


def test_a_field_conflict_names_the_managers(kube, api):
    api.script.append(field_conflict("kubectl-client-side-apply", "argocd-controller", "argocd-controller"))
    with pytest.raises(FieldConflict) as raised:
        kube.apply(PATH, {}, deadline=soon())
    assert raised.value.managers == ("kubectl-client-side-apply", "argocd-controller")
    assert raised.value.fields == (".spec.minReplicas",)


@pytest.mark.parametrize("how", ["hang", "drip_headers", "drip_body", "drip_unsized"])
def test_a_server_that_stalls_is_cut_at_the_limit(kube, api, how):
    api.script.append(Answer(how=how))
    started = time.monotonic()
    with pytest.raises(TimedOut):
        kube.get(PATH, deadline=soon())
    assert time.monotonic() - started < 8  # dripping to its end takes 20 s
    api.script.append(Answer(200, {"fine": True}))
    assert kube.get(PATH, deadline=soon()) == {"fine": True}


def test_the_deadline_of_the_tick_cuts_before_the_limit_of_the_call(api, tmp_path):
    client = KubeApi.connect(
        Settings(kubernetes="kubeconfig", kubeconfig=kubeconfig(tmp_path, api.url), kubernetes_timeout_seconds=20)
    )
    api.script.append(Answer(how="hang"))
    started = time.monotonic()
    with pytest.raises(TimedOut):
        client.get(PATH, deadline=Deadline.after(0.2))
    assert time.monotonic() - started < 5
    with pytest.raises(TimedOut, match="no time left"):
        client.get(PATH, deadline=Deadline.after(0))
    assert len(api.requests) == 1
    client.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(Answer(how="close"), "closed connection|aborted", id="closes"),
        pytest.param(Answer(200, b"not json"), "no JSON object", id="rubbish"),
        pytest.param(Answer(200, b"[1]"), "no JSON object", id="array"),
    ],
)
def test_a_broken_answer_is_unreachable(kube, api, answer, words):
    api.script.append(answer)
    with pytest.raises(Unreachable, match=words):
        kube.get(PATH, deadline=soon())
    assert len(api.requests) == 1


def test_a_body_over_the_limit_is_not_read_to_its_end(kube, api, monkeypatch):
    monkeypatch.setattr("controller.clients.kube.BODY_LIMIT_BYTES", 1 << 20)
    api.script.append(Answer(200, b" " * (3 << 20)))
    with pytest.raises(Unreachable, match="larger than 1 MiB"):
        kube.get(PATH, deadline=soon())


def test_nobody_listening_is_unreachable_in_one_line(kube, api):
    api.close()
    with pytest.raises(Unreachable, match=r"Connection refused") as raised:
        kube.get(PATH, deadline=soon())
    assert "\n" not in str(raised.value)
    assert "0x" not in str(raised.value)


def test_a_token_file_that_rotates_is_read_anew(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("first\n")
    (tmp_path / "ca.crt").write_text("x")
    monkeypatch.setattr("controller.clients.kube.SERVICE_ACCOUNT_TOKEN", str(token))
    monkeypatch.setattr(loader, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(loader, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    client = KubeApi.connect(Settings(kubernetes="auto"))
    assert client._headers(None)["Authorization"] == "bearer first"
    token.write_text("second\n")
    later = dt.datetime.now() + dt.timedelta(minutes=2)  # noqa: DTZ005 - as the loader counts
    clock = type("Clock", (dt.datetime,), {"now": classmethod(lambda _cls: later)})
    monkeypatch.setattr(loader.datetime, "datetime", clock)
    assert client._headers(None)["Authorization"] == "bearer second"
    token.write_text("")
    later += dt.timedelta(minutes=2)
    with pytest.raises(Denied, match="Token file exists but empty"):
        client._headers(None)
    client.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"kubernetes": "auto"}, "--kubernetes off", id="auto"),
        pytest.param(
            {"kubernetes": "in-cluster"}, "--kubernetes in-cluster: .* service account token", id="in-cluster"
        ),
        pytest.param({"kubernetes": "kubeconfig"}, "--kubernetes kubeconfig: .* give --kubeconfig", id="kubeconfig"),
        pytest.param({"kubeconfig": "/nowhere/kubeconfig"}, "--kubeconfig /nowhere/kubeconfig: ", id="named-file"),
    ],
)
def test_no_credentials_is_one_clear_line(monkeypatch, settings, words):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", "/nowhere/config")
    with pytest.raises(ConfigError, match=words) as raised:
        KubeApi.connect(Settings(**settings))
    assert "\n" not in str(raised.value)


def test_off_is_no_client():
    assert KubeApi.connect(Settings(kubernetes="off")) is None
