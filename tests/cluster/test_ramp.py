"""Load comes, the daemon makes room in steps, the real HPA controller fills it; the daemon dies half-way and comes back."""

import itertools

from acceptance_world import BUSY, CALM, History
from support.eventually import eventually

STEP = 1
QUICK = {"replicas": STEP, "every": "1s", "lowerEvery": "1s"}


def load(world, level, cpu):
    world.exporter.set(world.namespace, level)
    world.cluster.metrics.set(world.namespace, "*", cpu, 0.5 * 2**30)


def bounds_of(hpa):
    return hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]


def bounds_and_replicas(history):
    """((min, max), replicas asked for) at each change of either, in the server's order."""
    bounds, replicas, rows = None, None, []
    for kind, thing in history.states():
        assert kind != "DELETED"
        if thing["kind"] == "HorizontalPodAutoscaler":
            bounds = bounds_of(thing)
        else:
            replicas = thing["spec"]["replicas"]
        if bounds and replicas is not None and (not rows or rows[-1] != (bounds, replicas)):
            rows.append((bounds, replicas))
    return rows


def test_room_is_made_in_steps_filled_by_the_hpa_and_taken_back_with_no_pod_killed_by_a_bound(world, start):
    world.policy(least=(2, 3), most=(3, 5), steps=QUICK)
    world.deploy()
    with History(world.cluster, world.paths.hpas, world.paths.deployments) as history:
        first = start()
        eventually(lambda: world.hpa() and world.bounds() == (2, 3))
        load(world, BUSY, cpu=1.5)
        eventually(lambda: world.bounds()[1] >= 4, timeout_seconds=30)
        first.process.kill()
        stood = world.bounds()
        start()
        eventually(lambda: world.bounds() == (3, 5), timeout_seconds=30)
        eventually(lambda: world.ready() == 5, timeout_seconds=30)
        up = bounds_and_replicas(history)
        load(world, CALM, cpu=0.1)
        eventually(lambda: world.bounds() == (2, 3) and world.ready() == 2, timeout_seconds=60)
        rows = bounds_and_replicas(history)

    pairs = [bounds for bounds, _ in rows]
    for before, after in itertools.pairwise(pairs):
        assert all(abs(b - a) <= STEP for a, b in zip(before, after, strict=True)), pairs
    assert all(most >= replicas for (_, most), replicas in rows if replicas is not None), rows
    # On the way up nothing steps back, not even where one daemon died and another went on, and no replica is lost.
    ramp = [bounds for bounds, _ in up]
    assert stood in ramp
    assert ramp == sorted(ramp), ramp
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(ramp))
    counts = [replicas for _, replicas in up]
    assert counts == sorted(counts), counts
    assert counts[-1] == 5
    # On the way down a bound never moves onto what runs: the HPA went first, each time.
    for (before, replicas), (after, _) in itertools.pairwise(rows):
        if after[1] < before[1]:
            assert after[1] >= replicas, rows
    assert any(after[1] < before[1] for before, after in itertools.pairwise(pairs))
