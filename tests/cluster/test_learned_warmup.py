"""The warm-up time, from pods that a real API server created and a kubelet made ready."""

from controller.decide.warmup import warm_up


def test_the_pods_that_run_teach_it_and_a_restart_loses_nothing(world):
    world.policy()
    world.deploy(replicas=4)
    found = []
    for _ in range(2):
        with world.daemon() as daemon:
            daemon.tick()
            found.append(warm_up(None, daemon.app.loop.memories[world.key()].warmups))
    assert found[0].pods == 4
    assert 0.0 <= found[0].seconds < 120.0
    assert found[1] == found[0]
