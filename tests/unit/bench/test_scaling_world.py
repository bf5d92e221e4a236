"""The backtest's world, and who is told what in it."""

import pytest

from bench.scaling.scalers import LEAST, oracle, plain
from bench.scaling.told import future, moment
from bench.scaling.traces import Trace
from bench.scaling.world import CAPACITY, KNEE, MOST, STEP_SECONDS, WARM_SECONDS, Fleet, arrivals, response_time, run

HOUR_STEPS = int(3600 / STEP_SECONDS)


def level(rate, hours=2):
    """So many requests/s without any chance."""
    return [(rate, 1.0)] * int(hours * HOUR_STEPS)


def line(rate, after, seconds=7200.0):
    return Trace("line", [0.0, seconds], [rate, after], 1.0)


def always(count):
    return lambda _: (count, count)


def test_a_replica_costs_from_when_it_is_asked_for_and_serves_after_its_warm_up():
    fleet = Fleet([-WARM_SECONDS])
    fleet.resize(3, 0.0)
    assert [fleet.ready(at) for at in (0.0, WARM_SECONDS - 1.0, WARM_SECONDS)] == [1, 1, 3]


def test_the_youngest_goes_first():
    fleet = Fleet([-300.0, -200.0])
    fleet.resize(3, 0.0)
    fleet.resize(2, 30.0)
    assert fleet.started == [-300.0, -200.0]


def test_pods_are_as_ready_as_the_replicas():
    fleet = Fleet([-WARM_SECONDS])
    fleet.resize(2, 0.0)
    assert [p.ready for p in fleet.pods(15.0)] == [True, False]
    assert [p.ready for p in fleet.pods(WARM_SECONDS)] == [True, True]


@pytest.mark.parametrize(
    ("full", "share"),
    [pytest.param(KNEE - 0.01, 0.0, id="below the knee"), pytest.param(KNEE + 0.01, 1.0, id="above it")],
)
def test_all_requests_of_a_step_keep_the_slo_or_none(full, share):
    done = run(level(CAPACITY * 20 * full), 85, always(20))
    # The fleet begins at 60 %, and what is over 20 goes at once.
    assert done.share == pytest.approx(share, abs=0.05)


def test_the_response_time_reaches_the_slo_at_the_knee():
    times = [response_time(full / 100) for full in range(0, 130, 5)]
    assert times == sorted(times)
    assert response_time(KNEE - 0.001) < 0.5 < response_time(KNEE + 0.001)


def test_a_plain_hpa_comes_to_its_target():
    done = run(level(CAPACITY * 60, hours=4), 60, plain())
    assert done.hours == pytest.approx(400, rel=0.1)
    assert done.share == 0.0


def test_turns_are_changes_of_direction():
    counts = [10] * 40 + [20] * 40 + [10] * 40 + [20] * 360
    done = run(level(20.0), 85, lambda step: (counts[int(step.at / STEP_SECONDS) - 1],) * 2)
    assert done.turns == 2  # 7 at the start, up, up, down, up


def test_the_same_seed_brings_the_same_to_every_scaler_and_another_one_does_not():
    trace = line(100.0, 100.0)
    assert arrivals(trace, 1) == arrivals(trace, 1) != arrivals(trace, 2)


def test_arrivals_stray_as_independent_ones_and_work_by_its_noise():
    steps = arrivals(line(100.0, 100.0, 864000.0), 1)
    rates, works = [r for r, _ in steps], [w for _, w in steps]
    mean = sum(rates) / len(rates)
    assert mean == pytest.approx(100.0, rel=0.01)
    assert sum((r - mean) ** 2 for r in rates) / len(rates) == pytest.approx(100.0 / STEP_SECONDS, rel=0.05)
    assert sum((w - 1.0) ** 2 for w in works) / len(works) == pytest.approx(0.03**2, rel=0.05)


def test_the_oracle_misses_nothing_once_it_could_act_and_nobody_needs_less():
    steps = arrivals(line(100.0, 300.0), 3)
    known = run(steps, 85, oracle(steps))
    assert known.share == 0.0
    for other in (future(line(100.0, 300.0), 4.0), moment(line(100.0, 300.0), 4.0)):
        done = run(steps, 85, other)
        assert done.share == 0.0
        assert done.hours > known.hours


def test_who_is_told_the_future_is_there_before_a_jump_and_who_is_told_the_moment_is_not():
    at = [0.0, 3600.0, 3615.0, 7200.0]
    jump = Trace("jump", at, [100.0, 100.0, 200.0, 200.0], 1.0)
    steps = arrivals(jump, 1)
    assert run(steps, 85, future(jump, 4.0)).share == 0.0
    assert run(steps, 85, moment(jump, 4.0)).share > 0.01


def test_bounds_stay_within_what_all_may_have():
    quiet = Trace("quiet", [0.0, 3600.0], [0.0, 0.0], 1.0)
    steps = arrivals(quiet, 1)
    for scaler in (oracle(steps), future(quiet, 3.0), moment(quiet, 3.0)):
        seen = []
        run(steps, 85, lambda step, ask=scaler, seen=seen: seen.append(ask(step)) or seen[-1])
        assert seen[-1][0] == LEAST
        assert all(LEAST <= low <= high <= MOST for low, high in seen)
