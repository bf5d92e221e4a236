"""What Prometheus shows of a simulated fleet: no more and no sooner than of a real one."""

import pytest

from bench.scaling.readings import Readings
from bench.scaling.world import STEP_SECONDS, Step
from controller.model.sample import Absent, Signal, fresh_value

MINUTE, TWO_MINUTES = 60.0, 120.0


def step(n, *, rate=80.0, cpu=0.4, ready=4, latency=0.1):
    return Step(n * STEP_SECONDS, rate, cpu, latency, ready, ready)


def shown(instances, signal):
    return [fresh_value(i.signal(signal)) for i in instances]


def read(readings, steps):
    for one in steps:
        found = readings.add(one)
    return found


def test_of_the_moment_is_the_last_step_alone():
    readings = Readings(STEP_SECONDS, STEP_SECONDS)
    found = read(readings, [step(1), step(2, rate=160.0, cpu=0.8, latency=0.3)])
    assert shown(found, Signal.RATE) == [40.0] * 4
    assert shown(found, Signal.CPU) == [0.8] * 4
    assert shown(found, Signal.LATENCY) == [0.3] * 4


def test_through_windows_a_rate_is_a_mean_of_a_minute_and_cpu_of_two():
    steps = [step(n, rate=80.0 if n <= 4 else 160.0, cpu=0.4 if n <= 4 else 0.8) for n in range(1, 9)]
    readings = Readings(MINUTE, TWO_MINUTES)
    assert shown(read(readings, steps[:6]), Signal.RATE) == [pytest.approx(30.0)] * 4
    found = read(readings, steps[6:])
    assert shown(found, Signal.RATE) == [pytest.approx(40.0)] * 4
    assert shown(found, Signal.CPU) == [pytest.approx(0.6)] * 4


def test_a_new_replica_shows_no_cpu_until_it_has_served_for_its_window_and_a_thin_rate():
    readings = Readings(MINUTE, TWO_MINUTES)
    found = read(readings, [*(step(n) for n in range(1, 9)), step(9, ready=5, rate=100.0)])
    assert len(found) == 5
    assert isinstance(found[4].signal(Signal.CPU), Absent)
    assert fresh_value(found[4].signal(Signal.RATE)) == pytest.approx(20.0 / 4)
    found = read(readings, [step(n, ready=5, rate=100.0) for n in range(10, 16)])
    assert isinstance(found[4].signal(Signal.CPU), Absent)
    found = read(readings, [step(16, ready=5, rate=100.0)])
    assert shown(found, Signal.CPU) == [pytest.approx(0.4)] * 5


def test_a_replica_that_is_gone_takes_what_it_served_with_it():
    readings = Readings(MINUTE, TWO_MINUTES)
    found = read(readings, [*(step(n) for n in range(1, 9)), step(9, ready=2)])
    assert [i.name for i in found] == ["0", "1"]
    # Three steps at a quarter of 80/s, one at a half: 60 of the 80/s that came are left.
    assert sum(shown(found, Signal.RATE)) == pytest.approx(2 * (3 * 20.0 + 40.0) / 4)


def test_one_that_went_and_came_again_is_a_new_one():
    readings = Readings(MINUTE, TWO_MINUTES)
    found = read(readings, [*(step(n) for n in range(1, 9)), step(9, ready=3), step(10, ready=4)])
    assert isinstance(found[3].signal(Signal.CPU), Absent)
    assert shown(found[:3], Signal.CPU) == [pytest.approx(0.4)] * 3


def test_response_times_are_weighed_by_requests_and_their_quantile_is_the_slowest_steps():
    readings = Readings(MINUTE, TWO_MINUTES)
    found = read(readings, [*(step(n) for n in range(1, 4)), step(4, rate=240.0, latency=0.5)])
    assert shown(found, Signal.LATENCY) == [pytest.approx((3 * 80 * 0.1 + 240 * 0.5) / 480)] * 4
    assert shown(found, Signal.LATENCY_QUANTILE) == [0.5] * 4
