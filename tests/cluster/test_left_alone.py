"""An HPA that is somebody else's, or paused, goes as the plain one beside it does; one that is put back stops nothing either."""

import pytest
from support.objects import hpa
from twin import STEERED, Counted, hpa_writes, killed, never_fewer_than_the_plain_one

TICKS_A_MINUTE = 4


def by_keda(world):
    world.kubectl("label", "hpa", STEERED, "scaledobject.keda.sh/name=web-scaler")
    return "belongs to KEDA ScaledObject web-scaler"


def by_an_owner(world):
    owner = world.api.post(f"/api/v1/namespaces/{world.namespace}/configmaps", {"metadata": {"name": "scaler"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "scaler", "uid": owner["metadata"]["uid"]}
    patch = {"metadata": {"ownerReferences": [{**reference, "controller": True}]}}
    world.api.merge(f"{world.paths.hpas}/{STEERED}", patch)
    return "belongs to ConfigMap scaler"


def by_a_pause(world):
    world.kubectl("annotate", "hpa", STEERED, "trimtab/paused=true")
    return "paused by trimtab/paused: true"


def spike_and_decay(twin, daemon, until=lambda: True):
    """More load than one of them had ever had, which lasts until the condition holds too, and its end."""
    world = twin.world
    world.backlog(30)
    twin.run(daemon, 6.0, lambda: min(twin.runs()) >= 8 and until())
    world.backlog(0)
    twin.run(daemon, 1.0, lambda: twin.runs() == (2, 2))


def replicas(history):
    """Of the steered one, once it is sure that nothing was stopped which the plain one kept."""
    steered, plain = history.replicas("web"), history.replicas("plain")
    never_fewer_than_the_plain_one(steered, plain)
    return steered


@pytest.mark.parametrize("reserve", [by_keda, by_an_owner, by_a_pause])
def test_what_is_left_alone_scales_as_if_nobody_were_there(twin, reserve):
    world = twin.world
    words = reserve(world)
    before = hpa_writes(world)
    with world.daemon() as daemon, Counted(world) as history:
        spike_and_decay(twin, daemon)
        assert words in daemon.decisions()
        steered = replicas(history)
        assert set(history.bounds()) <= {(2, 10)}
    assert hpa_writes(world) == before
    assert killed(steered) >= 6, "the HPA alone takes back what it gave"


class PutBack:
    """A daemon whose HPA somebody puts back each minute."""

    def __init__(self, daemon, put_back):
        self._daemon, self._put_back, self._ticks = daemon, put_back, 0
        self.decisions = daemon.decisions

    def tick(self):
        self._ticks += 1
        if self._ticks % TICKS_A_MINUTE == 0:
            self._put_back()
        return self._daemon.tick()


def test_what_is_put_back_each_minute_stops_nothing_that_the_plain_one_keeps(twin):
    world = twin.world
    theirs = hpa(STEERED, least=2, most=10, memory=None)
    with world.daemon() as daemon, Counted(world) as history:
        twin.run(daemon, 1.0, lambda: "trimtab/policy" in world.hpa()["metadata"].get("annotations", {}))
        # What is undone must be wanted again for it to be a fight, and calm wants nothing.
        others = PutBack(daemon, lambda: world.kubectl("apply", body=theirs))
        spike_and_decay(twin, others, lambda: any(reason == "TrimtabConflict" for reason, _ in world.events()))
        steered = replicas(history)
    assert world.bounds() == (2, 10)
    assert killed(steered) >= 6
