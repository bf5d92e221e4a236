import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.lab.load import Gate, Phase, Ranking, RoundRobin, arrivals

PHASES = (Phase("calm", 50.0, 20.0), Phase("busy", 50.0, 60.0))


def test_the_same_seed_gives_the_same_arrivals_at_about_the_rate():
    first, again, other = (list(arrivals(PHASES, seed)) for seed in (1, 1, 2))
    assert first == again != other
    counts = Counter(arrival.phase for arrival in first)
    # Poisson: 1000 and 3000 expected, give or take five standard deviations.
    assert abs(counts["calm"] - 1000) < 160
    assert abs(counts["busy"] - 3000) < 275
    assert all(a.at <= b.at for a, b in pairwise(first))
    assert all((arrival.phase == "busy") == (arrival.at >= 50.0) for arrival in first)
    assert sum(a.work for a in first) / len(first) == pytest.approx(1.0, abs=0.05)


def test_round_robin_takes_turns():
    side = RoundRobin(["a", "b"])
    assert [side.pick() for _ in range(4)] == ["a", "b", "a", "b"]
    side.replace([])
    assert side.pick() is None


def rows(**weights):
    return {"endpoints": [{"endpoint": name, "weight": weight} for name, weight in weights.items()]}


def test_a_ranking_is_followed_by_weight():
    side = Ranking(seed=3)
    side.replace(rows(a=0.75, b=0.25, c=0.0))
    counts = Counter(side.pick() for _ in range(4000))
    assert set(counts) == {"a", "b"}
    assert counts["a"] / 4000 == pytest.approx(0.75, abs=0.04)


def test_without_a_usable_ranking_the_last_one_stands_else_turns():
    side = Ranking()
    assert side.pick() is None
    side.fallback.replace(["x", "y"])
    assert [side.pick() for _ in range(2)] == ["x", "y"]
    side.replace(rows(a=1.0))
    side.replace(rows(b=0.0))
    assert side.pick() == "a"


@given(st.lists(st.one_of(st.integers(0, 5), st.sampled_from(["enter", "leave", "give up"])), max_size=40))
def test_no_more_than_the_limit_are_admitted_and_none_is_forgotten(steps):
    async def play():
        gate = Gate()
        gate.change(2)
        tasks = []
        inside = []
        for step in steps:
            if step == "enter":
                tasks.append(asyncio.create_task(gate.enter()))
            elif step == "leave" and inside:
                inside.pop()
                gate.leave()
            elif step == "give up" and tasks:
                tasks.pop().cancel()
            elif isinstance(step, int):
                gate.change(step)
            was = gate.inside
            for _ in range(3):
                await asyncio.sleep(0)
            entered = [task for task in tasks if task.done() and not task.cancelled()]
            tasks = [task for task in tasks if not task.done()]
            inside += entered
            assert gate.inside == len(inside)
            if entered:
                assert gate.inside <= gate.limit or gate.inside <= was
            assert gate.waiting() == len(tasks)
            # Nobody waits before a free place.
            assert not tasks or gate.inside >= gate.limit
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(play())
