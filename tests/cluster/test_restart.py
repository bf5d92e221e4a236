"""kill -9, and the next one holds to what the last one had learned: the HPA itself carries it."""

import json
import time

import pytest
from acceptance_world import done
from support.eventually import eventually
from support.objects import hpa, managers

from controller.model.outcome import Result
from trimtab.contract import Keys

LEARNED = "trimtab/learned"
DAY = 86400
QUICK = {"replicas": 2, "every": "1s", "lowerEvery": "1s", "turnsPerHour": 1}
SPENT = "1 changes of direction within an hour, 1 allowed"


def annotation(world):
    return world.hpa()["metadata"]["annotations"].get(LEARNED)


def ticks(world):
    """How many rankings have been published."""
    return json.loads(world.redis.get(Keys(world.key()).ranking))["seq"]


def test_a_spent_budget_of_turns_is_still_spent_after_kill_9(world, start):
    world.policy(least=(2, 6), most=(10, 12), steps=QUICK)
    world.deploy()
    first = start()
    eventually(lambda: world.hpa() and world.bounds() == (2, 10))
    world.backlog(9)
    eventually(lambda: world.bounds()[0] == 6, timeout_seconds=30)
    world.backlog(0)
    eventually(lambda: world.bounds()[0] == 4, timeout_seconds=30)
    first.process.kill()
    assert len(json.loads(annotation(world))["min"]["turns"]) == 1
    second = start()
    eventually(lambda: SPENT in second.text(), timeout_seconds=30)
    said_at = ticks(world)
    eventually(lambda: ticks(world) >= said_at + 3)
    assert world.bounds()[0] == 4
    world.backlog(9)
    eventually(lambda: world.bounds()[0] == 6, timeout_seconds=30)
    world.backlog(0)
    second.process.kill()
    # Without what the HPA carries, nobody would know.
    world.kubectl("annotate", "hpa", "web", f"{LEARNED}-")
    start()
    eventually(lambda: world.bounds()[0] <= 4, timeout_seconds=30)


def learned(**cpu):
    """What an earlier run left: two good hours near 70 %, and more."""
    now = int(time.time())
    known = {"since": now - 3 * DAY, "stands": 70, "moved": now - DAY, "held": 7200, **cpu}
    return json.dumps({"v": 1, "at": now, "slo": 0.5, "cpu": known})


def target(world):
    metrics = world.hpa()["spec"]["metrics"]
    return next(m["resource"]["target"]["averageUtilization"] for m in metrics if m["resource"]["name"] == "cpu")


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        pytest.param({}, 71, id="nothing in the way"),
        pytest.param({"bar": 71, "until": int(time.time()) + DAY, "cool": DAY}, 70, id="just rolled back from there"),
    ],
)
def test_a_target_that_an_earlier_run_rolled_back_is_not_tried_again(world, bar, expected):
    world.policy(least=(2, 6), most=(10, 12), cpu={"target": 70, "between": [50, 85]})
    world.deploy()
    body = hpa(least=2, most=10, cpu=70)
    body["metadata"]["annotations"] = {LEARNED: learned(**bar)}
    world.kubectl("apply", body=body)
    with world.daemon() as daemon:
        daemon.tick_until(done("hpa"))
        for _ in range(5):
            daemon.tick()
        assert target(world) == expected
        # A write for another reason carries it on, as ours alone.
        world.backlog(9)
        daemon.tick_until(lambda _: world.bounds()[0] == 6, timeout_seconds=30)
    kept = json.loads(annotation(world))
    assert kept["cpu"].get("bar") == bar.get("bar")
    assert kept["min"]["way"] == 1
    assert ("trimtab", "Apply") in managers(world.hpa())


def test_what_somebody_scribbles_there_is_said_once_and_stops_nothing(steered):
    world = steered
    with world.daemon() as daemon:
        daemon.tick_until(done("hpa"))
    world.kubectl("annotate", "hpa", "web", f"{LEARNED}=rubbish", "--overwrite")
    with world.daemon() as daemon:
        for _ in range(3):
            daemon.tick()
        assert annotation(world) == "rubbish", "no write of its own"
        world.backlog(9)
        report = daemon.tick_until(done("hpa"))
        assert not [o for o in report.outcomes if o.result is Result.REFUSED]
        told = [e for e in daemon.logs if "is not as Trimtab writes it" in json.dumps(e, default=str)]
    assert world.bounds()[0] == 4
    assert json.loads(annotation(world))["v"] == 1
    assert [entry["event"] for entry in told] == ["decision"]
    assert len([note for _, note in world.events() if LEARNED in note]) == 1
