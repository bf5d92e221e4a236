"""Limiter, weights and the real HPA on one fleet under a spike, a plateau and a decay: none fights another, alive or killed."""

import pytest
from acceptance_world import History
from fight_world import ENOUGH, HIGH, LOW, SLOTS, TARGET, Fleet, direction_changes, policy
from support.eventually import eventually
from support.objects import hpa

from trimtab.contract import Keys

LOOKS = 40
"""The plateau lasts so many looks of the meters, ten seconds of them."""
DITHER = 0.4
"""The limit looks aside for one update at a time, by up to a quarter each way: that is learning, no change of direction."""


@pytest.fixture
def begin(world, start):
    """Start a daemon, and wait until it steers the limit and the HPA."""

    def steering():
        daemon = start()
        eventually(lambda: world.hpa() and world.redis.exists(Keys(world.key()).limiter), timeout_seconds=60)
        return daemon.process

    return steering


def grown(world, fleet):
    return world.ready() >= ENOUGH and fleet.drained()


def numbers(history):
    """(minReplicas, maxReplicas, replicas) as series, in the server's order."""
    low, high, replicas = [], [], []
    for _, thing in history.states():
        if thing["kind"] == "HorizontalPodAutoscaler":
            low.append(thing["spec"]["minReplicas"])
            high.append(thing["spec"]["maxReplicas"])
        else:
            replicas.append(thing["spec"]["replicas"])
    return {"minReplicas": low, "maxReplicas": high, "replicas": replicas}


def weights_of(looks):
    """By endpoint, each as a multiple of an equal share."""
    series = {}
    for _, weights in looks:
        for endpoint, weight in weights.items():
            series.setdefault(endpoint, []).append(weight * len(weights))
    return series


def check_phase(history, looks):
    turned = {name: direction_changes(series) for name, series in numbers(history).items()}
    turned["limit"] = direction_changes([limit for limit, _ in looks if limit is not None], DITHER)
    turned |= {name: direction_changes(series, DITHER) for name, series in weights_of(looks).items()}
    assert all(count <= 1 for count in turned.values()), (turned, numbers(history), [limit for limit, _ in looks])


def test_a_spike_a_plateau_and_a_decay_turn_nothing_more_than_once(world, begin):
    policy(world)
    world.deploy()
    with Fleet(world, default_limit=SLOTS) as fleet:
        begin()
        fleet.turns(8)
        stood = fleet.seen[-1][0]
        phases = (
            (HIGH, lambda: grown(world, fleet)),
            (HIGH, None),
            (LOW, lambda: world.replicas() <= 3 and world.bounds()[0] == 2 and fleet.drained()),
        )
        for rate, until in phases:
            first = len(fleet.seen)
            with History(world.cluster, world.paths.hpas, world.paths.deployments) as history:
                fleet.load(rate)
                if until is None:
                    fleet.turns(LOOKS)
                    assert grown(world, fleet)
                    assert fleet.seen[-1][0] > 1.5 * stood  # the limit has followed the pods
                else:
                    eventually(until, timeout_seconds=90)
                check_phase(history, fleet.seen[first:])


def alone(world):
    """The replicas that an HPA alone comes to under the spike, with a limit that never stands in its way."""
    world.api.post(world.paths.hpas, hpa("web", least=2, most=8, cpu=TARGET, memory=None))
    with Fleet(world, default_limit=64) as fleet:
        fleet.load(HIGH)
        eventually(lambda: grown(world, fleet), timeout_seconds=90)
        fleet.turns(LOOKS // 2)
        found = world.replicas()
        fleet.load(LOW)
        eventually(lambda: world.replicas() == 2, timeout_seconds=60)
    return found


def test_killed_at_the_worst_moment_of_each_phase_it_is_no_worse_than_the_hpa_alone(world, begin):
    policy(world)
    world.deploy()
    needed = min(alone(world), ENOUGH)

    def served(fleet):
        return world.ready() >= needed and fleet.drained()

    # The workers' own default would starve them: the published one must hold.
    with Fleet(world, default_limit=1) as fleet:
        process = begin()
        fleet.turns(8)
        fleet.load(HIGH)
        # More is asked for, and not there yet.
        eventually(lambda: fleet.waiting > 20 or world.replicas() > 2, timeout_seconds=30)
        process.kill()
        eventually(lambda: served(fleet), timeout_seconds=90)
        process = begin()
        fleet.turns(LOOKS // 2)
        process.kill()
        # The limit expires, and what was published for that day holds: as much as the pods can serve, and not one.
        eventually(lambda: world.redis.get(Keys(world.key()).limit) is None, timeout_seconds=30)
        fleet.turns(LOOKS // 2)
        eventually(lambda: served(fleet), timeout_seconds=60)
        process = begin()
        fleet.load(LOW)
        eventually(lambda: world.replicas() < needed or world.bounds()[0] < ENOUGH, timeout_seconds=60)  # it has begun
        process.kill()
        stood = world.bounds()[0]
        eventually(lambda: world.replicas() == stood and fleet.drained(), timeout_seconds=90)
