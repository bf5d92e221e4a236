"""How server-side apply meets kubectl and RBAC, on a real API server."""

import json

import pytest
from support.objects import Paths, hpa, managers

from controller.lab.cluster.api import JSON_PATCH, ApiError, KubeApi


@pytest.fixture
def api(cluster):
    return cluster.api()


@pytest.fixture
def paths(namespace):
    return Paths(namespace)


@pytest.fixture
def kubectl(cluster, namespace):
    return lambda *args, body, check=True: cluster.kubectl(
        "-n", namespace, *args, "-f", "-", stdin=json.dumps(body), check=check
    )


def grant(cluster, namespace, verbs):
    """A ServiceAccount `trimtab` that may do this with HPAs, and a connection of its own."""
    api, meta = cluster.api(), {"metadata": {"name": "trimtab"}}
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", meta)
    rule = {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": verbs}
    api.post(f"{rbac}/roles", {**meta, "rules": [rule]})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "trimtab"}
    subject = {"kind": "ServiceAccount", "name": "trimtab", "namespace": namespace}
    api.post(f"{rbac}/rolebindings", {**meta, "roleRef": reference, "subjects": [subject]})
    return cluster.api_for(namespace, "trimtab")


def test_apply_needs_create_and_patch_and_no_more(cluster, namespace, paths):
    api = grant(cluster, namespace, ["create", "patch"])
    assert api.apply(f"{paths.hpas}/web", hpa(), "trimtab")["spec"]["minReplicas"] == 2
    assert api.apply(f"{paths.hpas}/web", hpa(least=3), "trimtab")["spec"]["minReplicas"] == 3
    for forbidden in (
        lambda: api.get(f"{paths.hpas}/web"),
        lambda: api.get(paths.hpas),
        lambda: api.get(paths.pods),
        lambda: api.delete(f"{paths.hpas}/web"),
        lambda: api.get("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"),
    ):
        with pytest.raises(ApiError) as caught:
            forbidden()
        assert (caught.value.status, caught.value.reason) == (403, "Forbidden")


def test_apply_with_patch_alone_cannot_create(cluster, namespace, paths):
    api = grant(cluster, namespace, ["patch"])
    with pytest.raises(ApiError) as caught:
        api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
    assert caught.value.status == 403
    assert "cannot create" in caught.value.message


def test_a_kubeconfig_of_a_service_account_has_its_rights_only(cluster, namespace):
    grant(cluster, namespace, ["get", "list"])
    kubeconfig = cluster.kubeconfig_for(namespace, "trimtab")
    assert cluster.kubectl("auth", "can-i", "list", "hpa", kubeconfig=kubeconfig).strip() == "yes"
    assert "no" in cluster.kubectl("auth", "can-i", "delete", "hpa", kubeconfig=kubeconfig, check=False)


def test_nobody_is_let_in_without_credentials(cluster):
    stranger = KubeApi(cluster.server, ca=cluster.ca_file)
    try:
        with pytest.raises(ApiError) as caught:
            stranger.get("/api/v1/pods")
    finally:
        stranger.close()
    assert caught.value.status == 401


def test_kubectl_apply_owns_what_it_sent_until_forced(kubectl, api, paths):
    kubectl("apply", body=hpa())
    with pytest.raises(ApiError) as caught:
        api.apply(f"{paths.hpas}/web", hpa(least=4), "trimtab")
    assert caught.value.status == 409
    assert 'conflict with "kubectl-client-side-apply"' in caught.value.message
    taken = api.apply(f"{paths.hpas}/web", hpa(least=4), "trimtab", force="true")
    assert ("kubectl-client-side-apply", "Update") in managers(taken)


def test_kubectl_apply_of_the_old_manifest_takes_the_bounds_back_in_silence(kubectl, api, paths):
    kubectl("apply", body=hpa())
    api.apply(f"{paths.hpas}/web", hpa(least=4, most=12), "trimtab", force="true")
    kubectl("apply", body=hpa())
    spec = api.get(f"{paths.hpas}/web")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)


def test_kubectl_server_side_apply_is_refused_with_our_name(kubectl, api, paths):
    api.apply(f"{paths.hpas}/web", hpa(least=4), "trimtab")
    assert "trimtab" in kubectl("apply", "--server-side", body=hpa(), check=False)
    assert api.get(f"{paths.hpas}/web")["spec"]["minReplicas"] == 4


def test_a_stale_json_patch_test_is_unprocessable_not_a_conflict(api, paths):
    api.apply(f"{paths.hpas}/web", hpa(), "trimtab")
    operations = [{"op": "test", "path": "/spec/minReplicas", "value": 9}]
    with pytest.raises(ApiError) as caught:
        api.call("PATCH", f"{paths.hpas}/web", operations, JSON_PATCH)
    assert caught.value.status == 422


def test_unknown_fields_are_refused_under_strict_validation(api, paths):
    body = hpa()
    body["spec"]["minReplica"] = 3
    with pytest.raises(ApiError) as caught:
        api.post(paths.hpas, body, fieldValidation="Strict")
    assert caught.value.status == 400
    assert "minReplica" in caught.value.message
