"""A steered HPA beside the plain one that it was found with, under the same load: never fewer pods, and steps all the way."""

import time

from twin import STEPS, Counted, compared, hpa_writes, killed

from controller.deadline import Deadline


def test_a_spike_and_its_decay(twin):
    world = twin.world
    with world.daemon() as daemon, Counted(world) as history:
        twin.run(daemon, 1.0, lambda: "trimtab/policy" in world.hpa()["metadata"].get("annotations", {}))
        world.backlog(30)
        twin.run(daemon, 6.0, lambda: min(twin.runs()) >= 8 and world.bounds()[0] > 2)
        world.backlog(0)
        twin.run(daemon, 1.0, lambda: twin.runs() == (2, 2) and world.bounds()[0] == 2)
        steered, plain = compared(history)
    assert killed(steered) <= max(n for _, n in steered) - 2, "it went down once, and not to and fro"
    assert killed(plain) >= 6


def test_a_daemon_that_dies_on_the_way_up_and_one_that_goes_on(twin):
    world = twin.world
    with Counted(world) as history:
        with world.daemon() as daemon:
            twin.run(daemon, 1.0, lambda: "trimtab/policy" in world.hpa()["metadata"].get("annotations", {}))
            world.backlog(30)
            twin.run(daemon, 5.0, lambda: world.bounds()[0] >= 4)
        stood = world.bounds()
        with world.daemon() as daemon:
            twin.run(daemon, 5.0, lambda: min(twin.runs()) >= 7)
            for _ in range(10):
                twin.run(daemon, 5.0, lambda: True)
        steered, _ = compared(history)
        bounds = history.bounds()
    after = bounds[bounds.index(stood) :]
    assert all(low >= stood[0] and high >= stood[1] for low, high in after), bounds
    assert killed(steered) == 0


def test_a_policy_that_goes_while_its_pods_are_needed(twin):
    world = twin.world
    (world.policies / "other.yaml").write_text((world.policies / "web.yaml").read_text().replace("web", "other"))
    with world.daemon() as daemon, Counted(world) as history:
        restorer = daemon.app.restorer
        restorer.settle_seconds = restorer.retry_seconds = 0.0
        twin.run(daemon, 6.0, lambda: min(twin.runs()) >= 8)
        (world.policies / "web.yaml").unlink()
        restorer.changed(daemon.app.store.refresh().policies)

        def let_go():
            restorer.tick(daemon.app.loop.leader.fence(), Deadline.after(5.0))
            return "trimtab/policy" not in world.hpa()["metadata"]["annotations"]

        twin.run(daemon, 6.0, let_go)
        assert world.bounds() == (2, 10)
        steered, _ = compared(history)
    assert killed(steered) == 0, "the load is as before: the HPA alone keeps what it needs"


def local(seconds):
    return time.strftime("%H:%M", time.gmtime(time.time() + seconds))


def test_the_edge_of_a_schedule(twin):
    world = twin.world
    opens_in = 120 + 60 - time.time() % 60  # on a full minute, two to three from now
    window = {"name": "office", "from": local(opens_in), "to": local(opens_in + 7200), "timezone": "UTC", "min": 7}
    edge = {"schedules": [window], "warmUp": f"{opens_in - 15:.0f}s", "memory": None, "steps": STEPS}
    with world.daemon() as daemon, Counted(world) as history:
        world.policy(least=(2, 8), most=(10, 14), **edge)
        twin.run(daemon, 1.0, lambda: twin.runs() == (7, 2))
        assert "schedule office" in daemon.decisions()
        twin.run(daemon, 1.5, lambda: True)
        # The window goes from the policy: its other edge, without waiting for it.
        world.policy(least=(2, 8), most=(10, 14), memory=None, steps=STEPS)
        twin.run(daemon, 1.0, lambda: twin.runs() == (2, 2) and world.bounds()[0] == 2)
        steered, _ = compared(history)
    assert killed(steered) == 5


def test_no_write_in_a_hundred_ticks_of_peace(twin):
    world = twin.world
    world.policy(
        least=(2, 8),
        most=(10, 14),
        memory=None,
        steps=STEPS,
        behavior={"scaleDown": {"stabilizationWindowSeconds": 5, "tolerance": 0.1}},
        demand={},
        forecast={},
        cpu={"target": 70, "between": [50, 85]},
        drain={},
    )
    with world.daemon() as daemon:
        twin.run(daemon, 1.0, lambda: "behavior" in world.hpa()["spec"])
        twin.run(daemon, 1.0, lambda: world.bounds() == (2, 10))
        before, known = hpa_writes(world), daemon.app.loop.memories[world.key()].fullness
        assert before > 0
        for _ in range(100):
            report = daemon.tick()
            assert not report.snapshot.problems
        assert hpa_writes(world) == before
        learned = daemon.app.loop.memories[world.key()].fullness
        assert sum(learned.held) > sum(known.held), "what it learns meanwhile waits for a change"
        twin.run(daemon, 6.0, lambda: hpa_writes(world) > before)  # and it is awake all the same
