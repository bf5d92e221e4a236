import json

import pytest
import yaml

from controller.demo import script, summary
from controller.demo.tally import Change, Tally
from controller.lab.load import ROUND_ROBIN, TRIMTAB
from controller.policy.schema import LoadPolicy

START = 1_000.0
LIMIT = Change(START + 20, "limit", 32, 25, "p95 0.8 s is over the SLO 0.6 s")
BOUND = Change(START + 22, "minReplicas", 4, 6, "busy")
WEIGHT = Change(START + 22, "weight model-service-6df-abcde", 0.25, 0.4, "capacity 33/s")


def tally(trimtab=0.2, round_robin=0.9, changes=(LIMIT, BOUND, WEIGHT), late=0.001):
    made = Tally(changes=list(changes), load_cpu=0.07, began_at=START)
    for side, seconds in ((TRIMTAB, trimtab), (ROUND_ROBIN, round_robin)):
        for phase in script.PHASES:
            # The warm-up is bad on purpose: it must not count.
            took = 99.0 if phase.name == script.WARM_UP else seconds
            row = {"kind": "request", "side": side, "phase": phase.name, "due": 1.0, "seconds": took, "late": late}
            made.take_row({**row, "status": 200, "endpoint": "http://a", "waited": 0.0})
    return made


@pytest.mark.parametrize(
    ("given", "failing"),
    [
        pytest.param({}, [], id="all is well"),
        pytest.param({"trimtab": 1.0}, ["Trimtab's p99 is below round robin's"], id="worse"),
        pytest.param({"trimtab": 0.9}, ["Trimtab's p99 is below round robin's"], id="equal"),
        pytest.param({"changes": [BOUND]}, ["the limit changed at least once"], id="no limit"),
        pytest.param({"changes": [LIMIT, WEIGHT]}, ["the HPA's bounds changed at least once"], id="no bounds"),
        pytest.param(
            {"changes": [LIMIT, BOUND, Change(START, "limit", 25, 32, "")]},
            ["every change has its reason"],
            id="no reason",
        ),
    ],
)
def test_the_verdict_names_what_was_not_seen(given, failing):
    result = summary.as_json(tally(**given), script.PHASES, "real")
    assert [check["name"] for check in result["checks"] if not check["ok"]] == failing
    assert result["ok"] is (not failing)
    text = "\n".join(summary.lines(tally(**given), script.PHASES, "real"))
    assert [
        line.partition(":")[0].removeprefix("FAIL ") for line in text.splitlines() if line.startswith("FAIL")
    ] == failing


def test_no_requests_at_all_is_no_success():
    assert not summary.as_json(Tally(changes=[LIMIT, BOUND]), script.PHASES, "real")["ok"]


def test_the_summary_is_json_and_judges_all_phases_but_the_warm_up():
    result = json.loads(json.dumps(summary.as_json(tally(), script.PHASES, "emulated")))
    assert result["overall"][TRIMTAB]["p99"] == 0.2
    assert [phase["phase"] for phase in result["phases"] if phase["judged"]] == list(script.JUDGED)
    assert result["decisions"][0] == {
        "at": 20.0,
        "field": "limit",
        "before": 32,
        "after": 25,
        "reason": "p95 0.8 s is over the SLO 0.6 s",
    }


def test_people_see_each_decision_with_time_and_reason_and_a_caution_when_late():
    text = "\n".join(summary.lines(tally(), script.PHASES, "real"))
    assert "  +20s limit 32 -> 25 (p95 0.8 s is over the SLO 0.6 s)" in text
    assert "  +22s weights abcde 0.25 -> 0.4 (capacity 33/s)" in text
    assert "CAUTION" not in text
    assert "CAUTION" in "\n".join(summary.lines(tally(late=0.05), script.PHASES, "real"))


def test_the_policy_is_one():
    policy = LoadPolicy.model_validate(yaml.safe_load(script.policy_text(8123)))
    assert policy.key == script.POLICY
    assert policy.spec.instances.endpoint == "http://{pod_ip}:8123"
    assert policy.spec.scaling.hpa == script.HPA
    # Room for each slot of the first fleet, or the limit would idle servers.
    assert policy.spec.concurrency.min >= script.REPLICAS * script.SLOTS
    assert policy.spec.signals.window >= 4


def test_the_load_asks_for_what_the_story_tells():
    speeds = script.SPEEDS[: script.REPLICAS]
    capacity = sum(make.capacity() for make in script.MAKES[: script.REPLICAS])
    slowed = capacity - script.MAKES[script.SLOWED].capacity() * (1 - 1 / script.SLOWDOWN)
    rates = {phase.name: phase.rate for phase in script.PHASES}
    assert len(set(speeds)) == len(speeds)
    assert rates[script.STEADY] < 0.6 * capacity
    assert rates[script.SLOW] < 0.7 * slowed
    assert rates[script.DOUBLE] == 2 * rates[script.SLOW] > slowed
    # Equal shares suit every server in the steady phase: round robin is not set up to fail there.
    assert rates[script.STEADY] / script.REPLICAS < min(make.capacity() for make in script.MAKES)
