"""The alerts of manifests/components/monitoring: promtool finds them sound, and each fires when it should and not before."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from controller.report.metrics import Metrics

ROOT = Path(__file__).parents[3]
COMPONENT = ROOT / "manifests/components/monitoring"
GROUPS = yaml.safe_load((COMPONENT / "prometheusrule.yaml").read_text())["spec"]
RULES = {rule["alert"]: rule for rule in GROUPS["groups"][0]["rules"]}
POD = 'namespace="ops",pod="t-0"'
POLICY = f'{POD},policy="models/m"'

# By alert: the series that make it fire, those that keep it silent, when it fires, and its labels beside severity.
CASES = {
    "TrimtabAbsent": ({}, {"trimtab_build_info{" + POD + "}": "1x60"}, "6m", {}),
    "TrimtabNoLeader": ({"trimtab_leader{" + POD + "}": "0x60"}, {"trimtab_leader{" + POD + "}": "1x60"}, "3m", {"namespace": "ops"}),
    "TrimtabTwoLeaders": (
        {"trimtab_leader{" + POD + "}": "1x60", 'trimtab_leader{namespace="ops",pod="t-1"}': "1x60"},
        {"trimtab_leader{" + POD + "}": "1x60", 'trimtab_leader{namespace="ops",pod="t-1"}': "0x60"}, "3m", {"namespace": "ops"},
    ),
    "TrimtabTickStale": (
        {"trimtab_last_tick_timestamp_seconds{" + POD + "}": "0x60"},
        {"trimtab_last_tick_timestamp_seconds{" + POD + "}": "0+60x60"}, "5m", {"namespace": "ops", "pod": "t-0"},
    ),
    "TrimtabTicksMissed": (
        {"trimtab_ticks_missed_total{" + POD + "}": "0+1x60"}, {"trimtab_ticks_missed_total{" + POD + "}": "0x30 1x30"},
        "20m", {"namespace": "ops", "pod": "t-0"},
    ),
    "TrimtabPolicyRejected": (
        {"trimtab_policy_load_success{" + POD + "}": "0x60"}, {"trimtab_policy_load_success{" + POD + "}": "1x60"},
        "6m", {"namespace": "ops", "pod": "t-0"},
    ),
    "TrimtabDependencyDown": (
        {"trimtab_dependency_up{" + POD + ',system="Redis"}': "0x60"}, {"trimtab_dependency_up{" + POD + ',system="Redis"}': "0x3 1x60"},
        "6m", {"namespace": "ops", "pod": "t-0", "system": "Redis"},
    ),
    "TrimtabActionsFailing": (
        {"trimtab_actions_total{" + POD + ',actuator="hpa",result="failed"}': "0+1x60"},
        {"trimtab_actions_total{" + POD + ',actuator="hpa",result="refused"}': "0+1x60"},
        "20m", {"namespace": "ops", "pod": "t-0", "actuator": "hpa", "result": "failed"},
    ),
    "TrimtabHeld": (
        {"trimtab_held{" + POLICY + ',actuator="limit"}': "1x60"}, {"trimtab_held{" + POLICY + ',actuator="limit"}': "1x20 0 1x20"},
        "31m", {"namespace": "ops", "pod": "t-0", "policy": "models/m", "actuator": "limit"},
    ),
    "TrimtabRankingExpired": (
        {"trimtab_ranking_expires_timestamp_seconds{" + POLICY + "}": "60x60"},
        {"trimtab_ranking_expires_timestamp_seconds{" + POLICY + "}": "60+60x60"}, "5m", {"namespace": "ops", "policy": "models/m"},
    ),
    "TrimtabRoutingUnstable": (
        {"trimtab_routing_stability{" + POLICY + ',of="margin"}': "1.2x60"},
        {"trimtab_routing_stability{" + POLICY + ',of="margin"}': "0.5x60", "trimtab_routing_stability{" + POLICY + ',of="swing"}': "0.01x60"},
        "11m", {"namespace": "ops", "pod": "t-0", "policy": "models/m", "of": "margin"},
    ),
    "TrimtabHerding": (
        {"trimtab_routing_stability{" + POLICY + ',of="herding"}': "5x60"}, {"trimtab_routing_stability{" + POLICY + ',of="herding"}': "1x60"},
        "11m", {"namespace": "ops", "pod": "t-0", "policy": "models/m", "of": "herding"},
    ),
    "TrimtabOverloaded": (
        {"trimtab_panic{" + POLICY + "}": "1x60"}, {"trimtab_panic{" + POLICY + "}": "0x60", "trimtab_overloaded{" + POLICY + "}": "0x60", "trimtab_held{" + POLICY + ',actuator="shedding"}': "0x60"},
        "11m", {"namespace": "ops", "pod": "t-0", "policy": "models/m"},
    ),
    "TrimtabJournalLosesRecords": (
        {"trimtab_journal_records_total{" + POD + ',result="lost"}': "0+1x60"}, {"trimtab_journal_records_total{" + POD + ',result="lost"}': "0x60"},
        "10m", {"namespace": "ops", "pod": "t-0", "result": "lost"},
    ),
}  # fmt: skip


def series(given):
    # promtool repeats a plain value with `_`-less "a+0xN"; `1x60` stands for that here.
    return [
        {"series": name, "values": re.sub(r"(?<![+\d.])(\d+(?:\.\d+)?)x", r"\1+0x", values)}
        for name, values in given.items()
    ]


@pytest.fixture
def promtool(tmp_path):
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (it comes with prometheus)")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(GROUPS))

    def run(*arguments):
        return subprocess.run(
            [program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_promtool_finds_the_rules_sound(promtool):
    done = promtool("check", "rules", "rules.yaml")
    assert done.returncode == 0, done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_every_alert_fires_when_it_should_and_is_silent_when_not(promtool, tmp_path):
    assert set(CASES) == set(RULES)
    tests = []
    for name, (bad, good, at, labels) in CASES.items():
        told = {"exp_labels": {**labels, **RULES[name]["labels"]}}
        for given, expected in ((bad, [told]), (good, [])):
            check = {"eval_time": at, "alertname": name, "exp_alerts": expected}
            tests.append({"interval": "1m", "input_series": series(given), "alert_rule_test": [check]})
    # The words of an alert are for people: labels and timing are what this test is about.
    rules = {
        "groups": [
            {**group, "rules": [{k: v for k, v in rule.items() if k != "annotations"} for rule in group["rules"]]}
            for group in GROUPS["groups"]
        ]
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    (tmp_path / "test.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests})
    )
    done = promtool("test", "rules", "test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_in_an_alert_is_exported():
    exported = {f"{m.name}_total" if m.type == "counter" else m.name for m in Metrics().registry.collect()} | {
        "trimtab_build_info"
    }
    for rule in RULES.values():
        assert set(re.findall(r"trimtab_\w+", rule["expr"])) <= exported


def test_every_alert_is_explained_to_whoever_is_woken_by_it():
    page = (ROOT / "docs/alerts.md").read_text()
    assert [name for name in RULES if f"`{name}`" not in page] == []
