import copy
import datetime as dt
import re
import threading
import time

import pytest
from scripted_api import Answer, fake_client, refusal

from controller.act.publish import Publisher
from controller.clients.kube import KubeApi
from controller.errors import LostLease
from controller.lead.lease import EPOCH_ZERO, LeaseLeader, Timing, micro_time
from controller.model.plan import Publish

pytestmark = pytest.mark.integration

FAST = Timing(lease=1.0, renew=0.6, retry=0.05)


class LeaseStore:
    """The part of an API server that an election needs: one object, optimistic concurrency."""

    def __init__(self):
        self.lease = None
        self.version = 0
        self.how = "answer"
        self.lock = threading.Lock()

    def __call__(self, request):
        if self.how != "answer":
            return Answer(how=self.how)
        with self.lock:
            if request.method == "GET":
                return Answer(200, copy.deepcopy(self.lease)) if self.lease else refusal(404, "no such Lease")
            if request.method == "POST" and self.lease:
                return refusal(409, "already exists")
            if request.method == "PUT" and request.body["metadata"]["resourceVersion"] != str(self.version):
                return refusal(409, "the object has been modified")
            self.version += 1
            self.lease = request.body
            self.lease["metadata"]["resourceVersion"] = str(self.version)
            return Answer(200, copy.deepcopy(self.lease))

    @property
    def holder(self):
        return self.lease and self.lease["spec"]["holderIdentity"]


@pytest.fixture
def store(api):
    api.handler = LeaseStore()
    return api.handler


@pytest.fixture
def compete(api):
    leaders, clients = [], []

    def start(identity):
        clients.append(KubeApi(fake_client(api.url), timeout_seconds=0.2))
        leaders.append(LeaseLeader(clients[-1], namespace="models", identity=identity, timing=FAST))
        leaders[-1].start()
        return leaders[-1]

    yield start
    for leader in leaders:
        leader.stop()
    for client in clients:
        client.close()


def eventually(condition, seconds=8.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_the_first_one_leads_and_the_second_waits(store, compete):
    first = compete("a")
    assert eventually(first.is_leader)
    second = compete("b")
    assert eventually(lambda: second.status() == "waits, a leads")
    assert second.fence() is None
    renewed = store.version
    assert eventually(lambda: store.version > renewed + 3)
    assert first.is_leader()
    assert not second.is_leader()
    assert store.lease["spec"]["leaseTransitions"] == first.fence().epoch


def test_a_new_lease_starts_above_any_that_was_deleted(store, compete):
    leader = compete("a")
    assert eventually(leader.is_leader)
    first = leader.fence().epoch
    assert abs(first - (time.time() - EPOCH_ZERO)) < 60
    assert first < 2**31
    leader.stop()
    store.lease["spec"].update(holderIdentity="")
    second = compete("b")
    assert eventually(second.is_leader)
    assert second.fence().epoch == first + 1


def test_stopping_hands_over_at_once(store, compete):
    first, second = compete("a"), None
    assert eventually(first.is_leader)
    fence = first.fence()
    second = compete("b")
    first.stop()
    assert not fence.valid()
    assert first.fence() is None
    assert eventually(second.is_leader)
    assert second.fence().epoch == fence.epoch + 1
    assert store.holder == "b"


def test_a_holder_that_died_is_replaced_after_the_lease(store, compete):
    store(type("R", (), {"method": "POST", "body": lease_of("dead", 5)}))
    leader = compete("b")
    assert eventually(lambda: leader.status() == "waits, dead leads")
    assert eventually(leader.is_leader)
    assert leader.fence().epoch == 6


def lease_of(holder, transitions):
    spec = {"holderIdentity": holder, "leaseTransitions": transitions, "leaseDurationSeconds": 1}
    return {"metadata": {"name": "trimtab-controller"}, "spec": spec}


@pytest.mark.parametrize("how", ["hang", "close", "drip_body"])
def test_an_api_server_in_trouble_ends_the_right_to_act_and_returns_it(store, compete, how):
    leader = compete("a")
    assert eventually(leader.is_leader)
    fence = leader.fence()
    store.how = how
    assert eventually(lambda: not fence.valid())
    assert leader.fence() is None
    assert eventually(lambda: "cannot reach the Lease: Kubernetes:" in leader.status())
    store.how = "answer"
    assert eventually(leader.is_leader)


def test_whoever_lost_the_lease_to_another_stops(store, compete):
    leader = compete("a")
    assert eventually(leader.is_leader)
    fence = leader.fence()
    with store.lock:
        store.version += 1
        store.lease["metadata"]["resourceVersion"] = str(store.version)
        store.lease["spec"].update(holderIdentity="thief", leaseTransitions=fence.epoch + 1)
    assert eventually(lambda: not fence.valid())
    assert eventually(lambda: leader.status() == "waits, thief leads")


@pytest.mark.usefixtures("store")
def test_a_late_writer_is_refused_by_redis(redis, compete):
    """The old leader was paused inside a write: it believes that it leads, and Redis knows better."""
    publish = Publish((), 5, panic=False, valid_for_seconds=60)
    first = compete("a")
    assert eventually(first.is_leader)
    late = type(first.fence())(first.fence().epoch, lambda: True)
    old, new = Publisher(redis), Publisher(redis)
    assert old.publish("a/b", publish, at=1.0, fence=first.fence()) == 1
    first.stop()
    second = compete("b")
    assert eventually(second.is_leader)
    assert new.publish("a/b", publish, at=2.0, fence=second.fence()) == 2
    with pytest.raises(LostLease):
        old.publish("a/b", publish, at=3.0, fence=late)


def test_times_have_six_digits():
    stamp = micro_time(dt.datetime(2026, 1, 2, 3, 4, 5, 0, tzinfo=dt.UTC))
    assert re.fullmatch(r"2026-01-02T03:04:05\.000000Z", stamp)
