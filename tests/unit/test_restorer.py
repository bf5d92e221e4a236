"""When a policy counts as gone, and when the API server is asked at all."""

import json

import pytest

from controller.deadline import Deadline
from controller.errors import Denied, Unreachable
from controller.policy.schema import LoadPolicy
from controller.policy.store import PolicyStore
from controller.restorer import Restorer

EVERYWHERE = "/apis/autoscaling/v2/horizontalpodautoscalers"
HERE = "/apis/autoscaling/v2/namespaces/models/horizontalpodautoscalers"
SCALE = "/apis/apps/v1/namespaces/models/deployments/web/scale"


def policy(name="web", *, scaling=True, hpa=None, mode="enforce"):
    section = {"hpa": hpa or name, "target": {"name": name}}
    spec = {"instances": {"selector": {"app": name}}, "signals": {"preset": "fastapi"}, "mode": mode}
    return LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": name, "namespace": "models"},
            "spec": {**spec, **({"scaling": section} if scaling else {})},
        }
    )


def live(name="web", *, mark="models/web", installation="trimtab", manager="trimtab"):
    annotations = {"trimtab/policy": mark, "trimtab/original": '{"minReplicas":2,"maxReplicas":10}'}
    if installation:
        annotations["trimtab/installation"] = installation
    owned = {"f:spec": {"f:minReplicas": {}, "f:maxReplicas": {}}}
    return {
        "metadata": {
            "name": name,
            "namespace": "models",
            "annotations": annotations,
            "managedFields": [{"manager": manager, "operation": "Apply", "fieldsV1": owned}],
        },
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": name},
            "minReplicas": 2,
            "maxReplicas": 10,
            "metrics": [],
        },
        "status": {"currentReplicas": 3},
    }


class Kube:
    def __init__(self, *items, everywhere=True):
        self.items, self.everywhere, self.asked, self.down = list(items), everywhere, [], False

    def get(self, path, *, query=None, deadline):  # noqa: ARG002 - the protocol's
        self.asked.append(path)
        if self.down:
            raise Unreachable("Kubernetes", "down")
        if path == EVERYWHERE and not self.everywhere:
            raise Denied("Kubernetes", "403")
        return {"spec": {"replicas": 3}, "status": {"replicas": 3}} if path == SCALE else {"items": self.items}


class Actor:
    def __init__(self, kube):
        self.kube, self.released = kube, []

    def restore(self, plans, fence, deadline):  # noqa: ARG002 - the protocol's
        self.released += [plan.policy for plan in plans if plan.release]
        self.kube.items = []
        return ()


class Bench:
    """A restorer, its clock, and what it asked and did."""

    def __init__(self, *items, first=None, installation="trimtab", everywhere=True):
        self.kube, self.at, self.told = Kube(*items, everywhere=everywhere), 0.0, []
        self.actor = Actor(self.kube)
        self.restorer = Restorer(
            self.kube,
            self.actor,
            installation,
            lambda plan, _: self.told.append(plan),
            first or [policy(), policy("other")],
            clock=lambda: self.at,
            now=lambda: self.at,
        )

    def run(self, seconds, fence=object()):  # noqa: B008 - any token does
        for _ in range(int(seconds)):
            self.restorer.tick(fence, Deadline.after(5))
            self.at += 1.0
        return self.actor.released


OTHER = policy("other")


def test_a_policy_that_goes_is_given_back_after_it_has_settled():
    bench = Bench(live(installation=""), installation="")
    bench.run(100)
    assert bench.kube.asked == []
    bench.restorer.changed([OTHER])
    assert bench.run(59) == []
    assert bench.kube.asked == []
    assert bench.run(5) == ["models/web"]


def test_a_policy_that_is_back_in_time_was_never_gone():
    bench = Bench(live(installation=""), installation="")
    bench.restorer.changed([OTHER])
    bench.run(30)
    bench.restorer.changed([policy(), OTHER])
    assert bench.run(200) == []


@pytest.mark.parametrize(
    ("then", "released"),
    [
        pytest.param([OTHER], ["models/web"], id="its file is gone"),
        pytest.param([policy(scaling=False), OTHER], ["models/web"], id="its scaling section is gone"),
        pytest.param([policy(hpa="another"), OTHER], ["models/web"], id="it steers another HPA"),
        pytest.param([policy(mode="observe"), OTHER], [], id="it only observes: its HPA stays as it is"),
    ],
)
def test_what_counts_as_gone(then, released):
    bench = Bench(live(installation=""), installation="")
    bench.restorer.changed(then)
    assert bench.run(200) == released


