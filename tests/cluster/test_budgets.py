"""A shared budget on a real API server: two HPAs that want the same replicas."""

import yaml

from trimtab.contract import Keys

UNITS = 10


def shared(world):
    """Two workloads of two pods whose policies share ten replicas; each may have up to twenty on its own."""
    for name in ("one", "two"):
        world.policy(name, least=(2, 6), most=(2, 20))
    budget = {
        "apiVersion": "trimtab/v1",
        "kind": "Budget",
        "metadata": {"name": "pool"},
        "spec": {"units": UNITS, "policies": [{"policy": world.key("one")}, {"policy": world.key("two")}]},
    }
    (world.policies / "budgets.yaml").write_text(yaml.safe_dump(budget))
    for name in ("one", "two"):
        world.deploy(name)


def ending(report, policy):
    """Why a policy is at its end, in words without the demand; empty while it is not."""
    overload = next(plan.overload for plan in report.plans if plan.policy == policy)
    return "" if overload is None else overload.reason.partition("; ")[2]


def test_hungry_services_share_what_there_is_and_never_more(world):
    shared(world)

    def most():
        return world.bounds("one")[1], world.bounds("two")[1]

    with world.daemon() as daemon:
        daemon.tick()

        def until(condition):
            def met(_report):
                assert sum(most()) <= UNITS
                return condition()

            return daemon.tick_until(met, timeout_seconds=60.0)

        world.backlog(50, "one")
        until(lambda: most() == (8, 2))
        assert "budget pool: " in daemon.decisions()
        until(lambda: world.ready("one") == 6)
        world.backlog(50, "two")
        # What `one` does not run it gives up, and only then is it given on; what runs it keeps.
        until(lambda: most() == (6, 4))
        assert world.bounds("one")[0] == 6
        assert "granted 4 (deficit 1 x priority 1)" in daemon.decisions()
        # Far below its own ceiling of 20, and yet at its end: clients and alerts are told.
        report = daemon.tick_until(lambda report: ending(report, world.key("two")), timeout_seconds=30.0)
        assert ending(report, world.key("two")).startswith("4 replicas run, the ceiling is 4 (budget pool: ")
        assert world.redis.exists(Keys(world.key("two")).overloaded)
        world.backlog(0, "one")
        world.backlog(0, "two")
        assert min(world.replicas("one"), world.replicas("two")) >= 2


def test_a_restarted_daemon_grants_nothing_before_it_knows_what_everybody_has(world):
    shared(world)
    with world.daemon() as daemon:
        daemon.tick()
        world.backlog(50, "one")
        daemon.tick_until(lambda _: world.bounds("one")[1] == 6, timeout_seconds=60.0)
    stood = world.bounds("one"), world.bounds("two")
    with world.daemon() as daemon:
        report = daemon.tick()
        assert (world.bounds("one"), world.bounds("two")) == stood
        assert not report.bugs
        daemon.tick_until(lambda _: world.bounds("one")[1] == 8, timeout_seconds=60.0)
