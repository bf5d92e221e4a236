"""Floors are about the fleet: in which order its instances are listed must not matter."""

from dataclasses import replace

from decide_world import hpa, instance, policy, queue, scale, snapshot
from hypothesis import given
from hypothesis import strategies as st

from controller.decide.decide import decide
from controller.model.history import RateHistory
from controller.model.memory import Memory, frozen
from controller.model.sample import Signal, Stale
from controller.model.snapshot import Known

RULES = policy(
    routing={},
    scaling={
        "hpa": "h",
        "target": {"name": "m"},
        "min": {"floor": 1, "ceiling": 500},
        "max": {"floor": 500, "ceiling": 900},
        "memory": None,
        "schedules": [{"name": "day", "from": "00:00", "to": "24:00", "timezone": "UTC", "min": 2}],
        "demand": {},
        "forecast": {},
    },
)
HISTORY = RateHistory(0.0, 300.0, tuple(100.0 + 60.0 * (n % 12 == 3) for n in range(4 * 288)))
EVERY = 15.0

loads = st.tuples(st.floats(0.1, 60.0), st.floats(0.01, 1.0), st.floats(0.01, 3.0))
"""Requests/s, utilisation and response time in seconds of one instance."""


@st.composite
def runs(draw):
    """Ticks of one fleet, each as (instances, the same in another order)."""
    names = [f"i{n}" for n in range(draw(st.integers(2, 7)))]
    ticks = []
    for _ in range(draw(st.integers(2, 12))):
        seen = []
        for name in names:
            rate, full, latency = draw(loads)
            one = instance(name, rate=rate, cpu=full, latency=latency, created_at=0.0, ready_at=60.0)
            dark = draw(st.integers(0, 19)) == 0
            seen.append(replace(one, signals={s: Stale(0.1, 99.0) for s in Signal}) if dark else one)
        ticks.append((seen, draw(st.permutations(seen))))
    return ticks


def backwards(memory):
    return replace(memory, instances=frozen(dict(reversed(memory.instances.items()))))


@given(runs(), st.integers(0, 50))
def test_floors_do_not_depend_on_the_order_of_the_instances(ticks, waiting):
    listed, shuffled, low = Memory(), Memory(), 1
    for number, (one, other) in enumerate(ticks):
        rest = {"hpa": hpa(low, 500), "scale": scale(len(one)), "queue": queue(waiting), "history": Known(HISTORY)}
        at = 400.0 + EVERY * number
        plan, listed = decide(RULES, snapshot(one, at=at, **rest), listed)
        same, shuffled = decide(RULES, snapshot(other, at=at, **rest), backwards(shuffled))
        assert same.hpa == plan.hpa, "the same bounds for the same reasons"
        assert same.forecast == plan.forecast
        assert shuffled.standing == listed.standing, "the floor itself"
        assert shuffled.arrivals == listed.arrivals
        assert shuffled.fullness == listed.fullness
        low = low if plan.hpa is None else plan.hpa.after.min_replicas