def test_a_renamed_policy_takes_the_hpa_over():
    bench = Bench(live(installation=""), installation="")
    bench.restorer.changed([policy("renamed", hpa="web"), OTHER])
    bench.run(100)
    assert [plan.release.handover for plan in bench.told] == [True]


@pytest.mark.parametrize(
    ("item", "released"),
    [
        pytest.param(live(mark="models/gone"), ["models/gone"], id="ours, of a policy that is no more"),
        pytest.param(live(mark="models/gone", installation="elsewhere"), [], id="of another installation"),
        pytest.param(live(mark="models/gone", installation=""), [], id="of nobody knows whom"),
        pytest.param(live(mark="models/gone", manager="kubectl"), [], id="a copy: nothing of it is ours"),
        pytest.param(live(), [], id="steered"),
    ],
)
@pytest.mark.parametrize("everywhere", [True, False], ids=["may list all", "may list some"])
def test_at_the_start_what_an_earlier_run_left_is_found(item, released, everywhere):
    bench = Bench(item, everywhere=everywhere)
    assert bench.run(200) == released


def test_in_peace_nothing_is_asked():
    bench = Bench(live())
    bench.run(200)
    asked = len(bench.kube.asked)
    bench.run(2000)
    assert len(bench.kube.asked) == asked == 1


def test_a_look_that_fails_is_repeated_and_not_each_tick():
    bench = Bench(live(mark="models/gone"))
    bench.kube.down = True
    bench.run(200)
    assert 3 <= len(bench.kube.asked) <= 6
    bench.kube.down = False
    assert bench.run(60) == ["models/gone"]


def test_who_does_not_lead_touches_nothing_and_looks_again_once_it_leads():
    bench = Bench(live(mark="models/gone"))
    assert bench.run(200, fence=None) == []
    assert bench.kube.asked == []
    assert bench.run(100) == ["models/gone"]


class Mount:
    """A ConfigMap's mount: `..data` points at the folder of one version, and is swapped as a whole."""

    def __init__(self, root):
        self.root, self.count = root, 0

    def swap(self, *policies, junk=None):
        self.count += 1
        version = self.root / f"..version_{self.count}"
        version.mkdir()
        for one in policies:
            (version / f"{one.metadata.name}.yaml").write_text(json.dumps(as_written(one)))
        if junk is not None:
            (version / "junk.yaml").write_text(junk)
        (self.root / "..new").symlink_to(version.name)
        (self.root / "..new").rename(self.root / "..data")


def as_written(one):
    written = {"instances": {"selector": {"app": one.metadata.name}}, "signals": {"preset": "fastapi"}}
    scaling = {"hpa": one.spec.scaling.hpa, "target": {"name": one.metadata.name}} if one.spec.scaling else None
    return {
        "apiVersion": "trimtab/v1",
        "kind": "LoadPolicy",
        "metadata": {"name": one.metadata.name, "namespace": "models"},
        "spec": {**written, **({"scaling": scaling} if scaling else {})},
    }


def reloads(bench, store):
    """What the daemon does at each turn; whether the set was good."""
    state = store.refresh()
    if state.changed and not state.faults:
        bench.restorer.changed(state.policies)
    return not state.faults


def test_only_a_good_set_without_the_policy_takes_it_away(tmp_path):
    mount, bench = Mount(tmp_path), Bench(live(installation=""), installation="")
    mount.swap(policy(), OTHER)
    store = PolicyStore(tmp_path)
    assert reloads(bench, store)
    for break_it in (
        mount.swap,
        lambda: mount.swap(OTHER, junk="kind: nonsense"),
        (tmp_path / "..data").unlink,
    ):
        break_it()
        assert not reloads(bench, store)
        assert bench.run(300) == []
    mount.swap(policy(), OTHER)
    assert reloads(bench, store)
    assert bench.run(300) == []
    mount.swap(OTHER)
    assert reloads(bench, store)
    assert bench.run(30) == []
    assert bench.run(60) == ["models/web"]
