"""What the controller publishes is what the balancer follows: the real script on one side, the real client on the other."""

import time

import pytest
from balancer_lab import POLICY, eventually

from controller.act.publish import Publisher
from controller.model.fence import ANY_EPOCH, Fence
from controller.model.plan import EndpointState, Publish, RankedEndpoint
from trimtab import Balancer
from trimtab.balancer import State

pytestmark = pytest.mark.integration

A, B, C = "http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://10.0.0.3:8000"


def publish(publisher, *rows, valid_for=60.0):
    endpoints = tuple(
        RankedEndpoint(endpoint, endpoint, rank, weight, state)
        for rank, (endpoint, weight, state) in enumerate(rows, start=1)
    )
    plan = Publish(endpoints=endpoints, limit=None, panic=False, valid_for_seconds=valid_for)
    return publisher.publish(POLICY, plan, at=time.time(), fence=Fence(ANY_EPOCH, lambda: True))


def test_the_balancer_follows_the_controller(lab):
    publisher = Publisher(lab.client)
    rows = [(A, 0.8, EndpointState.SERVING), (B, 0.2, EndpointState.STALE), (C, 0.0, EndpointState.EJECTED)]
    first = publish(publisher, *rows)
    with Balancer(POLICY, lab.url, poll_seconds=3600) as balancer:
        assert (balancer.status().seq, balancer.best(), balancer.status().state) == (first, A, State.FRESH)
        assert {balancer.pick().endpoint for _ in range(200)} == {A, B}
        eventually(lambda: lab.client.pubsub_numsub(lab.keys.changed)[0][1] == 1)
        second = publish(publisher, (C, 1.0, EndpointState.SERVING))
        eventually(lambda: balancer.status().seq == second)
        assert {balancer.pick().endpoint for _ in range(50)} == {C}


def test_weights_stand_after_the_published_key_has_expired(lab):
    publisher = Publisher(lab.client)
    publish(publisher, (A, 0.8, EndpointState.SERVING), (B, 0.2, EndpointState.SERVING), valid_for=0.3)
    with Balancer(POLICY, lab.url, poll_seconds=0.1) as balancer:
        eventually(lambda: balancer.status().fault == "no ranking is published")
        eventually(lambda: balancer.status().state is State.LAST_GOOD)
        assert balancer.best() == A
