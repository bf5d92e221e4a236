"""Shared budgets: who may have how many, and what that does to a decision."""

from dataclasses import replace

import pytest
from decide_world import change, hold, hpa, instance, policy, queue, scale, snapshot
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.budget import Grant, claim, frozen_grants, grants, within
from controller.decide.decide import decide
from controller.decide.slo import measure
from controller.model.memory import Claim, Memory
from controller.model.snapshot import Known, Unknown
from controller.policy.budget import Budget

NOW = 1000.0


def budget(units, *shares):
    listed = [{"policy": f"ns/{name}", **fields} for name, fields in shares]
    return Budget.model_validate(
        {"apiVersion": "trimtab/v1", "kind": "Budget", "metadata": {"name": "gpus"}, "spec": {"units": units, "policies": listed}}
    )  # fmt: skip


def held(running, maximum=None, *, ceiling=20, deficit=0.0, at=NOW):
    return Claim(running, running if maximum is None else maximum, ceiling, deficit, at, 15.0)


def granted(units, shares, claims):
    found = grants(
        [budget(units, *((name, {"guaranteed": 2, **fields}) for name, fields in shares.items()))],
        {f"ns/{name}": c for name, c in claims.items()},
        NOW,
    )
    return {key.removeprefix("ns/"): grant.replicas for key, grant in found.items()}


TWO = {"a": {}, "b": {}}


@pytest.mark.parametrize(
    ("units", "shares", "claims", "expected"),
    [
        pytest.param(16, TWO, {"a": held(4), "b": held(4)}, {"a": 8, "b": 8}, id="equals share"),
        pytest.param(100, TWO, {"a": held(4), "b": held(4)}, {"a": 20, "b": 20}, id="plenty: each its ceiling"),
        pytest.param(
            16, TWO, {"a": held(4, deficit=0.3), "b": held(4)}, {"a": 12, "b": 4}, id="to who lacks: 0.3 against 0.1"
        ),
        pytest.param(
            16, {"a": {"priority": 3}, "b": {}}, {"a": held(4), "b": held(4)}, {"a": 12, "b": 4}, id="or matters more"
        ),
        pytest.param(
            16, TWO, {"a": held(9), "b": held(4, deficit=1.0)}, {"a": 9, "b": 7}, id="what runs is not taken"
        ),
        pytest.param(
            16, TWO, {"a": held(15), "b": held(1, deficit=1.0)}, {"a": 15, "b": 2}, id="what is guaranteed is given"
        ),
        pytest.param(
            16, TWO, {"a": held(4, ceiling=5), "b": held(4)}, {"a": 5, "b": 11}, id="nobody gets more than its ceiling"
        ),
        pytest.param(
            16, {"a": {"cost": 4}, "b": {}}, {"a": held(2), "b": held(2)}, {"a": 2, "b": 8}, id="units, not replicas"
        ),
        pytest.param(7, TWO, {"a": held(3), "b": held(3)}, {"a": 4, "b": 3}, id="the last one goes to somebody"),
        pytest.param(
            16, TWO, {"a": held(2, 14), "b": held(2, deficit=1.0)}, {"a": 2, "b": 2},
            id="a ceiling still held by another is not free yet",
        ),
        pytest.param(
            16, TWO, {"a": held(2, 6), "b": held(2, deficit=1.0)}, {"a": 2, "b": 10}, id="what it has given up is"
        ),
        pytest.param(16, TWO, {"a": held(4), "b": None}, {"a": 4, "b": None}, id="one is not known: nothing is free"),
        pytest.param(16, TWO, {"a": held(1), "b": None}, {"a": 2, "b": None}, id="but for what is guaranteed"),
        pytest.param(16, TWO, {}, {"a": None, "b": None}, id="nobody is known: everybody keeps what it has"),
        pytest.param(
            16, TWO, {"a": held(4, deficit=1.0), "b": held(6, 9, at=900.0)}, {"a": 7, "b": 9},
            id="one is not fresh: it keeps what it has",
        ),
    ],
)  # fmt: skip
def test_who_gets_what(units, shares, claims, expected):
    assert granted(units, shares, claims) == expected


def test_the_reason_is_the_price():
    found = grants(
        [budget(16, ("a", {"priority": 2, "guaranteed": 2}), ("b", {"guaranteed": 2}))],
        {"ns/a": held(7, deficit=0.4), "ns/b": held(5, at=0.0)},
        NOW,
    )
    assert found["ns/a"].words == "budget gpus: 12 of 16 in use, granted 11 (deficit 0.4 x priority 2)"
    assert found["ns/b"].words == "budget gpus: 12 of 16 in use, keeps 5 while its data are not fresh"
    assert grants([budget(16, ("a", {}))], {}, NOW)["ns/a"].words.endswith("keeps what it has until that is known")


