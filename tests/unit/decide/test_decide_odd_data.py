"""Whatever a scrape says, and whenever it seems to have been: NaN, infinities, counters that were reset, clocks that disagree."""

from math import fsum, inf, isfinite, nan

import pytest
from decide_world import policy, weights
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.model.memory import Memory
from controller.model.sample import Signal, sample_of
from controller.model.snapshot import Instance, ServiceSnapshot

ROUTED = policy(routing={})
NAMES = "abcde"
odd = st.sampled_from([nan, inf, -inf, 0.0, -0.0, -3.0, 1e308, -1e308, 5e-324])
"""A rate below 0 is what a counter that was reset makes of a careless query."""
values = odd | st.floats() | st.floats(0.01, 2.0)
skewed = st.sampled_from([nan, inf, -inf, -1.0, -3600.0, 1e308]) | st.floats(0.0, 60.0)
"""An age below 0: the server's clock is ahead of ours."""
seen = st.dictionaries(st.sampled_from(list(Signal)), st.tuples(values, skewed))
ticks = st.lists(st.tuples(st.floats(-3600.0, 3600.0), st.lists(seen, min_size=2, max_size=5)), min_size=1, max_size=4)


def service(at, rows):
    fleet = tuple(
        Instance(
            name,
            f"http://{name}",
            {signal: sample_of(value, age, fresh_for_seconds=30.0) for signal, (value, age) in row.items()},
            ready=True,
            uid=name,
        )
        for name, row in zip(NAMES, rows, strict=False)
    )
    return ServiceSnapshot("models/m", at, fleet)


@given(ticks)
def test_weights_are_shares_after_any_scrapes_at_any_times(story):
    memory = Memory()
    for jump, rows in story:
        # The clock of the daemon itself may go back, too.
        plan, memory = decide(ROUTED, service(10_000.0 + jump, rows), memory)
        if plan.publish.endpoints is not None:
            shares = weights(plan)
            assert fsum(shares.values()) == pytest.approx(1.0, abs=1e-9)
            assert all(isfinite(share) and share >= 0.0 for share in shares.values())


@given(ticks)
def test_the_same_story_is_told_in_the_same_bytes(story):
    def told():
        memory, plans = Memory(), []
        for jump, rows in story:
            plan, memory = decide(ROUTED, service(10_000.0 + jump, rows), memory)
            plans.append(plan.publish)
        return repr((plans, memory)).encode()

    assert told() == told()


@given(odd, st.floats(0.0, 25.0))
def test_one_odd_scrape_never_makes_an_instance_the_best(value, age):
    usual = dict.fromkeys((Signal.RATE, Signal.LATENCY), (0.5, 1.0)) | {Signal.CPU: (0.5, 1.0)}
    memory = Memory()
    for tick in range(3):
        _, memory = decide(ROUTED, service(10_000.0 + 15 * tick, [usual] * 3), memory)
    strange = dict.fromkeys(usual, (value, age))
    plan, _ = decide(ROUTED, service(10_045.0, [strange, usual, usual]), memory)
    shares = weights(plan)
    assert shares["a"] <= max(shares["b"], shares["c"]) + 1e-9
