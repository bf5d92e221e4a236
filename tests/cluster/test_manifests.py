"""The manifests on a real API server: valid to the last field, and admitted by Pod Security "restricted"."""

import pytest
import yaml
from acceptance_world import ROOT, overlay_for
from support.eventually import eventually
from support.objects import Paths

from controller.lab.cluster.api import ApiError
from controller.policy.store import PolicyStore
from controller.settings import Settings

ELECTION = "components: [../../components/leader-election]"
DRAIN = "components: [../../components/drain]"
LABELS = {"app.kubernetes.io/part-of": "trimtab", "app.kubernetes.io/component": "controller"}


@pytest.fixture
def kubectl(cluster, namespace):
    return lambda *args, **options: cluster.kubectl("-n", namespace, *args, **options)


@pytest.fixture
def rendered(cluster, namespace, tmp_path):
    """The objects of the single-namespace overlay, by kind and name."""

    def render(more=""):
        text = cluster.kubectl("kustomize", str(overlay_for(tmp_path / "tree", namespace, more)))
        objects = list(yaml.safe_load_all(text))
        return {(o["kind"], o["metadata"]["name"]): o for o in objects}

    return render


DRY_RUN = ("apply", "--dry-run=server", "--validate=strict")


@pytest.mark.parametrize("folder", ["base", "managed-namespace"])
def test_folders_that_take_their_namespace_from_the_command_line(kubectl, folder):
    told = kubectl(*DRY_RUN, "-k", str(ROOT / "manifests" / folder))
    assert "rolebinding.rbac.authorization.k8s.io/trimtab created (server dry run)" in told


@pytest.mark.parametrize("more", ["", ELECTION], ids=["overlay", "overlay with leader election"])
def test_the_overlay(kubectl, namespace, tmp_path, more):
    told = kubectl(*DRY_RUN, "-k", str(overlay_for(tmp_path, namespace, more)))
    assert "deployment.apps/trimtab created (server dry run)" in told
    assert ("rolebinding.rbac.authorization.k8s.io/trimtab-leader-election created" in told) == bool(more)


@pytest.mark.parametrize(
    ("more", "verbs"), [("", {"list"}), (DRAIN, {"list", "patch"})], ids=["overlay", "overlay with drain"]
)
def test_the_right_to_mark_pods_comes_with_its_component_only(rendered, more, verbs):
    rules = [rule for (kind, _), thing in rendered(more).items() if kind == "Role" for rule in thing["rules"]]
    assert {verb for rule in rules if "pods" in rule["resources"] for verb in rule["verbs"]} == verbs


def test_a_field_that_does_not_exist_would_be_told(kubectl, rendered):
    deployment = rendered()["Deployment", "trimtab"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    told = kubectl(*DRY_RUN, "-f", "-", stdin=yaml.safe_dump(deployment), check=False)
    assert 'unknown field "spec.template.spec.containers[0].readynessProbe"' in told


def test_labels_probes_and_one_writer_at_a_time(rendered):
    objects = rendered()
    deployment, service = objects["Deployment", "trimtab"], objects["Service", "trimtab"]
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    for thing in (*objects.values(), pod):
        assert thing["metadata"]["labels"].items() >= LABELS.items()
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert objects["ServiceAccount", "trimtab"]["automountServiceAccountToken"] is False
    assert not [kind for kind, _ in objects if kind.startswith("Cluster")]


def test_leader_election_makes_two_of_them(rendered):
    deployment = rendered(ELECTION)["Deployment", "trimtab"]
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"
    env = {e["name"]: e.get("value") for e in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["TRIMTAB_LEADER_ELECTION"] == "true"


def test_every_setting_of_the_deployment_exists(rendered):
    (container,) = rendered(ELECTION)["Deployment", "trimtab"]["spec"]["template"]["spec"]["containers"]
    environ = {entry["name"]: entry.get("value", "from-the-field") for entry in container["env"]}
    settings = Settings.load({}, environ)
    assert settings.leader_election
    assert settings.policies in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_the_configmap_is_the_folder_and_loads_as_it_is_mounted(rendered, tmp_path):
    data = rendered()["ConfigMap", "trimtab-policies"]["data"]
    files = {path.name: path.read_text() for path in (ROOT / "policies").glob("*.yaml") if path.stem != "kustomization"}
    assert data == files
    mount = tmp_path / "mount"
    version = mount / "..2026_01_01_00_00_00.1"
    version.mkdir(parents=True)
    for name, text in data.items():
        (version / name).write_text(text)
        (mount / name).symlink_to(f"..data/{name}")
    (mount / "..data").symlink_to(version.name)
    keys = {policy.key for policy in PolicyStore(mount).load().policies}
    assert keys == {"models/model-service", "models/my-server", "models/vision", "models/llm"}


@pytest.mark.parametrize("more", ["", ELECTION], ids=["one replica", "leader election"])
def test_pod_security_restricted_admits_the_pods(scaling_cluster, namespace, tmp_path, more):
    api, paths = scaling_cluster.api(), Paths(namespace)
    api.merge(
        f"/api/v1/namespaces/{namespace}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
    )
    plain = {"metadata": {"name": "plain"}, "spec": {"containers": [{"name": "main", "image": "none"}]}}
    with pytest.raises(ApiError, match='violates PodSecurity "restricted'):
        api.post(paths.pods, plain)
    told = scaling_cluster.kubectl("apply", "--validate=strict", "-k", str(overlay_for(tmp_path, namespace, more)))
    assert "Warning" not in told
    replicas = 2 if more else 1
    status = eventually(
        lambda: s if (s := api.get(f"{paths.deployments}/trimtab")["status"]).get("readyReplicas") == replicas else None
    )
    assert {c["type"]: c["status"] for c in status["conditions"]}["Available"] == "True"
    pods = api.get(paths.pods)["items"]
    assert len(pods) == replicas
    for pod in pods:
        assert pod["spec"]["serviceAccountName"] == "trimtab"
        assert any("serviceAccountToken" in str(volume) for volume in pod["spec"]["volumes"])
