"""The floor from schedules, alone and all the way through decide()."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from decide_world import change, hpa, instance, policy, scale, snapshot

from controller.decide.decide import decide
from controller.decide.floors.schedule import floor
from controller.decide.warmup import WarmUp, warm_up
from controller.model.memory import Memory, WarmUps

BERLIN = {"name": "office", "days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "20:00",
          "timezone": "Europe/Berlin", "min": 8}  # fmt: skip
NIGHT = {"name": "night", "from": "22:00", "to": "06:00", "timezone": "UTC", "min": 4}
PARTY = {"name": "party", "dates": ["2026-05-05"], "from": "07:00", "to": "09:00", "timezone": "UTC", "min": 10}


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def ruled(*schedules, **fields):
    return policy(
        scaling={
            "hpa": "h",
            "target": {"name": "m"},
            "min": {"floor": 2, "ceiling": 12},
            "max": {"floor": 12, "ceiling": 40},
            "schedules": list(schedules),
            **fields,
        }
    )


def at_least(schedules, at, **fields):
    scaling = ruled(*schedules, **fields).spec.scaling
    found = floor(scaling, utc(at), 15.0, warm_up(scaling.warmUp, WarmUps()))
    return None if found is None else (found.replicas, found.reason.split(",")[0])


@pytest.mark.parametrize(
    ("schedules", "at", "expected"),
    [
        # Tuesday, 2026-05-05; Berlin is two hours ahead.
        pytest.param([BERLIN], "2026-05-05T12:00", (8, "schedule office"), id="open"),
        pytest.param([BERLIN], "2026-05-05T18:00", None, id="closed on the minute"),
        pytest.param([BERLIN], "2026-05-05T17:59:59", (8, "schedule office"), id="open to the last second"),
        pytest.param([BERLIN], "2026-05-09T12:00", None, id="Saturday"),
        pytest.param([BERLIN], "2026-05-05T05:00", None, id="an hour before"),
        pytest.param([BERLIN], "2026-05-05T05:57", (8, "schedule office"), id="the warm-up before: whole"),
        pytest.param([BERLIN], "2026-05-05T05:56:30", (6, "schedule office"), id="one step before"),
        pytest.param([BERLIN], "2026-05-05T05:56", (4, "schedule office"), id="two steps before"),
        pytest.param([BERLIN], "2026-05-05T05:55:30", (2, "schedule office"), id="three steps before"),
        pytest.param([BERLIN], "2026-05-05T05:55", None, id="not yet"),
        pytest.param([NIGHT], "2026-05-05T03:00", (4, "schedule night"), id="overnight, after midnight"),
        pytest.param([NIGHT], "2026-05-05T23:00", (4, "schedule night"), id="overnight, before midnight"),
        pytest.param([NIGHT], "2026-05-05T12:00", None, id="overnight, by day"),
        pytest.param([BERLIN, PARTY], "2026-05-05T08:00", (10, "schedule party"), id="overlap: the larger"),
        pytest.param([PARTY, BERLIN], "2026-05-05T08:00", (10, "schedule party"), id="overlap: in any order"),
        pytest.param([BERLIN, PARTY], "2026-05-05T09:30", (8, "schedule office"), id="overlap: the other one goes on"),
        pytest.param([BERLIN, PARTY], "2026-05-06T08:00", (8, "schedule office"), id="a date is one day"),
        # Clocks go forward on Sunday 2026-03-29, so Monday opens an hour earlier in UTC than Friday did.
        pytest.param([BERLIN], "2026-03-27T06:30", None, id="Friday before DST, 07:30 there"),
        pytest.param([BERLIN], "2026-03-30T06:30", (8, "schedule office"), id="Monday in DST, 08:30 there"),
        pytest.param([], "2026-05-05T12:00", None, id="no schedules"),
    ],
)
def test_the_floor_at_an_instant(schedules, at, expected):
    assert at_least(schedules, at) == expected


def test_a_long_warm_up_begins_earlier():
    assert at_least([BERLIN], "2026-05-05T05:40", warmUp="20m") == (8, "schedule office")
    assert at_least([BERLIN], "2026-05-05T05:40") is None


def test_the_reason_tells_the_schedule_and_the_time_left():
    opening = floor(ruled(BERLIN).spec.scaling, utc("2026-05-05T05:58"), 15.0, WarmUp(142.0, pods=7))
    assert (
        opening.reason
        == "schedule office, 08:00 to 20:00 Europe/Berlin: at least 8, opens in 120 s, warm-up 142 s (learned from 7 pods)"
    )


def day(rules, since, until, *, load=0.2):
    """(minutes, minReplicas) at each change, with an HPA that does what it is told and a fleet that shares the load."""
    memory, low, high, at, moves = Memory(), 2, 12, utc(since), []
    start = at
    while at < utc(until):
        seen = [instance(f"i{n}", rate=1.0, cpu=load / low) for n in range(low)]
        service = snapshot(seen, at=at, hpa=hpa(low, high), scale=scale(low))
        plan, memory = decide(rules, service, memory)
        if plan.hpa is not None:
            low, high = plan.hpa.after.min_replicas, plan.hpa.after.max_replicas
            moves.append(((at - start) / 60.0, low, change(plan, "minReplicas").reason))
        at += 15.0
    return moves


def test_a_window_is_reached_in_steps_before_it_opens_and_left_in_steps_after_it_closes():
    moves = day(ruled(BERLIN), "2026-05-05T05:30", "2026-05-05T19:00")
    up = [(at, low) for at, low, _ in moves if at < 100]
    down = [(at, low) for at, low, _ in moves if at > 100]
    assert [low for _, low in up] == [4, 6, 8]
    assert up[-1][0] <= 27.0, "all started three minutes before 06:00 UTC"
    assert [low for _, low in down] == [6, 4, 2]
    assert down[0][0] >= 12.5 * 60, "not before 18:00 UTC"
    assert all(later - sooner >= 5.0 for (sooner, _), (later, _) in pairwise(down))
    assert all(reason.startswith("schedule office") for at, _, reason in moves if at < 100)


def test_a_controller_that_starts_inside_a_window_catches_up_in_steps():
    moves = day(ruled(BERLIN), "2026-05-05T10:00", "2026-05-05T10:10")
    assert [low for _, low, _ in moves] == [4, 6, 8]


def test_after_a_window_min_goes_no_lower_than_the_load_allows():
    moves = day(ruled(BERLIN), "2026-05-05T17:30", "2026-05-05T19:00", load=5.0)
    assert [low for _, low, _ in moves] == [4, 6, 8, 7], "five full replicas' load fits on seven at 80 %"


@pytest.mark.parametrize("steps", [{}, {"replicas": 2}, {"percent": 5}, {"replicas": 7, "percent": 50}])
def test_a_large_window_is_reached_in_time_by_the_steps_that_the_policy_allows(steps):
    top, every = 90, 30.0
    rules = policy(
        scaling={"hpa": "h", "target": {"name": "m"}, "min": {"floor": 1, "ceiling": top}, "max": {"floor": top, "ceiling": top},
                 "schedules": [{"name": "day", "from": "08:00", "to": "20:00", "timezone": "UTC", "min": top}],
                 "steps": {**steps, "every": "30s"}, "warmUp": "3m"}
    ).spec.scaling  # fmt: skip
    opens, bound, begun = utc("2026-05-05T08:00"), 1, None
    for tick in range(int(3 * 3600 / every), -1, -1):
        at = opens - every * tick
        found = floor(rules, at, every, WarmUp(180.0, fixed=True))
        if found is not None and found.replicas > bound:
            begun = begun or at
            bound = min(found.replicas, bound + rules.steps.of(bound))
        if at >= opens - 180.0:
            assert bound == top
    assert opens - begun < 180.0 + every * (3 + top / rules.steps.replicas), (
        "and no earlier than the smallest steps need"
    )