SCALING = {"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 8}, "max": {"floor": 10, "ceiling": 20}}
RULES = policy(scaling=SCALING)


@pytest.mark.parametrize(
    ("grant", "stands", "expected"),
    [
        pytest.param(None, 12, (2, 8, 10, 20), id="in no budget"),
        pytest.param(Grant(30, 2, ""), 12, (2, 8, 10, 20), id="more than it may use"),
        pytest.param(Grant(14, 2, ""), 12, (2, 8, 10, 14), id="the ceiling"),
        pytest.param(Grant(6, 2, ""), 12, (2, 6, 6, 6), id="below max.floor: the budget counts"),
        pytest.param(Grant(1, 1, ""), 12, (2, 2, 2, 2), id="never below min.floor"),
        pytest.param(Grant(None, 2, ""), 12, (2, 8, 10, 12), id="not known: no more than stands"),
        pytest.param(Grant(None, 3, ""), None, (2, 3, 3, 3), id="not known, to be created: what is guaranteed"),
    ],
)
def test_ranges_inside_a_grant(grant, stands, expected):
    found = within(RULES.spec.scaling, grant, stands)
    assert (found.min.floor, found.min.ceiling, found.max.floor, found.max.ceiling) == expected


FLEET = [instance(n, latency=0.9, cpu=0.9) for n in "abcdef"]


def claimed(service=None, before=None, **fields):
    service = service or snapshot(FLEET, hpa=hpa(2, 12), scale=scale(6))
    return claim(RULES, service, measure(RULES.spec.slo, service), before, **{"asks": False, "futile": False, **fields})


@pytest.mark.parametrize(
    ("service", "fields", "expected"),
    [
        pytest.param(None, {}, Claim(6, 12, 20, 0.8, NOW, 15.0), id="80 % over the SLO"),
        pytest.param(None, {"futile": True}, Claim(6, 12, 20, 0.0, NOW, 15.0), id="replicas would not help"),
        pytest.param(
            snapshot([instance("a")], hpa=hpa(2, 12), scale=scale(6), queue=queue(9, 1)), {"asks": True},
            Claim(6, 12, 20, 1.0, NOW, 15.0), id="a backlog",
        ),
        pytest.param(
            snapshot(FLEET, hpa=Known(None), scale=scale(6)), {}, Claim(6, 6, 20, 0.8, NOW, 15.0), id="no HPA yet"
        ),
        pytest.param(snapshot(FLEET, hpa=Unknown("down"), scale=scale(6)), {"before": held(3)}, held(3), id="no HPA known"),
        pytest.param(snapshot(FLEET, hpa=hpa(), scale=Unknown("down")), {"before": held(3)}, held(3), id="no scale known"),
        pytest.param(
            snapshot(FLEET, hpa=hpa(2, 12), scale=scale(6), metrics_problem="down"), {"before": held(3, deficit=0.2, at=900.0)},
            Claim(6, 12, 20, 0.2, 900.0, 15.0), id="in doubt: replicas count, the deficit grows old",
        ),
    ],
)  # fmt: skip
def test_what_a_policy_claims(service, fields, expected):
    found = claimed(service, **fields)
    assert replace(found, deficit=round(found.deficit, 6)) == expected


PRESSED = Memory(at=985.0, pressure_since=985.0, hpa_seen_at=0.0)
GRANT = Grant(12, 2, "budget gpus: 12 of 16 in use, granted 12 (deficit 0.8 x priority 1)")


def test_a_budget_holds_a_raise_and_names_its_price():
    service = snapshot(FLEET, hpa=hpa(8, 12, limited_by_max=True), scale=scale(6))
    plan, memory = decide(RULES, service, PRESSED, GRANT)
    assert plan.hpa is None
    assert hold(plan, "maxReplicas").reason.endswith(GRANT.words)
    assert memory.claim == Claim(6, 12, 20, pytest.approx(0.8), NOW, 15.0)
    plan, _ = decide(RULES, service, PRESSED)
    assert change(plan, "maxReplicas").after == 15


def test_a_budget_takes_room_in_steps_and_never_a_running_pod():
    calm = Memory(at=985.0, calm_since=0.0, hpa_seen_at=0.0)
    grant = Grant(5, 2, "budget gpus: 20 of 16 in use, granted 5 (deficit 0 x priority 1)")
    usual = [instance(n) for n in "abcdefg"]
    for maximum, expected in ((12, 9), (8, 7), (7, 7)):
        plan, _ = decide(RULES, snapshot(usual, hpa=hpa(2, maximum), scale=scale(7)), calm, grant)
        assert (maximum if plan.hpa is None else plan.hpa.after.max_replicas) == expected
        if plan.hpa is not None:
            assert change(plan, "maxReplicas").reason.startswith(f"above the ceiling 5; {grant.words}")


def test_when_nothing_can_be_reckoned_everybody_keeps_what_it_has():
    assert frozen_grants([budget(9, ("a", {"guaranteed": 3}), ("b", {}))]) == {
        "ns/a": Grant(None, 3, "budget gpus: keeps what it has"),
        "ns/b": Grant(None, 1, "budget gpus: keeps what it has"),
    }


claims = st.none() | st.builds(
    Claim, st.integers(0, 30), st.integers(1, 40), st.integers(1, 40), st.floats(0.0, 4.0),
    st.sampled_from([NOW, NOW - 900.0]), st.just(15.0),
)  # fmt: skip
seats = st.lists(st.tuples(claims, st.integers(1, 8), st.floats(0.01, 50.0), st.integers(1, 3)), min_size=1, max_size=6)


@given(seats, st.integers(0, 200))
def test_a_budget_is_kept_and_takes_nothing_that_runs_or_is_guaranteed(rows, extra):
    shares = [(f"p{n}", {"cost": c, "priority": p, "guaranteed": g}) for n, (_, c, p, g) in enumerate(rows)]
    promised = sum(c * g for _, c, _, g in rows)
    found = grants([budget(promised + extra, *shares)], {f"ns/p{n}": row[0] for n, row in enumerate(rows)}, NOW)
    after = 0
    for n, (was, cost, _, guaranteed) in enumerate(rows):
        grant = found[f"ns/p{n}"]
        assert grant.least == guaranteed
        if was is None:
            assert grant.replicas is None
            continue
        assert grant.replicas >= guaranteed
        assert grant.replicas >= was.running
        after += cost * max(was.running, was.maximum, grant.replicas)
    if all(row[0] is not None for row in rows):
        before = sum(c * max(was.running, was.maximum) for was, c, _, _ in rows)
        floors = sum(c * max(was.running, was.maximum, g) for was, c, _, g in rows)
        assert after <= max(promised + extra, floors), "raises fit into what is free; guarantees go first"
        assert after >= before
    else:
        for n, (was, _, _, guaranteed) in enumerate(rows):
            if was is not None:
                assert found[f"ns/p{n}"].replicas <= max(was.running, was.maximum, guaranteed)


@given(seats, st.integers(0, 200))
def test_more_deficit_never_grants_less_where_nothing_stands_in_the_way(rows, extra):
    rows = [(held(1, 1, ceiling=40, deficit=0.5), c, p, 1) for _, c, p, _ in rows]
    shares = [(f"p{n}", {"cost": 1, "priority": p, "guaranteed": 1}) for n, (_, _, p, _) in enumerate(rows)]
    one = budget(len(rows) + extra, *shares)
    known = {f"ns/p{n}": row[0] for n, row in enumerate(rows)}
    before = grants([one], known, NOW)["ns/p0"].replicas
    after = grants([one], {**known, "ns/p0": held(1, 1, ceiling=40, deficit=2.0)}, NOW)["ns/p0"].replicas
    assert after >= before - 1, "a unit may be lost to rounding"


def test_over_many_ticks_two_hungry_services_converge_and_stay_inside():
    """a has the room and calms down; b is hungry. Ceilings move by steps, and never pass the budget together."""
    one = budget(16, ("a", {"guaranteed": 2}), ("b", {"guaranteed": 2}))
    have = {"ns/a": held(4, 12), "ns/b": held(4, 4, deficit=1.0)}
    for _ in range(40):
        found = grants([one], have, NOW)
        for key, was in have.items():
            wanted = found[key].replicas
            step = max(-2, min(2, wanted - was.maximum))
            have[key] = replace(was, maximum=max(was.running, was.maximum + step))
        assert sum(max(c.running, c.maximum) for c in have.values()) <= 16
    assert have["ns/b"].maximum == 12
    assert have["ns/a"].maximum == 4
