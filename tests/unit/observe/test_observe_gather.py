from __future__ import annotations

import threading

import pytest
import redis

from controller.deadline import Deadline
from controller.errors import TimedOut, Unreachable
from controller.model.sample import Absent, Signal
from controller.model.snapshot import Known, NotAsked, Unknown
from controller.observe.errand import Errand
from controller.observe.gather import Observer
from controller.settings import Settings

AT = 1_790_000_000.0
NOWHERE = Settings(prometheus_url="http://127.0.0.1:1")
SCALING = {"hpa": "svc-hpa", "target": {"kind": "Deployment", "name": "svc"}}


class FakePipeline:
    def __init__(self, store):
        self.store, self.commands = store, 0

    def __getattr__(self, name):
        return self._queue

    def _queue(self, *_):
        self.commands += 1

    def execute(self, *, raise_on_error):
        assert raise_on_error is False
        if self.store.error:
            raise self.store.error
        self.store.release.wait(30)
        return [None, None, {}, None] * (self.commands // 4)


class FakeRedis:
    """An empty Redis that may fail or, until released, hang."""

    def __init__(self, error=None):
        self.error, self.calls, self.release = error, 0, threading.Event()
        self.release.set()

    def pipeline(self, *, transaction):
        assert transaction is False
        self.calls += 1
        return FakePipeline(self)


class FakeKube:
    def __init__(self, error=None):
        self.error, self.calls, self.release = error, 0, threading.Event()
        self.release.set()

    def get(self, path, *, query=None, deadline):  # noqa: ARG002 - the protocol's
        self.calls += 1
        self.release.wait(30)
        if self.error:
            raise self.error
        if path.endswith("/scale"):
            return {"spec": {"replicas": 1}, "status": {"replicas": 1, "selector": "app=svc"}}
        if path.endswith("/pods"):
            return {"items": [{"metadata": {"name": "a", "uid": "u"}, "status": {"podIP": "10.0.0.1"}}]}
        return {"items": []}


def observer(kube=None, store=None):
    return Observer(NOWHERE, kube=kube, redis=store or FakeRedis())


def test_no_policies_ask_nobody():
    kube = FakeKube()
    assert observer(kube).observe([], AT, Deadline.after(5)).services == {}
    assert kube.calls == 0


def test_each_system_fails_alone_and_says_one_line(policy):
    kube = FakeKube(Unreachable("Kubernetes", "connection refused"))
    store = FakeRedis(redis.ConnectionError("Error 111\nconnecting"))
    snapshot = observer(kube, store).observe(
        [policy("a", scaling=SCALING), policy("b", scaling=SCALING, concurrency={})], AT, Deadline.after(5)
    )
    assert snapshot.problems == (
        "Prometheus: http://127.0.0.1:1: connection refused",
        "Kubernetes: connection refused",
        "Redis: Error 111 connecting",
    )
    for service in snapshot.services.values():
        assert service.metrics_problem == "http://127.0.0.1:1: connection refused"
        assert isinstance(service.hpa, Unknown)
        assert isinstance(service.published, Unknown)
        assert not service.instances_complete
    assert snapshot.services["models/a"].queue == NotAsked()


def test_prometheus_down_keeps_the_pods(policy):
    snapshot = observer(FakeKube()).observe([policy(scaling=SCALING)], AT, Deadline.after(5))
    service = snapshot.services["models/svc"]
    (instance,) = service.instances
    assert (instance.name, instance.ready, instance.uid) == ("a", False, "u")
    assert instance.signal(Signal.RATE) == Absent("http://127.0.0.1:1: connection refused")
    assert (service.hpa, service.published, service.instances_complete) == (Known(None), Known(None), True)


@pytest.mark.parametrize("who", ["kube", "redis"])
def test_a_reader_that_hangs_is_left_behind_once_and_recovers(policy, who):
    kube, store = FakeKube(), FakeRedis()
    stuck = kube if who == "kube" else store
    watching = observer(kube, store)
    stuck.release.clear()
    made = policy(scaling=SCALING)

    def reading(seconds):
        service = watching.observe([made], AT, Deadline.after(seconds)).services[made.key]
        return service.scale if who == "kube" else service.published

    try:
        assert "no answer within the tick" in reading(0.3).reason
        asked = stuck.calls
        assert asked > 0
        assert "still waiting for the last call" in reading(0.3).reason
        assert stuck.calls == asked
    finally:
        stuck.release.set()
    until = Deadline.after(10)
    while isinstance(reading(5), Unknown):
        assert not until.expired()


def test_without_kubernetes_series_are_the_instances(policy):
    snapshot = observer().observe([policy(scaling=SCALING)], AT, Deadline.after(5))
    service = snapshot.services["models/svc"]
    assert "switched off" in service.hpa.reason
    assert "switched off" in service.scale.reason


def test_policies_without_need_of_kubernetes_cause_no_calls(policy):
    kube = FakeKube()
    snapshot = observer(kube).observe([policy()], AT, Deadline.after(5))
    assert kube.calls == 0
    assert snapshot.services["models/svc"].hpa == NotAsked()


def test_a_bug_in_a_reader_comes_out(policy):
    kube = FakeKube(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        observer(kube).observe([policy(scaling=SCALING)], AT, Deadline.after(5))


def test_an_errand_that_was_never_started_has_no_result():
    with pytest.raises(TimedOut):
        Errand("x").result(Deadline.after(1))
