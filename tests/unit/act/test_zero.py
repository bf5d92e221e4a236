"""minReplicas 0 is tried by a dry run, once; the answer holds for an hour."""

import pytest

from controller.act.zero import Zero, without_zero
from controller.deadline import Deadline
from controller.errors import Rejected, Unreachable
from controller.model.plan import HpaWrite
from controller.model.snapshot import HpaSpec

REFUSED = Rejected("Kubernetes", "422 spec.minReplicas: Invalid value: 0: must be greater than or equal to 1")


class Kube:
    def __init__(self, error=None):
        self.error, self.asked = error, []

    def apply(self, path, body, *, force, dry_run, deadline):  # noqa: ARG002 - the client's
        self.asked.append(dry_run)
        if self.error:
            raise self.error
        return {}


def write(before, after):
    old = None if before is None else HpaSpec("Deployment", "m", before, 10, ())
    return HpaWrite("models", "h", old, HpaSpec("Deployment", "m", after, 10, ()), "")


def ask(zero, before=1, after=0):
    return zero.refusal(write(before, after), "/h", {}, Deadline.after(5))


@pytest.mark.parametrize(("error", "refused"), [(None, False), (REFUSED, True)], ids=["taken", "refused"])
def test_the_server_is_asked_once(error, refused):
    kube, now = Kube(error), [0.0]
    zero = Zero(kube, lambda: now[0])
    for _ in range(10):
        assert bool(ask(zero)) is refused
    assert kube.asked == [True]
    now[0] += 3601.0
    ask(zero)
    assert len(kube.asked) == (2 if refused else 1), "a refusal is asked about again: servers are upgraded"


@pytest.mark.parametrize(("before", "after"), [(2, 1), (0, 0), (None, 1), (0, 1)])
def test_who_asks_for_no_zero_asks_nothing(before, after):
    kube = Kube(REFUSED)
    assert ask(Zero(kube), before, after) is None
    assert kube.asked == []


@pytest.mark.parametrize("error", [Unreachable("Kubernetes", "down"), Rejected("Kubernetes", "422 another fault")])
def test_another_failure_is_no_answer(error):
    zero = Zero(Kube(error))
    with pytest.raises(type(error)):
        ask(zero)


@pytest.mark.parametrize(("before", "least"), [(None, 1), (1, 1), (3, 3)])
def test_the_least_that_any_server_takes(before, least):
    assert without_zero(write(before, 0)).after.min_replicas == least
