"""A target dead for two minutes at an interval of 15 s, without waiting for it: what the outage table shows in seconds."""

import pytest

from controller.decide.decide import decide
from controller.model.memory import Memory
from controller.model.sample import Absent, Invalid, Signal, sample_of
from controller.model.snapshot import Instance, Known, Published, ServiceSnapshot
from controller.policy.schema import LoadPolicy

AT, INTERVAL, DEAD_SECONDS, WINDOW_SECONDS = 1_790_000_000.0, 15, 120, 60
POLICY = LoadPolicy.model_validate(
    {
        "apiVersion": "trimtab/v1",
        "kind": "LoadPolicy",
        "metadata": {"name": "chat", "namespace": "models"},
        "spec": {
            "instances": {"selector": {"service": "chat"}},
            "signals": {"preset": "fastapi"},
            "routing": {},
            "concurrency": {},
        },
    }
)
NAMES = ("a", "b", "c")


def instance(name, at, died_at, gone, ready):
    age = max(0.0, at - died_at) if name == "b" else 0.0
    values = {Signal.RATE: 20.0, Signal.LATENCY: 0.05, Signal.ERRORS: 0.0, Signal.UTILISATION: 0.5}
    signals = {signal: sample_of(value, age, fresh_for_seconds=60.0) for signal, value in values.items()}
    if age > WINDOW_SECONDS:  # by then the rate's window is empty
        signals = dict.fromkeys(values, gone)
    return Instance(name, f"http://{name}", signals, ready=ready)


def observed(at, died_at, stands, gone=None, ready=None):
    instances = tuple(instance(name, at, died_at, gone, ready) for name in NAMES)
    return ServiceSnapshot(POLICY.key, at, instances, published=Known(stands))


@pytest.mark.parametrize("ready", [True, None], ids=["kubernetes", "no-kubernetes"])
@pytest.mark.parametrize(
    "gone", [Absent("no series answered"), Invalid("not a finite number: nan")], ids=["absent", "nan"]
)
def test_nothing_drops_in_two_minutes_of_silence(gone, ready):
    memory, stands, history = Memory(), None, []
    for at in range(0, 60 + DEAD_SECONDS + 1, INTERVAL):
        plan, memory = decide(POLICY, observed(AT + at, AT + 60, stands, gone, ready), memory)
        weights = {row.instance: row.weight for row in plan.publish.endpoints}
        stands = Published(at, 0, plan.publish.limit, weights, AT + at)
        history.append((plan.publish.limit, weights, {row.instance: row.state.value for row in plan.publish.endpoints}))
    assert len(history) == 13
    assert {limit for limit, _, _ in history} == {15}
    assert all(weights == pytest.approx(dict.fromkeys(NAMES, 1 / 3)) for _, weights, _ in history)
    assert history[-1][2] == {"a": "serving", "b": "stale", "c": "serving"}
