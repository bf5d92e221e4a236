"""The drill holds on sound rules, and tells on sabotaged ones."""

from dataclasses import replace
from pathlib import Path

import pytest

from controller.cli import main
from controller.decide import decide as decide_module
from controller.decide import rails, slo
from controller.policy.budget import Budget
from controller.policy.schema import LoadPolicy
from controller.replay.drill import control, drill, faults

ROOT = Path(__file__).parents[3]


def policy(**spec):
    raw = {
        "apiVersion": "trimtab/v1",
        "kind": "LoadPolicy",
        "metadata": {"name": "m", "namespace": "models"},
        "spec": {
            "instances": {"selector": {"app": "m"}},
            "signals": {"preset": "fastapi"},
            "routing": {},
            "concurrency": {},
            "scaling": {
                "hpa": "h",
                "target": {"name": "m"},
                "min": {"floor": 2, "ceiling": 6},
                "max": {"floor": 10, "ceiling": 20},
            },
            **spec,
        },
    }
    raw["spec"] = {name: section for name, section in raw["spec"].items() if section is not None}
    return LoadPolicy.model_validate(raw)


WHOLE = policy()


def fell(rules=WHOLE, budgets=()):
    return {verdict.fault: verdict.fell for verdict in drill(rules, budgets) if verdict.fell}


def budget(units=12, cost=1):
    """Shared by the policy and one neighbour, of whose replicas two are guaranteed."""
    shares = [{"policy": WHOLE.key, "guaranteed": 2, "cost": cost}, {"policy": "models/other", "guaranteed": 2}]
    spec = {"units": units, "policies": shares}
    raw = {"apiVersion": "trimtab/v1", "kind": "Budget", "metadata": {"name": "gpus"}, "spec": spec}
    return Budget.model_validate(raw)


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(WHOLE, id="whole"),
        pytest.param(policy(concurrency={"adaptive": True}), id="adaptive"),
        pytest.param(policy(signals={"preset": "vllm"}, routing={"maxChange": "100%"}), id="vllm"),
        pytest.param(policy(scaling=None), id="no scaling"),
    ],
)
def test_nothing_falls_for_want_of_data(rules):
    assert fell(rules) == {}


def test_the_control_run_shows_that_there_was_something_to_hold():
    assert {words.partition(" ")[0] for words in control(WHOLE)} == {"minReplicas", "maxReplicas"}


def test_what_a_hungry_neighbour_takes_from_a_budget_falls_when_well_and_holds_in_every_fault():
    assert control(WHOLE, [budget()]) == ("minReplicas 6 -> 2", "maxReplicas 10 -> 6"), "below max.floor, by the budget"
    assert fell(budgets=[budget()]) == {}
    assert {v.maximum for v in drill(WHOLE, [budget()]) if v.fault == "Prometheus down"} == {(10, 10)}


@pytest.mark.parametrize(
    ("budgets", "begins"),
    [
        pytest.param([], 20, id="no budget: the policy's ceiling"),
        pytest.param([budget(12)], 10, id="all but what is guaranteed to others"),
        pytest.param([budget(22, cost=2)], 10, id="in units"),
        pytest.param([budget(4)], 4, id="never less than what runs"),
        pytest.param([budget(500)], 20, id="plenty"),
    ],
)
def test_bounds_begin_where_the_budget_could_have_let_them_come(budgets, begins):
    assert {v.maximum[0] for v in drill(WHOLE, budgets)} == {begins}


def test_rails_that_let_a_budget_lower_on_doubt_are_told_on(monkeypatch):
    honest = rails.bounds
    monkeypatch.setattr(decide_module.rails, "bounds", lambda rules, proposed, _doubts: honest(rules, proposed, ()))
    found = fell(budgets=[budget()])
    assert any("maxReplicas 10 -> " in words for words in found["Prometheus down"])


def test_every_signal_of_the_policy_goes_missing_once_in_one_instance_and_once_in_all():
    names = [fault.name for fault in faults(policy(signals={"cpu": {"query": "x"}, "rate": {"query": "y"}}))]
    assert [n for n in names if n.startswith("no ")] == [
        "no cpu from one instance", "no rate from one instance", "no cpu at all", "no rate at all",
    ]  # fmt: skip


def test_rails_that_ignore_doubt_are_told_on(monkeypatch):
    honest = rails.bounds
    monkeypatch.setattr(decide_module.rails, "bounds", lambda rules, proposed, _doubts: honest(rules, proposed, ()))
    monkeypatch.setattr(slo, "_doubts", lambda *_: ())
    monkeypatch.setattr(slo, "_gaps", lambda *_: ())
    found = fell()
    assert any("minReplicas" in words for words in found["Prometheus down"])
    assert "no errors from one instance" in found


def test_silence_taken_for_a_lost_instance_is_told_on(monkeypatch):
    honest = decide_module.count_ready

    def sabotaged(service):
        heard = [i for i in service.instances if any(type(s).__name__ == "Fresh" for s in i.signals.values())]
        return honest(replace(service, instances=tuple(heard)))

    monkeypatch.setattr(decide_module, "count_ready", sabotaged)
    assert any("limit" in words for words in fell()["one instance silent"])


def test_the_command_drills_the_users_own_policies(capsys, monkeypatch):
    assert main(["drill", "--policies", str(ROOT / "policies")]) == 0
    out = capsys.readouterr().out
    assert "models/model-service" in out
    assert out.rstrip().endswith("0 lowered something")
    monkeypatch.setattr(slo, "_doubts", lambda *_: ())
    assert main(["drill", "--policies", str(ROOT / "policies"), "-o", "json"]) == 1
