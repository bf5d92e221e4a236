import pytest

from controller.report.health import Health


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_alive_until_three_intervals_without_a_tick(clock):
    health = Health(15.0, clock)
    health.tick_done(1, ["Redis"], [])
    clock.now += 45.0
    assert health.alive()[0]
    clock.now += 0.1
    alive, sentence = health.alive()
    assert not alive
    assert sentence == "last tick 45.1 s ago, at most 45 s allowed"


def test_ready_once_policies_are_loaded_and_each_system_has_answered(clock):
    health = Health(15.0, clock)
    assert health.ready() == (False, "the first tick has not ended")
    health.tick_done(2, ["Prometheus", "Redis"], ["Prometheus", "Redis"])
    assert health.ready() == (False, "no answer yet from Prometheus, Redis")
    health.tick_done(2, ["Prometheus", "Redis"], ["Redis"])
    assert health.ready() == (False, "no answer yet from Redis")
    health.tick_done(2, ["Prometheus", "Redis"], [])
    assert health.ready() == (True, "2 policies in force")


def test_a_later_outage_does_not_take_a_ready_replica_out_of_service(clock):
    health = Health(15.0, clock)
    health.tick_done(1, ["Prometheus"], [])
    health.tick_done(1, ["Prometheus"], ["Prometheus"])
    assert health.ready()[0]
