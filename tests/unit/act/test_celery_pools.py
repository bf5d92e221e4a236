"""What is asked of Celery's workers, against a stand-in for its remote control that behaves as Celery 5 does."""

from dataclasses import dataclass, field

import pytest

from controller.act.celery_pools import MISSES, CeleryPools
from controller.errors import LostLease
from controller.model.outcome import Result
from controller.policy.output import Output

OUTPUT = Output(kind="celery", queue="celery", url="redis://broker:6379/0")


@dataclass
class Worker:
    processes: int = 4
    busy: int = 0
    queues: tuple[str, ...] = ("celery",)
    scale: tuple[int, int] | None = None
    pool: str = "prefork"
    late: bool = False

    @property
    def slots(self):
        return (self.scale[1] if self.scale else self.processes) if self.queues else 0


@dataclass
class Workers:
    """Several workers behind one remote control. `asked`: the commands that change something."""

    workers: dict[str, Worker] = field(default_factory=dict)
    asked: list[tuple] = field(default_factory=list)
    most: int = 0

    def ask(self, command, workers=None, **arguments):
        names = [name for name in self.workers if workers is None or name in workers]
        replies = {
            name: getattr(self, command)(name, self.workers[name], **arguments)
            for name in names
            if not self.workers[name].late
        }
        self.most = max(self.most, self.slots())
        return replies

    def slots(self):
        return sum(worker.slots for worker in self.workers.values())

    def stats(self, _name, worker):
        if worker.pool == "threads":
            return {"pool": {"max-concurrency": worker.processes}}
        scale = {"autoscaler": {"min": worker.scale[0], "max": worker.scale[1]}} if worker.scale else {}
        return {"pool": {"processes": list(range(worker.processes)), "max-concurrency": 99}, **scale}

    def active_queues(self, _name, worker):
        return [{"name": queue} for queue in worker.queues]

    def pool_grow(self, name, worker, n):
        self.asked.append(("grow", name, n))
        worker.processes += n
        return {"ok": "pool will grow"}

    def pool_shrink(self, name, worker, n):
        self.asked.append(("shrink", name, n))
        idle = worker.processes - worker.busy
        worker.processes -= min(n, idle)
        return {"ok": "pool will shrink"} if idle >= n else {"error": 'ValueError("Can\'t shrink pool.")'}

    def autoscale(self, name, worker, max, min):  # noqa: A002 - Celery's words
        self.asked.append(("autoscale", name, min, max))
        worker.scale = (min, max)
        return {"ok": "autoscale now"}

    def cancel_consumer(self, name, worker, queue):
        self.asked.append(("cancel", name))
        worker.queues = tuple(other for other in worker.queues if other != queue)
        return {"ok": "no longer consuming"}

    def add_consumer(self, name, worker, queue):
        self.asked.append(("add", name))
        worker.queues = (*worker.queues, queue)
        return {"ok": "add consumer"}


def turn(pools, control, limit, output=OUTPUT, later=60.0):
    start = pools.clock()
    pools.clock = lambda: start + later
    return pools.apply(control, output, limit, lambda: None)


def workers(**given):
    return Workers({name: worker if isinstance(worker, Worker) else Worker(worker) for name, worker in given.items()})


def test_a_limit_is_shared_out_and_then_left_alone():
    control, pools = workers(a=4, b=4, c=4), CeleryPools()
    assert turn(pools, control, 7)[0] is Result.DONE
    assert sorted(worker.processes for worker in control.workers.values()) == [2, 2, 3]
    control.asked.clear()
    assert turn(pools, control, 7) == (Result.UNCHANGED, "7 slots for a limit of 7")
    assert control.asked == []


def test_what_was_changed_by_hand_is_set_right():
    control, pools = workers(a=2, b=2), CeleryPools()
    turn(pools, control, 4)
    control.workers["a"].processes = 9
    turn(pools, control, 4)
    assert control.asked == [("shrink", "a", 7)]


def test_shrinking_comes_first_so_that_a_move_never_exceeds_the_limit():
    control = workers(a=1, b=7)
    turn(CeleryPools(), control, 8)
    assert [step[0] for step in control.asked] == ["shrink", "grow"]
    assert control.most == 8


def test_what_busy_workers_keep_is_given_to_nobody_else():
    control, pools = workers(a=1, b=Worker(7, busy=7)), CeleryPools()
    result, detail = turn(pools, control, 8)
    assert (result, control.slots()) == (Result.UNCHANGED, 8)
    assert "b: pool_shrink" in detail
    control.workers["b"].busy = 0
    turn(pools, control, 8)
    assert (control.workers["a"].processes, control.workers["b"].processes, control.most) == (4, 4, 8)


