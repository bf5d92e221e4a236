"""One signal of one instance goes missing, and everything else stays: nothing may become better for it."""

from dataclasses import replace

import pytest
from decide_world import NOTHING, hold, hpa, instance, policy, published, row, scale, snapshot, weights, whole_policy
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.model.memory import InstanceMemory, Memory
from controller.model.sample import Absent, Invalid, Signal, Stale

ROUTED = policy(routing={})
KINDS = {"stale": Stale(0.0, 90.0), "absent": Absent("no series answered"), "invalid": Invalid("NaN")}
kinds = pytest.mark.parametrize("gap", KINDS.values(), ids=KINDS)


def without(seen, signal, gap):
    if isinstance(gap, Stale):
        gap = Stale(seen.signals[signal].value, gap.age_seconds)
    return replace(seen, signals={**seen.signals, signal: gap})


def play(rules, looks, memory=NOTHING, said=None, **fields):
    """The plans of consecutive ticks, published and carried out as planned, and the last memory."""
    plans = []
    for tick, seen in enumerate(looks):
        service = snapshot(seen, at=1000.0 + 15.0 * tick, published=published(*said) if said else published(), **fields)
        plan, memory = decide(rules, service, memory)
        said = (plan.publish.limit, weights(plan)) if plan.publish.endpoints else said
        plans.append(plan)
    return plans, memory


def sick(**fields):
    return instance(
        "a", **{"rate": 12.0, "errors": 0.08, "extra": {Signal.IN_FLIGHT: 5.0, Signal.MEMORY: 0.5}, **fields}
    )


def well(*names):
    return [instance(n, extra={Signal.IN_FLIGHT: 5.0, Signal.MEMORY: 0.5}) for n in names]


@kinds
def test_missing_errors_pardon_no_penalty(gap):
    seen = [sick(errors=0.6, rate=100.0), *well("b", "c")]
    # The policy's SLO lets it fail, so that no guard but capacity holds it down.
    lax = policy(routing={}, slo={"errors": "10%"})
    plans, memory = play(lax, [seen] * 10 + [[without(seen[0], Signal.ERRORS, gap), *seen[1:]]] * 20)
    assert weights(plans[-1])["a"] <= weights(plans[9])["a"] + 1e-9
    assert row(plans[-1], "a").why.endswith("errors not known now")
    assert memory.instances["a"].capacity < 100.0


@pytest.mark.parametrize(
    ("signal", "value"), [(Signal.MEMORY, 0.99), (Signal.IN_FLIGHT, 600.0)], ids=["memory full", "piled up"]
)
@kinds
def test_a_penalty_stays_while_what_it_rests_on_is_missing(signal, value, gap):
    extra = {Signal.IN_FLIGHT: 5.0, Signal.MEMORY: 0.5, signal: value}
    seen = [instance("a", extra=extra), *well("b", "c")]
    dark = [without(seen[0], signal, gap), *seen[1:]]
    plans, _ = play(ROUTED, [seen] * 10 + [dark] * 20)
    assert weights(plans[9])["a"] < 0.3
    assert weights(plans[-1])["a"] <= weights(plans[9])["a"] + 1e-9


@kinds
def test_who_is_shed_for_errors_is_not_pardoned_while_they_are_missing(gap):
    seen = [sick(errors=0.9), *well("b", "c")]
    dark = [without(seen[0], Signal.ERRORS, gap), *seen[1:]]
    plans, memory = play(ROUTED, [seen] * 3 + [dark] * 30)
    assert memory.instances["a"].shedding
    assert row(plans[-1], "a").weight == pytest.approx(0.1 / 3)
    assert not play(ROUTED, [[*well("a"), *seen[1:]]] * 8, memory)[1].instances["a"].shedding


@kinds
def test_who_is_shed_for_slowness_is_not_pardoned_while_its_response_time_is_missing(gap):
    seen = [sick(latency=2.0, errors=0.0), *well("b", "c")]
    dark = [without(seen[0], Signal.LATENCY, gap), *seen[1:]]
    assert play(ROUTED, [seen] * 4 + [dark] * 30)[1].instances["a"].shedding


@kinds
def test_a_failing_streak_is_neither_ended_nor_enough_while_errors_are_missing(gap):
    seen = [sick(errors=0.9), *well("b", "c")]
    dark = [without(seen[0], Signal.ERRORS, gap), *seen[1:]]
    plans, memory = play(ROUTED, [seen, dark, dark, dark])
    assert not memory.instances["a"].shedding
    assert memory.instances["a"].failing_since == 1000.0
    assert weights(plans[-1])["a"] <= weights(plans[0])["a"] + 1e-9


@kinds
def test_a_panic_outlasts_the_errors_that_made_it(gap):
    seen = [*(instance(n, errors=0.9) for n in "abc"), *well("d", "e")]
    dark = [without(i, Signal.ERRORS, gap) for i in seen[:2]] + seen[2:]
    plans, _ = play(ROUTED, [seen] * 3 + [dark] * 3)
    assert [p.publish.panic for p in plans[2:]] == [True] * 4


@kinds
def test_a_newcomer_without_what_the_others_tell_is_taken_for_the_usual(gap):
    fails_fast = without(instance("a", rate=900.0, cpu=0.01), Signal.ERRORS, gap)
    plans, memory = play(ROUTED, [[fails_fast, *well("b", "c", "d")]] * 3)
    assert memory.instances["a"].capacity is None
    assert weights(plans[-1])["a"] == pytest.approx(0.25)


def test_a_fleet_that_tells_no_errors_is_measured_without_them():
    seen = [without(i, Signal.ERRORS, Absent("no front end")) for i in [instance("a", rate=20.0), *well("b", "c")]]
    plan, memory = decide(ROUTED, snapshot(seen), NOTHING)
    assert memory.instances["a"].capacity == 40.0
    assert weights(plan)["a"] > 0.4


