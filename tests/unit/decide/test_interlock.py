"""What one sync of the HPA's controller makes of the railed bounds, with the faithful model as the oracle."""

import pytest
from decide_world import policy
from hypothesis import given
from hypothesis import strategies as st

from controller.decide import interlock, rails
from controller.decide.interlock import Counts
from controller.decide.pause import NOT_PAUSED
from controller.decide.proposal import Proposed
from controller.decide.scaling import Bounds
from controller.model.snapshot import HpaSpec, ResourceTarget
from controller.replay.behavior import Behavior, Event, History
from controller.replay.hpa import Hpa, Seen, at_once, sync
from controller.replay.replicas import Pod, PodMetric, Replicas, Utilization

TARGETS = (ResourceTarget("cpu", 70),)
counts = st.integers(1, 40)


@st.composite
def worlds(draw):
    """An HPA in any state, and a proposal that the rules above the rails would never make."""
    floor, ceiling = sorted((draw(counts), draw(counts)))
    rules = policy(
        scaling={
            "hpa": "h",
            "target": {"name": "m"},
            "min": {"floor": floor, "ceiling": ceiling},
            "max": {"floor": draw(st.integers(floor, 40)), "ceiling": draw(st.integers(40, 60))},
            "steps": {"replicas": draw(st.integers(1, 6))},
        }
    ).spec.scaling
    low, high = sorted((draw(counts), draw(counts)))
    asked, exist = draw(counts), draw(st.integers(0, 40))
    most = max(asked, exist, draw(st.integers(0, 40)))
    stands = draw(st.booleans())
    bounds = Bounds(
        HpaSpec("Deployment", "m", low, high, TARGETS) if stands else None,
        Proposed("minReplicas", low if stands else None, draw(st.integers(1, 80)), "asked"),
        Proposed("maxReplicas", high if stands else None, draw(st.integers(1, 80)), "asked"),
        TARGETS,
        Counts(asked, most),
        pause=NOT_PAUSED,
    )
    return rules, bounds, asked, exist


@given(
    worlds(),
    st.integers(0, 200),
    st.sampled_from([None, Behavior()]),
    st.lists(st.integers(1, 40), max_size=3),
    st.lists(st.just("queue: down"), max_size=1),
)
def test_within_one_sync_a_railed_write_starts_no_more_than_a_step_and_stops_nothing(
    world, cpu, behavior, recommended, doubts
):
    rules, proposed, asked, exist = world
    safe, _ = rails.bounds(rules, proposed, doubts)
    pods = tuple(Pod(f"{n}") for n in range(asked))
    seen = Seen(Replicas(asked, exist), pods, ({p.name: PodMetric(10 * cpu) for p in pods},))
    history = History(tuple(Event(900.0, n) for n in recommended))

    def replicas(low, high):
        return sync(Hpa((Utilization(70),), low, high, behavior), seen, history, at=1000.0)[0].desired

    after = replicas(safe.minimum.after, safe.maximum.after)
    step = rules.steps.replicas
    if proposed.before is None:
        assert interlock.at_once(safe.minimum.after, safe.maximum.after, asked) <= asked + step
        assert safe.maximum.after >= asked
        return
    before = replicas(proposed.before.min_replicas, proposed.before.max_replicas)
    unsteered = replicas(1, proposed.before.max_replicas)
    assert after <= max(before, asked) + step, "at most a step more than the HPA would have started anyway"
    # What a lower min lets go is for the HPA's own metrics to stop, and no more than a step of it.
    assert after >= min(asked, before, unsteered), "no pod stops that the plain HPA would have kept"
    assert after >= min(asked, before) - (step if safe.minimum.lowers else 0)
    at_rest = interlock.at_once(proposed.before.min_replicas, proposed.before.max_replicas, asked)
    assert interlock.at_once(safe.minimum.after, safe.maximum.after, asked) >= min(asked, at_rest)


@given(st.integers(0, 60), counts, counts)
def test_the_rule_is_the_models(asked, one, other):
    low, high = sorted((one, other))
    assert interlock.at_once(low, high, asked) == at_once(Hpa((), low, high), asked)


@pytest.mark.parametrize(
    ("stands", "wanted", "asked", "most", "expected"),
    [
        pytest.param((2, 10), (4, 10), 4, 4, (4, 10), id="min up to what runs"),
        pytest.param((4, 10), (6, 10), 4, 4, (6, 10), id="min above: a step of pods"),
        pytest.param((4, 10), (6, 10), 2, 9, (4, 10), id="two asked for while nine exist: min starts none of them again"),
        pytest.param((2, 10), (9, 10), 4, 4, (4, 10), id="the step is the bound's too"),
        pytest.param((6, 10), (8, 10), 3, 3, (6, 10), id="min above what is asked for already: no more"),
        pytest.param((2, 10), (2, 8), 9, 9, (2, 9), id="max not below what is asked for"),
        pytest.param((2, 10), (2, 8), 4, 9, (2, 9), id="nor below what exists or is desired"),
        pytest.param((2, 5), (2, 3), 9, 9, (2, 5), id="max below what runs: stays"),
        pytest.param((2, 5), (2, 7), 9, 9, (2, 7), id="max below what runs: may rise"),
    ],
)  # fmt: skip
def test_writes_that_would_start_or_stop_pods_at_once(stands, wanted, asked, most, expected):
    spec = {"hpa": "h", "target": {"name": "m"}, "min": {"floor": 1, "ceiling": 40}, "max": {"floor": 1, "ceiling": 40}}
    low, high = (Proposed("b", before, after) for before, after in zip(stands, wanted, strict=True))
    bounds = Bounds(HpaSpec("Deployment", "m", *stands, TARGETS), low, high, TARGETS, Counts(asked, most))
    safe, _ = rails.bounds(policy(scaling=spec).spec.scaling, bounds, ())
    assert (safe.minimum.after, safe.maximum.after) == expected
