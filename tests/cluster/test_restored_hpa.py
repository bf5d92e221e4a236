"""A policy goes: its HPA goes back to what it was found with, in steps, and is nobody's any more."""

import itertools
import json

import pytest
from acceptance_world import BUSY, History
from support.eventually import eventually
from support.objects import hpa, managers

from controller.deadline import Deadline

MARKS = {"trimtab/policy", "trimtab/original", "trimtab/installation", "trimtab/learned"}


class Owner:
    """A user who has a second service besides, so that the folder is never empty."""

    def __init__(self, world):
        self.world = world

    def removes(self, name="web"):
        (self.world.policies / f"{name}.yaml").unlink()


def turn(daemon):
    """One turn of the daemon's clockwork, settling and waiting for nothing."""
    state = daemon.app.store.refresh()
    restorer = daemon.app.restorer
    restorer.settle_seconds = restorer.retry_seconds = 0.0
    if state.changed and not state.faults:
        restorer.changed(state.policies)
    report = daemon.app.once(daemon.app.store.policies)
    fence = daemon.app.loop.leader.fence()
    restorer.tick(fence, Deadline.after(5.0))
    return report


def turns_until(daemon, condition, timeout_seconds=20.0):
    def once():
        turn(daemon)
        assert condition(), daemon.decisions()[-2000:]
        return True

    eventually(once, timeout_seconds, every_seconds=0.25)


def let_go(world, name="web"):
    live = world.hpa(name)
    return not MARKS & set(live["metadata"].get("annotations") or {}) and "trimtab" not in {
        m for m, _ in managers(live)
    }


@pytest.fixture
def steered(world):
    """Two services; the daemon has raised the bounds of one that was found with 3 to 12."""
    world.policy("other", least=(1, 2), most=(3, 4))
    world.policy(least=(2, 8), most=(10, 20), cpu={"target": 60}, behavior={"scaleDown": {"selectPolicy": "Min"}})
    world.deploy(replicas=3)
    body = hpa(least=3, most=12)
    body["metadata"]["annotations"] = {"example.com/team": "vision"}
    world.kubectl("apply", body=body)
    return world


def test_back_to_what_it_was_in_steps_and_no_pod_is_stopped_by_a_bound(steered):
    world = steered
    with world.daemon() as daemon, History(world.cluster, world.paths.hpas, world.paths.deployments) as history:
        world.backlog(9)
        turns_until(daemon, lambda: world.bounds()[0] >= 7 and world.ready() >= 7)
        Owner(world).removes()
        turns_until(daemon, lambda: let_go(world))
        eventually(lambda: world.ready() >= 3)
        states = history.states()
    assert world.bounds() == (3, 12)
    live = world.hpa()
    targets = {m["resource"]["name"]: m["resource"]["target"]["averageUtilization"] for m in live["spec"]["metrics"]}
    assert targets == {"cpu": 70, "memory": 80}
    assert "behavior" not in live["spec"]
    assert live["metadata"]["annotations"]["example.com/team"] == "vision"
    seen = [
        (o["spec"]["minReplicas"], o["spec"]["maxReplicas"])
        for kind, o in states
        if o["kind"] == "HorizontalPodAutoscaler" and o["metadata"]["name"] == "web"
    ]
    for before, after in itertools.pairwise(seen):
        assert all(abs(b - a) <= 2 for a, b in zip(before, after, strict=True)), seen
    assert any("policy" in note and "is gone" in note for _, note in world.events())
    # The owner's own apply is refused by nobody now.
    world.kubectl("apply", body=hpa(least=4, most=9))
    assert world.bounds() == (4, 9)


def test_a_bad_set_and_an_empty_folder_take_nothing_away(steered):
    world = steered
    with world.daemon() as daemon:
        world.backlog(9)
        turns_until(daemon, lambda: world.bounds()[0] >= 5)
        saved = {path: path.read_text() for path in world.policies.iterdir()}
        (world.policies / "web.yaml").unlink()
        (world.policies / "other.yaml").write_text("kind: nonsense\n")
        for _ in range(4):
            turn(daemon)
        (world.policies / "other.yaml").unlink()
        for _ in range(4):
            turn(daemon)
        assert world.bounds()[0] >= 5
        assert world.hpa()["metadata"]["annotations"]["trimtab/policy"] == world.key()
        for path, text in saved.items():
            path.write_text(text)
        turn(daemon)
        assert daemon.app.store.current.faults == ()


def test_after_a_restart_what_an_earlier_run_left_is_given_back_and_what_others_steer_is_not(steered):
    world = steered
    with world.daemon() as daemon:
        world.backlog(9)
        turns_until(daemon, lambda: world.bounds()[0] >= 5)
    Owner(world).removes()
    marks = {"metadata": {"annotations": {"trimtab/installation": "elsewhere"}}}
    world.api.merge(f"{world.paths.hpas}/web", marks)
    stood = world.bounds()
    with world.daemon() as daemon:
        for _ in range(4):
            turn(daemon)
        assert world.bounds() == stood
        world.api.merge(
            f"{world.paths.hpas}/web", {"metadata": {"annotations": {"trimtab/installation": world.namespace}}}
        )
        daemon.app.restorer._led = False  # the lead comes back, and with it a look at everything
        turn(daemon)
        assert "the next step may come in" in daemon.decisions()  # no policy says how fast: the default's five minutes
        assert world.bounds() == stood


def test_what_was_created_stays_as_it_is_and_is_nobodys(world):
    world.policy("other", least=(1, 2), most=(3, 4))
    world.policy()
    world.deploy()
    with world.daemon() as daemon:
        turns_until(daemon, lambda: world.hpa() is not None)
        spec = world.hpa()["spec"]
        Owner(world).removes()
        turns_until(daemon, lambda: let_go(world))
    live = world.hpa()
    assert live["spec"] == spec
    assert "app.kubernetes.io/managed-by" not in (live["metadata"].get("labels") or {})


def test_a_renamed_policy_takes_over_where_the_old_one_was(steered):
    world = steered
    with world.daemon() as daemon:
        world.backlog(9)
        turns_until(daemon, lambda: world.bounds()[0] >= 5)
        stood = world.bounds()
        text = (world.policies / "web.yaml").read_text().replace("metadata:\n  name: web", "metadata:\n  name: renamed")
        (world.policies / "web.yaml").write_text(text)
        turns_until(
            daemon, lambda: world.hpa()["metadata"]["annotations"].get("trimtab/policy") == world.key("renamed")
        )
    assert world.bounds()[0] >= stood[0]
    original = json.loads(world.hpa()["metadata"]["annotations"]["trimtab/original"])
    assert (original["minReplicas"], original["maxReplicas"]) == (3, 12)


def test_a_paused_one_waits(steered):
    world = steered
    with world.daemon() as daemon:
        world.backlog(9)
        turns_until(daemon, lambda: world.bounds()[0] >= 5)
        world.kubectl("annotate", "hpa", "web", "trimtab/paused=true")
        stood = world.bounds()
        Owner(world).removes()
        for _ in range(4):
            turn(daemon)
        assert world.bounds() == stood
        world.kubectl("annotate", "hpa", "web", "trimtab/paused-")
        turns_until(daemon, lambda: let_go(world))
        assert world.bounds() == (3, 12)
        world.exporter.set(world.namespace, BUSY)
