"""The Roles of manifests/: enough for everything that the daemon does, and each verb of each resource needed for something."""

import contextlib
from unittest import mock

import pytest
import yaml
from acceptance_world import ROOT, World, outcome_of, overlay_for
from plugins.planes import fresh_namespace
from support.eventually import eventually
from support.objects import deployment, hpa

from controller.lab.cluster.api import ApiError
from controller.lead.lease import Timing
from controller.model.outcome import Result

KINDS = {"web": "Deployment", "db": "StatefulSet", "old": "ReplicaSet"}
PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}
ROLES = {
    "trimtab": ROOT / "manifests" / "base" / "role.yaml",
    "trimtab-leader-election": ROOT / "manifests" / "components" / "leader-election" / "role.yaml",
    "trimtab-drain": ROOT / "manifests" / "components" / "drain" / "role.yaml",
}


def rules_of(role):
    documents = yaml.safe_load_all(ROLES[role].read_text())
    return next(d["rules"] for d in documents if d["kind"] == "Role" and d["metadata"]["name"] == role)


def grants():
    """(role, group, resource, verb): everything that is granted, one by one."""
    return [
        (role, group, resource, verb)
        for role in ROLES
        for rule in rules_of(role)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def without(rules, group, resource, verb):
    """The rules less one grant."""
    kept = []
    for rule in rules:
        for one in rule["resources"]:
            gone = one == resource and group in rule["apiGroups"]
            verbs = [v for v in rule["verbs"] if not (gone and v == verb)]
            kept += [{**rule, "resources": [one], "verbs": verbs}] if verbs else []
    return kept


COMPONENTS = "components: [../../components/leader-election, ../../components/drain]"


class Governed:
    """A namespace with the single-namespace overlay and both components, and workloads of each kind."""

    def __init__(self, world, folder):
        self.world = world
        self.api = world.api
        self.roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{world.namespace}/roles"
        overlay = overlay_for(folder / "tree", world.namespace, COMPONENTS)
        world.cluster.kubectl("apply", "-k", str(overlay))
        self.kubeconfig = world.cluster.kubeconfig_for(world.namespace, "trimtab")
        self.account = world.cluster.api_for(world.namespace, "trimtab")
        for name, kind in KINDS.items():
            workload = {**deployment(name, replicas=1), "kind": kind}
            workload["spec"] |= {"serviceName": name} if kind == "StatefulSet" else {}
            path = f"/apis/apps/v1/namespaces/{world.namespace}/{PLURALS[kind]}"
            self.api.post(path, workload)
            world.policy(name, kind=kind)
        eventually(lambda: world.series() >= len(KINDS))

    @contextlib.contextmanager
    def daemon(self):
        """The daemon with its account's token and a quick Lease."""
        quick = Timing(lease=3, renew=2, retry=0.2)
        with (
            mock.patch("controller.lead.lease.Timing", return_value=quick),
            self.world.daemon(kubeconfig=str(self.kubeconfig), leader_election=True) as daemon,
        ):
            yield daemon

    def may(self, group, resource, verb, name=""):
        """Whether the daemon's ServiceAccount may do this, as the API server says."""
        resource, _, part = resource.partition("/")
        attributes = {"namespace": self.world.namespace, "group": group, "resource": resource, "verb": verb}
        attributes |= ({"subresource": part} if part else {}) | ({"name": name} if name else {})
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        body = {**review, "spec": {"resourceAttributes": attributes}}
        return self.account.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)["status"]["allowed"]

    def put_rules(self, role, rules):
        live = self.api.get(f"{self.roles}/{role}")
        self.api.put(f"{self.roles}/{role}", {**live, "rules": rules})

    def reset(self):
        """No HPA, and no Lease: all is to be made anew. And a pod that an earlier run drained, to be given back."""
        pod = self.api.get(self.world.paths.pods, labelSelector="app=web")["items"][0]["metadata"]["name"]
        mark = {"metadata": {"annotations": {"trimtab/draining": '{"since": 1, "cost": null}'}}}
        self.api.merge(f"{self.world.paths.pods}/{pod}", mark)
        lease = f"{self.world.paths.leases}/trimtab-controller"
        for path in (*(f"{self.world.paths.hpas}/{name}" for name in KINDS), lease):
            try:
                self.api.delete(path)
            except ApiError as error:
                if error.status != 404:
                    raise


