"""`kind: Budget` in the policies' folder: read with them, checked against them."""

from pathlib import Path

import pytest

from controller.errors import PolicyError
from controller.policy.files import PolicyFile, read_folder
from controller.policy.jsonschema import budget_schema_text
from controller.policy.load import parse_folder
from controller.policy.store import PolicyStore

ROOT = Path(__file__).parents[3]

POLICY = """\
apiVersion: trimtab/v1
kind: LoadPolicy
metadata: {{name: {name}, namespace: models}}
spec:
  instances: {{selector: {{service: {name}}}}}
  signals: {{preset: fastapi}}
  scaling: {{hpa: {name}, target: {{name: {name}}}, min: {{floor: 3, ceiling: 6}}}}
"""
FILES = tuple(PolicyFile(f"{name}.yaml", POLICY.format(name=name).encode()) for name in "ab")
PLAIN = PolicyFile("c.yaml", POLICY.format(name="c").rsplit("\n", 2)[0].encode())
BUDGET = """\
apiVersion: trimtab/v1
kind: Budget
metadata: {name: gpus}
spec:
  units: 16
  policies:
    - {policy: models/a, cost: 2, priority: 2, guaranteed: 4}
    - {policy: models/b}
"""


def read(*texts):
    return parse_folder([*FILES, PLAIN, *(PolicyFile(f"budget{n}.yaml", t.encode()) for n, t in enumerate(texts))])


def faults_of(*texts):
    with pytest.raises(PolicyError) as raised:
        read(*texts)
    return [str(fault) for fault in raised.value.faults]


def test_a_budget_is_read_with_its_guarantees_filled_in():
    found = read(BUDGET)
    assert [item.policy.key for item in found.policies] == ["models/a", "models/b", "models/c"]
    assert [(s.policy, s.cost, s.guaranteed) for s in found.budgets[0].spec.policies] == [
        ("models/a", 2, 4),
        ("models/b", 1, 3),
    ]


@pytest.mark.parametrize(
    ("was", "becomes", "fault"),
    [
        pytest.param("models/b}", "models/bb}", "budget0.yaml:8: spec.policies[1].policy: there is no policy models/bb; did you mean models/a?", id="unknown policy"),
        pytest.param("models/b}", "models/a}", "budget0.yaml:4: spec: policy models/a is listed twice", id="twice"),
        pytest.param("models/b}", "b}", "budget0.yaml:8: spec.policies[1].policy: must be a policy as namespace/name, such as models/model-service; not b", id="no namespace"),
        pytest.param("models/b}", "models/c}", "budget0.yaml:8: spec.policies[1].policy: models/c has no scaling section, so there is nothing to share", id="no scaling"),
        pytest.param("guaranteed: 4", "guaranteed: 2", "budget0.yaml:7: spec.policies[0].guaranteed: guaranteed 2 is below the policy's min.floor 3, which always runs", id="below min.floor"),
        pytest.param("guaranteed: 4", "guaranteed: 9", "budget0.yaml:4: spec: the guaranteed replicas cost 18 units, and there are 16", id="more promised than there is"),
        pytest.param("units: 16", "units: 10", "budget0.yaml:5: spec.units: what is guaranteed costs 11 units, with the policies' min.floor, and there are 10", id="with the floors of the others"),
        pytest.param("units: 16", "units: many", "budget0.yaml:5: spec.units: must be a whole number, not the text many", id="no number"),
        pytest.param("units: 16", "unit: 16", "budget0.yaml:5: spec.unit: unknown field; did you mean units?", id="unknown field"),
        pytest.param("cost: 2", "cost: 0", "budget0.yaml:7: spec.policies[0].cost: must be at least 1, not 0", id="free replicas"),
        pytest.param("name: gpus", "name: G", "budget0.yaml:3: metadata.name: must be lower-case letters, digits, `-` and `.`, such as model-service; not G", id="bad name"),
    ],
)  # fmt: skip
def test_faults_stand_in_their_place(was, becomes, fault):
    found = faults_of(BUDGET.replace(was, becomes))
    assert fault.rsplit("; did you mean", 1)[0] in [f.rsplit("; did you mean", 1)[0] for f in found]


def test_a_policy_is_in_one_budget_and_a_name_is_one_budgets():
    other = BUDGET.replace("gpus", "more").replace("models/b", "models/c")
    assert "budget1.yaml:7: spec.policies[0].policy: models/a is in budget gpus already" in faults_of(BUDGET, other)
    assert "budget1.yaml:3: metadata.name: there is another budget gpus in budget0.yaml" in faults_of(BUDGET, BUDGET)


def test_a_policy_with_faults_of_its_own_is_not_called_unknown():
    broken = PolicyFile("d.yaml", POLICY.format(name="d").replace("fastapi", "nonsense").encode())
    text = BUDGET.replace("models/b", "models/d")
    with pytest.raises(PolicyError) as raised:
        parse_folder([*FILES, broken, PolicyFile("budget.yaml", text.encode())])
    assert [fault.file for fault in raised.value.faults] == ["d.yaml"]


def test_a_bad_budget_keeps_the_last_good_set_in_force(tmp_path):
    for file in FILES:
        (tmp_path / file.name).write_bytes(file.data)
    (tmp_path / "budgets.yaml").write_text(BUDGET)
    store = PolicyStore(tmp_path)
    good = store.load()
    assert [b.metadata.name for b in good.budgets] == ["gpus"]
    (tmp_path / "budgets.yaml").write_text(BUDGET.replace("models/b", "models/x"))
    after = store.refresh()
    assert after.faults
    assert after.budgets == good.budgets


def test_the_example_is_a_budget_of_example_policies():
    found = parse_folder(read_folder(ROOT / "policies"))
    assert [b.metadata.name for b in found.budgets] == ["gpus"]


def test_the_schema_in_the_folder_is_the_one_of_the_code():
    assert (ROOT / "policies" / "budget.schema.json").read_text(encoding="utf-8") == budget_schema_text()