def test_a_pool_that_is_still_shrinking_is_not_asked_again():
    control, pools = workers(a=4, b=4), CeleryPools()
    turn(pools, control, 4)
    for worker in control.workers.values():
        worker.processes = 4  # not yet gone
    control.asked.clear()
    turn(pools, control, 2, later=1.0)
    assert control.asked == []
    turn(pools, control, 0, later=1.0)
    assert sorted(control.asked) == [("cancel", "a"), ("cancel", "b")]
    turn(CeleryPools(), control, 4)
    turn(pools, control, 2)
    assert control.slots() == 2


def test_a_pool_that_is_still_growing_is_not_asked_again():
    control, pools = workers(a=1, b=1), CeleryPools()
    turn(pools, control, 8)
    for worker in control.workers.values():
        worker.processes = 1  # not yet there
    control.asked.clear()
    assert turn(pools, control, 8, later=1.0)[1] == "8 slots for a limit of 8"
    assert control.asked == []
    turn(pools, control, 8)
    assert control.slots() == 8


def test_fewer_slots_than_workers_tell_some_to_take_nothing_and_later_to_take_again():
    control, pools = workers(a=4, b=4, c=4), CeleryPools()
    turn(pools, control, 2)
    assert control.slots() == 2
    assert sum(bool(worker.queues) for worker in control.workers.values()) == 2
    turn(pools, control, 0)
    assert control.slots() == 0
    turn(CeleryPools(), control, 6)  # a new leader, which remembers nothing
    assert [worker.slots for worker in control.workers.values()] == [2, 2, 2]
    assert control.most == 12


def test_no_answer_means_hold():
    control = workers(a=Worker(4, late=True))
    result, detail = turn(CeleryPools(), control, 2)
    assert (result, control.asked) == (Result.UNCHANGED, [])
    assert "no worker answered" in detail


def test_when_nobody_answers_nobody_counts_as_gone():
    control, pools = workers(a=4, b=4), CeleryPools()
    turn(pools, control, 8)
    for worker in control.workers.values():
        worker.late = True
    for _ in range(MISSES + 1):
        turn(pools, control, 8)
    control.workers["a"].late = False
    turn(pools, control, 8)
    assert control.workers["a"].processes == 4


def test_a_late_worker_keeps_its_slots_until_it_counts_as_gone():
    control, pools = workers(a=4, b=4), CeleryPools()
    turn(pools, control, 8)
    control.workers["a"].late = True
    for _ in range(MISSES - 1):
        turn(pools, control, 8)
        assert control.workers["b"].processes == 4
    turn(pools, control, 8)
    assert control.workers["b"].processes == 8


def test_a_worker_that_replaces_another_is_not_stopped_meanwhile():
    control, pools = workers(old=4), CeleryPools()
    turn(pools, control, 4)
    control.workers = {"old": Worker(4, late=True), "new": Worker(4)}
    turn(pools, control, 4)
    assert control.workers["new"].slots == 1
    for _ in range(MISSES):
        turn(pools, control, 4)
    assert control.workers["new"].slots == 4


def test_an_autoscaled_worker_gets_a_range():
    control = workers(a=Worker(1, scale=(2, 10)), b=4)
    turn(CeleryPools(), control, 3)
    assert ("autoscale", "a", 2, 2) in control.asked
    assert control.slots() == 3


def test_pools_that_cannot_be_resized_count_and_are_left_alone():
    control = workers(a=Worker(6, pool="threads"), b=4)
    turn(CeleryPools(), control, 8)
    assert control.asked == [("shrink", "b", 2)]


def test_workers_of_other_queues_are_not_ours():
    control = workers(a=Worker(4, queues=("mail",)), b=4)
    turn(CeleryPools(), control, 8)
    assert control.asked == [("grow", "b", 4)]


def test_no_worker_gets_more_than_it_may_have():
    control = workers(a=4, b=4)
    turn(CeleryPools(), control, 40, Output(kind="celery", queue="celery", url="redis://b", maxPerWorker=6))
    assert [worker.processes for worker in control.workers.values()] == [6, 6]


def test_nothing_is_sent_once_the_lead_is_lost():
    control = workers(a=4, b=4)

    def allowed():
        if control.asked:
            raise LostLease("lost")

    with pytest.raises(LostLease):
        CeleryPools().apply(control, OUTPUT, 2, allowed)
    assert len(control.asked) == 1
