from controller.lead.fence import ANY_EPOCH, Leader
from controller.lead.solo import Solo


def test_a_lone_replica_leads_until_it_stops():
    leader: Leader = Solo()
    leader.start()
    fence = leader.fence()
    assert fence is not None
    assert fence.epoch == ANY_EPOCH
    assert fence.valid()
    leader.stop()
    assert not fence.valid()
    assert leader.fence() is None
    assert leader.status() == "stopped"
