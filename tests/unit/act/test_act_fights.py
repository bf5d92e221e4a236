"""Who undoes what we write is noticed, named and left in peace; a person who does so once is not."""

import pytest

from controller.act.fights import Fights

PATH = "/hpa"


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def live(minimum, *owners, maximum=10, installation="here"):
    fields = {"f:spec": {"f:minReplicas": {}, "f:maxReplicas": {}}}
    return {
        "metadata": {
            "annotations": {"trimtab/installation": installation},
            "managedFields": [{"manager": owner, "operation": "Update", "fieldsV1": fields} for owner in owners],
        },
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "m"},
            "minReplicas": minimum,
            "maxReplicas": maximum,
            "metrics": [],
        },
    }


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def fights(clock):
    return Fights("here", clock)


def undone(fights, clock, times, by=("kubectl-replace",), every=60.0):
    """So often: a write of ours, undone at once, looked at a little later; what was said each time."""
    said = []
    for _ in range(times):
        fights.wrote(PATH, live(4, "trimtab"))
        clock.now += every
        said.append(fights.quiet(PATH, live(2, *by)))
    return said


def test_once_is_a_change_of_mind_and_twice_is_a_fight(fights, clock):
    once, twice = undone(fights, clock, 2)
    assert once is None
    assert "kubectl-replace changed minReplicas back 2 times" in twice


def test_it_is_looked_at_once_however_often_one_looks(fights, clock):
    undone(fights, clock, 1)
    for _ in range(50):
        clock.now += 15.0
        assert fights.quiet(PATH, live(2, "kubectl-replace")) is None


def test_the_quiet_time_is_long_and_grows(fights, clock):
    waits = []
    undone(fights, clock, 1)
    for _ in range(4):
        undone(fights, clock, 1)
        start = clock.now
        while fights.quiet(PATH, live(2, "kubectl-replace")):
            clock.now += 10.0
        waits.append(clock.now - start)
    assert waits[:2] == [600.0, 1200.0]
    assert waits == sorted(waits)
    assert max(waits) <= 3600.0


def test_twice_within_two_hours_is_no_fight(fights, clock):
    assert undone(fights, clock, 4, every=3700.0) == [None] * 4


def test_another_replica_of_our_own_is_no_enemy_and_another_installation_is_one(fights, clock):
    assert undone(fights, clock, 4, by=("trimtab",)) == [None] * 4
    other = live(2, "trimtab", installation="there")
    for _ in range(2):
        fights.wrote(PATH, live(4, "trimtab"))
        said = fights.quiet(PATH, other)
    assert "Trimtab in there changed minReplicas back" in said


def test_what_was_never_written_or_is_gone_is_no_fight(fights):
    assert fights.quiet(PATH, live(2, "kubectl")) is None
    fights.wrote(PATH, live(4, "trimtab"))
    assert fights.quiet(PATH, None) is None
    assert fights.quiet(PATH, live(4, "trimtab")) is None
