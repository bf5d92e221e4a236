"""kill -9, and the next one holds to what the last one had learned: the HPA itself carries it."""

import json
import time

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
    """What an earlier run left of a CPU target of 70 %."""
    now = int(time.time())
    return json.dumps({"v": 1, "at": now, "slo": 0.5, "cpu": {"since": now - 3 * DAY, "stands": 70, **cpu}})


def target(world):
    metrics = world.hpa()["spec"]["metrics"]
    return next(m["resource"]["target"]["averageUtilization"] for m in metrics if m["resource"]["name"] == "cpu")


def test_a_target_rolled_back_before_kill_9_is_not_tried_again(world, start):
    world.policy(least=(2, 6), most=(10, 12), cpu={"target": 70, "between": [50, 85]})
    world.deploy()
    body = hpa(least=2, most=10, cpu=70)
    # Raised ten minutes ago, and bad since then.
    body["metadata"]["annotations"] = {LEARNED: learned(moved=int(time.time()) - 600, good=69, held=900, broken=400)}
    world.kubectl("apply", body=body)
    first = start()
    eventually(lambda: target(world) == 69, timeout_seconds=30)
    first.process.kill()
    kept = json.loads(annotation(world))
    assert kept["cpu"]["bar"] == 70, "with the very write that rolled it back"
    # As it would be after some good hours: nothing but the bar is in the way.
    kept["cpu"] |= {"moved": int(time.time()) - DAY, "held": 7200}
    world.kubectl("annotate", "hpa", "web", f"{LEARNED}={json.dumps(kept)}", "--overwrite")
    second = start()
    begun_at = ticks(world)
    eventually(lambda: ticks(world) >= begun_at + 5, timeout_seconds=30)
    assert target(world) == 69
    second.process.kill()
    del kept["cpu"]["bar"]
    world.kubectl("annotate", "hpa", "web", f"{LEARNED}={json.dumps(kept)}", "--overwrite")
    start()
    eventually(lambda: target(world) == 70, timeout_seconds=30)
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