def test_a_policy_without_an_error_signal_has_no_gap():
    known = {n: InstanceMemory(uid=f"uid-{n}", capacity=10.0, known=frozenset(Signal)) for n in "abc"}
    seen = [instance("a", rate=20.0, errors=None), *(instance(n, errors=None) for n in "bc")]
    plan, memory = decide(whole_policy(), snapshot(seen), Memory(instances=known))
    assert memory.instances["a"].capacity > 10.0
    assert not any("not known" in e.why for e in plan.publish.endpoints)


def test_no_requests_have_no_response_times_and_no_errors_and_that_is_no_gap():
    seen = well("a", "b")
    idle = [replace(i, signals={**i.signals, Signal.RATE: replace(i.signals[Signal.RATE], value=0.0)}) for i in seen]
    quiet = [without(without(i, Signal.ERRORS, Absent("idle")), Signal.LATENCY, Absent("idle")) for i in idle]
    plans, _ = play(ROUTED, [seen, seen, quiet])
    assert not any("not known" in e.why for e in plans[-1].publish.endpoints)


@pytest.mark.parametrize("signal", [s for s in Signal if s not in (Signal.LATENCY, Signal.QUEUE)])
@kinds
def test_no_bound_is_lowered_while_a_signal_is_missing(signal, gap):
    extra = {Signal.IN_FLIGHT: 1.0, Signal.MEMORY: 0.5, Signal.UTILISATION: 0.1, Signal.LATENCY_QUANTILE: 0.2}
    seen = [instance(n, cpu=0.1, extra=extra) for n in "abcd"]
    dark = [without(seen[0], signal, gap), *seen[1:]]
    fields = {"hpa": hpa(6, 12, current_replicas=4, desired_replicas=4), "scale": scale(4)}
    for last, lowered in ((seen, True), (dark, False)):
        plans, _ = play(whole_policy(), [seen] + [last] * 50, **fields)
        assert any(p.hpa is not None and p.hpa.after.min_replicas < 6 for p in plans) is lowered
    # A wish to lower it that is already there is held with the reason.
    memory = Memory(
        instances={n: InstanceMemory(uid=f"uid-{n}", known=frozenset(seen[0].signals)) for n in "abcd"},
        at=985.0, calm_since=0.0, hpa_min=6, hpa_max=12, hpa_seen_at=0.0,
    )  # fmt: skip
    plan, after = decide(whole_policy(), snapshot(dark, **fields), memory)
    assert after.calm_since is None
    assert plan.hpa is None


def test_the_limit_says_which_signal_keeps_it():
    seen = [instance(n, errors=0.05) for n in "abc"]
    dark = [without(seen[0], Signal.ERRORS, Absent("x")), *seen[1:]]
    plans, _ = play(whole_policy(), [seen, seen, dark], said=(15, dict.fromkeys("abc", 1 / 3)))
    assert plans[1].publish.limit < 15
    assert plans[2].publish.limit == plans[1].publish.limit
    assert "no fresh errors from a" in hold(plans[2], "limit").reason


SIGNALS = [Signal.RATE, Signal.CPU, Signal.ERRORS, Signal.LATENCY, Signal.IN_FLIGHT, Signal.MEMORY, Signal.UTILISATION]
an_instance = st.fixed_dictionaries(
    {
        "rate": st.floats(1.0, 200.0),
        "cpu": st.floats(0.05, 1.0),
        "latency": st.floats(0.01, 2.0),
        "errors": st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0]),
        "in_flight": st.floats(0.0, 200.0),
        "memory": st.floats(0.1, 1.0),
        "utilisation": st.floats(0.05, 1.0),
    }
)


@given(
    st.lists(an_instance, min_size=2, max_size=5),
    st.sampled_from(SIGNALS),
    st.sampled_from(list(KINDS.values())),
    st.integers(1, 5),
    st.integers(0, 4),
)
def test_a_missing_signal_never_makes_anything_better(fleet, signal, gap, before, chosen):
    seen = [
        instance(
            name,
            extra={
                Signal.IN_FLIGHT: f["in_flight"],
                Signal.MEMORY: f["memory"],
                Signal.UTILISATION: f["utilisation"],
            },
            **{k: f[k] for k in ("rate", "cpu", "latency", "errors")},
        )
        for name, f in zip("abcde", fleet, strict=False)
    ]
    name = seen[chosen % len(seen)].name
    rules = whole_policy()
    fields = {"hpa": hpa(5, 12, current_replicas=len(seen), desired_replicas=len(seen)), "scale": scale(len(seen))}
    plans, memory = play(
        rules, [seen] * before, said=(5 * len(seen), dict.fromkeys("abcde"[: len(seen)], 1 / len(seen))), **fields
    )
    stands = plans[-1].publish
    said = (stands.limit, weights(plans[-1]))
    at = 1000.0 + 15.0 * before
    lost = [without(i, signal, gap) if i.name == name else i for i in seen]
    kept, _ = decide(rules, snapshot(seen, at=at, published=published(*said), **fields), memory)
    plan, _ = decide(rules, snapshot(lost, at=at, published=published(*said), **fields), memory)
    # A step that was under way may wait; none goes the other way. Equal shares of a panic are nobody's gain.
    if not plan.publish.panic:
        assert weights(plan)[name] <= max(weights(kept)[name], said[1][name]) + 1e-9
    assert plan.publish.limit >= stands.limit
    if plan.hpa is not None:
        assert plan.hpa.after.min_replicas >= 5
        assert plan.hpa.after.max_replicas >= 12