@pytest.fixture(scope="module")
def governed(cluster, surroundings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("governed")
    with fresh_namespace(cluster) as namespace:
        world = World(cluster, namespace, folder, **surroundings)
        yield Governed(world, folder)
        surroundings["exporter"].set(namespace, None)


def lead(daemon):
    daemon.app.loop.leader.start()
    eventually(daemon.app.loop.leads, timeout_seconds=10)


def test_the_roles_are_enough_for_everything_the_daemon_does(governed):
    world = governed.world
    governed.reset()
    theirs = hpa("db")
    theirs["spec"]["scaleTargetRef"]["kind"] = KINDS["db"]
    world.kubectl("apply", body=theirs)
    with governed.daemon() as daemon:
        lead(daemon)
        created = daemon.tick()
        for name in KINDS:
            world.backlog(9, name)
        stepped = daemon.tick_until(lambda report: len(outcome_of(report, "hpa", Result.DONE)) == len(KINDS))
        world.kubectl("annotate", "hpa", "web", "trimtab/paused=true")
        held = daemon.tick_until(lambda report: any("paused" in str(plan.holds) for plan in report.plans))
        for report in (created, stepped, held):
            assert not report.snapshot.problems
            assert not report.bugs
            assert not [o for o in report.outcomes if o.result is Result.FAILED]
        assert len(outcome_of(created, "hpa", Result.DONE)) == len(KINDS)
        seen = {name: {reason for reason, _ in world.events(name)} for name in KINDS}
        assert seen["web"] >= {"TrimtabRescaled"}
        assert all("TrimtabRescaled" in reasons for reasons in seen.values())
        eventually(lambda: daemon.tick() and "TrimtabHeld" in {reason for reason, _ in world.events("web")})
        lease = world.api.get(f"{world.paths.leases}/trimtab-controller")["spec"]
        assert lease["holderIdentity"].startswith("daemon-under-test")
        eventually(
            lambda: world.api.get(f"{world.paths.leases}/trimtab-controller")["spec"]["renewTime"] > lease["renewTime"]
        )
    released = world.api.get(f"{world.paths.leases}/trimtab-controller")["spec"]
    assert not released.get("holderIdentity")
    with governed.daemon() as daemon:
        lead(daemon)
    for name in KINDS:
        world.backlog(0, name)


def complaints(daemon):
    """What the daemon says does not work, from its first ticks: reads, writes, and the Lease."""
    leader = daemon.app.loop.leader
    leader.start()
    found = []

    def look():
        report = daemon.tick()
        failed = [o.detail for o in report.outcomes if o.result is Result.FAILED]
        said = [*report.snapshot.problems, *failed, leader.status()]
        found.extend(text for text in said if "403" in text)
        return found

    eventually(look, timeout_seconds=10)
    return found


@pytest.mark.parametrize(("role", "group", "resource", "verb"), grants(), ids=lambda value: value or "core")
def test_without_any_one_of_them_something_fails_and_is_said(governed, role, group, resource, verb):
    governed.reset()
    name = "trimtab-controller" if resource == "leases" else ""
    rules = rules_of(role)
    assert governed.may(group, resource, verb, name)
    governed.put_rules(role, without(rules, group, resource, verb))
    try:
        eventually(lambda: not governed.may(group, resource, verb, name))
        with governed.daemon() as daemon:
            said = complaints(daemon)
        plural, _, part = resource.partition("/")
        assert any(f'cannot {verb} resource "{plural}{"/" + part if part else ""}"' in text for text in said), said
    finally:
        governed.put_rules(role, rules)
        eventually(lambda: governed.may(group, resource, verb, name))


@pytest.mark.parametrize(
    "question",
    [
        ("get", "secrets"),
        ("list", "configmaps"),
        ("delete", "hpa"),
        ("update", "hpa"),
        ("patch", "deployments.apps/scale"),
        ("patch", "deployments.apps"),
        ("delete", "pods"),
        ("delete", "leases.coordination.k8s.io"),
        ("list", "hpa", "--all-namespaces"),
        ("list", "pods", "-n", "kube-system"),
        ("get", "leases.coordination.k8s.io/another"),
        ("create", "roles.rbac.authorization.k8s.io"),
    ],
    ids=" ".join,
)
def test_nothing_else_is_allowed(governed, question):
    namespace = () if "-n" in question else ("-n", governed.world.namespace)
    answer = governed.world.cluster.kubectl(
        "auth", "can-i", *question, *namespace, kubeconfig=governed.kubeconfig, check=False
    )
    assert answer.startswith("no"), answer


def test_the_account_is_bound_in_its_namespace_only(governed):
    """Neither a ClusterRoleBinding nor a RoleBinding elsewhere names it."""
    root = "/apis/rbac.authorization.k8s.io/v1"
    bindings = [
        *governed.api.get(f"{root}/clusterrolebindings")["items"],
        *governed.api.get(f"{root}/rolebindings")["items"],
    ]
    naming = [
        (b["metadata"].get("namespace"), b["roleRef"]["name"])
        for b in bindings
        for subject in b.get("subjects", ())
        if subject["name"] == "trimtab" and subject.get("namespace") == governed.world.namespace
    ]
    assert sorted(naming) == [(governed.world.namespace, role) for role in sorted(ROLES)]


def test_a_managed_namespace_gets_the_same_rights():
    documents = list(yaml.safe_load_all((ROOT / "manifests" / "managed-namespace" / "role.yaml").read_text()))
    assert documents[0]["rules"] == rules_of("trimtab")
