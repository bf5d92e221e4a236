import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.lab.gate import Gate
from controller.lab.load import ROUND_ROBIN, TRIMTAB, Phase, Plan, arrivals

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


def test_a_plan_survives_its_file(tmp_path):
    plan = Plan(PHASES, {ROUND_ROBIN: "a.json", TRIMTAB: "b.json"}, "redis://localhost", "models/demo", seed=3)
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan


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
