"""Before min goes down, the pods that are to go are idle, and they are the ones that the ReplicaSet takes."""

import pytest
from acceptance_world import holds, outcome_of
from support.eventually import eventually

from controller.model.outcome import Result
from trimtab.contract import Keys, parse_ranking

DRAINING, COST = "trimtab/draining", "controller.kubernetes.io/pod-deletion-cost"


@pytest.fixture
def draining(world):
    """A service of six pods that the HPA alone would run with two, held up by a floor that is about to go."""
    # The pods are seconds old, and the newest are not drained: half a second counts as warm here.
    world.policy(least=(6, 8), most=(10, 12), drain={"grace": "3s"}, warmUp="500ms")
    world.deploy(replicas=6)
    world.cluster.metrics.set(world.namespace, "*", 0.05, 2**20)
    yield world
    world.cluster.metrics.clear(world.namespace)


def pods(world):
    """Annotations by pod, of those that are not going."""
    items = world.api.get(world.paths.pods)["items"]
    return {
        i["metadata"]["name"]: i["metadata"].get("annotations") or {}
        for i in items
        if "deletionTimestamp" not in i["metadata"]
    }


def marked(world):
    return {name for name, found in pods(world).items() if DRAINING in found}


def ranking(world):
    found = parse_ranking(world.redis.get(Keys(world.key()).ranking))
    return {row.instance: (row.weight, row.state, row.why) for row in found.endpoints}


def lower(world, floor=4):
    world.policy(least=(floor, 8), most=(10, 12), drain={"grace": "3s"}, warmUp="500ms")


def test_scale_in_takes_the_ones_that_were_drained(draining):
    world = draining
    with world.daemon() as daemon:
        daemon.tick_until(lambda _: world.bounds() == (6, 10))
        before = set(pods(world))
        lower(world)
        daemon.tick_until(lambda _: len(marked(world)) == 2)
        going = marked(world)
        assert all(pods(world)[name][COST] == "-1000" for name in going)
        assert world.bounds()[0] == 6
        report = daemon.tick()
        assert "draining" in holds(report)
        for name in going:
            weight, state, why = ranking(world)[name]
            assert (weight, state, "draining" in why) == (0.0, "ejected", True)
        assert abs(sum(weight for weight, _, _ in ranking(world).values()) - 1.0) < 1e-9
        daemon.tick_until(lambda _: world.bounds()[0] == 4)
        eventually(lambda: len(pods(world)) == 4, timeout_seconds=20)
        assert before - set(pods(world)) == going
        daemon.tick_until(lambda _: not marked(world))


def test_called_off_they_get_their_cost_and_their_weight_back(draining):
    world = draining
    with world.daemon() as daemon:
        daemon.tick_until(lambda _: world.bounds() == (6, 10))
        name = next(iter(pods(world)))
        world.api.merge(f"{world.paths.pods}/{name}", {"metadata": {"annotations": {COST: "7"}}})
        lower(world)
        daemon.tick_until(lambda _: len(marked(world)) == 2)
        world.kubectl("annotate", "hpa", "web", "trimtab/paused=in")
        daemon.tick_until(lambda _: not marked(world))
        assert {n: found.get(COST) for n, found in pods(world).items() if COST in found} == {name: "7"}
        daemon.tick_until(lambda _: all(weight > 0.0 for weight, _, _ in ranking(world).values()))
        assert len(pods(world)) == 6
        assert world.bounds()[0] == 6


def test_a_daemon_that_is_killed_half_way_leaves_marks_that_the_next_one_knows(draining):
    world = draining
    with world.daemon() as daemon:
        daemon.tick_until(lambda _: world.bounds() == (6, 10))
        lower(world)
        daemon.tick_until(lambda _: len(marked(world)) == 2)
    with world.daemon() as daemon:
        daemon.tick()  # it has only just seen the HPA, so it lowers nothing yet
        assert world.bounds()[0] == 6
        daemon.tick_until(lambda _: not marked(world))
        daemon.tick_until(lambda _: world.bounds()[0] == 4, 30)
        eventually(lambda: len(pods(world)) == 4, timeout_seconds=20)


def test_without_the_right_to_mark_pods_nothing_is_lowered_and_it_is_said(draining):
    world = draining
    rules = [
        {
            "apiGroups": ["autoscaling"],
            "resources": ["horizontalpodautoscalers"],
            "verbs": ["get", "list", "create", "patch"],
        },
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    root = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{world.namespace}"
    world.api.post(f"/api/v1/namespaces/{world.namespace}/serviceaccounts", {"metadata": {"name": "poor"}})
    world.api.post(f"{root}/roles", {"metadata": {"name": "poor"}, "rules": rules})
    bind = {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "poor"}}
    subject = {"kind": "ServiceAccount", "name": "poor", "namespace": world.namespace}
    world.api.post(f"{root}/rolebindings", {"metadata": {"name": "poor"}, **bind, "subjects": [subject]})
    with world.daemon(kubeconfig=str(world.cluster.kubeconfig_for(world.namespace, "poor"))) as daemon:
        daemon.tick_until(lambda _: world.bounds() == (6, 10))
        lower(world)
        report = daemon.tick_until(lambda r: outcome_of(r, "drain", Result.FAILED))
        assert "scaling.drain needs the verb patch on pods" in outcome_of(report, "drain")[0].detail
        for _ in range(4):
            daemon.tick()
        assert world.bounds()[0] == 6
