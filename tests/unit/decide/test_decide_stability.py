from dataclasses import replace
from math import fsum, pi, sin

import pytest
from decide_world import NOTHING, hold, instance, policy, row, snapshot, weights
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.decide.stability import next_gain, stability_bound
from controller.model.memory import Memory
from controller.model.sample import Signal

ROUTED = policy(routing={})


def swings(gain_times_elasticity, delay, steps=4000):
    """Whether d[k+1] = d[k] - g e d[k-D] grows."""
    past = [1.0] * (delay + 1)
    for _ in range(steps):
        past.append(past[-1] - gain_times_elasticity * past[-1 - delay])
        if abs(past[-1]) > 1e6:
            return True
    return max(map(abs, past[-50:])) > 1.0


@pytest.mark.parametrize("delay", range(7))
def test_the_bound_is_where_the_loop_begins_to_swing(delay):
    bound = stability_bound(delay)
    assert not swings(0.98 * bound, delay)
    assert swings(1.02 * bound, delay)


@given(st.floats(0.0, 100.0), st.floats(0.0, 100.0))
def test_older_data_never_allow_more_gain(one, other):
    older, younger = max(one, other), min(one, other)
    assert stability_bound(older) <= stability_bound(younger)


def test_the_plan_tells_the_loops_delay_and_margin():
    fleet = [instance(n, age=4.0, extra={Signal.IN_FLIGHT: 5.0}) for n in "ab"]
    found = decide(
        policy(interval="10s", signals={"preset": "fastapi", "window": "20s"}, routing={}), snapshot(fleet), NOTHING
    )
    stability = found[0].stability
    assert stability.delay_seconds == pytest.approx(4.0 + 10.0 + 5.0 + 1.0)
    # 10 inside, 20/s for 4 + 10 + 1 s, and half busy.
    assert stability.elasticity == pytest.approx(10 / (20 * 15) / 0.5)
    assert stability.margin == pytest.approx(stability.elasticity / (2 * sin(pi / (2 * (2 * 2.0 + 1)))))
    assert stability.findings == ()


def test_a_thin_margin_lowers_the_gain():
    fleet = [instance(n, cpu=None, extra={Signal.IN_FLIGHT: 5.0}) for n in "ab"]
    stability = decide(ROUTED, snapshot(fleet), NOTHING)[0].stability
    assert stability.elasticity == 4.0
    assert stability.gain < 0.2
    assert stability.margin <= 1.0


def test_weights_that_go_to_and_fro_are_told_and_the_gain_halves():
    memory, plans = NOTHING, []
    for tick in range(12):
        rates = (40.0, 10.0) if tick % 2 else (10.0, 40.0)
        fleet = [instance(n, rate=r) for n, r in zip("ab", rates, strict=True)]
        plan, memory = decide(ROUTED, snapshot(fleet, at=1000.0 + 15 * tick), memory)
        plans.append(plan)
    told = next(i for i, p in enumerate(plans) if p.stability.findings)
    assert "swing" in hold(plans[told], "stability").reason
    assert plans[told + 1].stability.gain <= 0.5
    assert plans[-1].stability.swing < plans[told].stability.swing


def test_the_gain_comes_back_when_all_is_calm():
    assert next_gain(0.5, 0.0) == pytest.approx(0.55)
    assert next_gain(1.0, 0.0) == 1.0
    assert next_gain(0.1, 0.5) == 0.1


def test_clients_that_all_take_the_best_are_told():
    fleet = [instance("a", rate=97.0, cpu=0.9), instance("b", rate=1.0, cpu=0.01), instance("c", rate=2.0, cpu=0.02)]
    memory = Memory(weights={"a": 0.33334, "b": 0.33333, "c": 0.33333}, at=985.0)
    plan, _ = decide(ROUTED, snapshot(fleet), replace(memory, weights={"a": 0.25, "b": 0.2, "c": 0.2}))
    assert plan.stability.herding == pytest.approx(0.97 / 0.25)
    assert "herd" in hold(plan, "stability").reason


@given(st.permutations(range(5)))
def test_the_same_input_gives_the_same_bytes(order):
    fleet = [instance(n, rate=3.0 + i, extra={Signal.IN_FLIGHT: 7.0 * i}) for i, n in enumerate("abcde")]
    one = decide(ROUTED, snapshot(fleet), NOTHING)[0]
    other = decide(ROUTED, snapshot([fleet[i] for i in order]), NOTHING)[0]
    assert repr(one.publish) == repr(other.publish)


@given(st.floats(0.0, 50.0), st.floats(0.0, 50.0))
def test_a_backlog_counts_for_less_as_its_data_age(one, other):
    def share(age):
        inside = {"a": 60.0, "b": 3.0, "c": 3.0}
        fleet = [instance(n, age=age, extra={Signal.IN_FLIGHT: f}) for n, f in inside.items()]
        return row(decide(ROUTED, snapshot(fleet), NOTHING)[0], "a").weight

    assert share(min(one, other)) <= share(max(one, other)) + 1e-12


@given(st.lists(st.sampled_from(["slow", "fails", "well"]), min_size=2, max_size=9))
def test_never_more_than_half_are_shed(conditions):
    signals = {"slow": {"latency": 0.9}, "fails": {"errors": 0.5}, "well": {}}
    fleet = [instance(f"i{i}", cpu=0.2, **signals[c]) for i, c in enumerate(conditions)]
    memory = NOTHING
    for tick in range(6):
        plan, memory = decide(ROUTED, snapshot(fleet, at=1000.0 + 15 * tick), memory)
        assert 2 * sum(e.why.startswith("shed") for e in plan.publish.endpoints) <= len(fleet)
        assert fsum(weights(plan).values()) == pytest.approx(1.0, abs=1e-9)
