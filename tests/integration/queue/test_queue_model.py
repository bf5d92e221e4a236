"""Any sequence of calls, against a model in Python: nothing lost, never a start above the limit, counters that add up."""

import uuid

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trimtab import RequestQueue
from trimtab.errors import LeaseLost
from trimtab.queue.protocol import Request

pytestmark = pytest.mark.integration


def machine(url):  # noqa: C901 - one class, whose rules are its branches
    class QueueMachine(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.queue = RequestQueue(f"model/{uuid.uuid4().hex}", redis=url, default_limit=4, max_attempts=3)
            self.limit = 4
            self.known = {}  # id -> waiting, leased, delayed, done, dead
            self.cost = {}
            self.jobs = {}
            self.stale = []

        def teardown(self):
            self.queue.close()

        @rule(cost=st.integers(1, 6), priority=st.integers(-3, 3), again=st.booleans())
        def enqueue(self, cost, priority, again):
            name = min(self.known) if again and self.known else uuid.uuid4().hex
            self.queue.enqueue_many([Request(name.encode(), name, priority, None, cost)])
            if name not in self.known:
                self.known[name] = "waiting"
                self.cost[name] = cost

        @rule(limit=st.integers(0, 8))
        def change_limit(self, limit):
            self.queue.set_limit(limit)
            self.limit = limit

        def took(self, jobs, before):
            for job in jobs:
                assert self.known[job.id] == "waiting"
                assert job.payload == job.id.encode()
                self.known[job.id] = "leased"
                self.jobs[job.id] = job
            if jobs:
                assert self.used() <= self.limit, "a start above the limit"
            elif before < self.limit:
                dearest = max((self.cost[name] for name, state in self.known.items() if state == "waiting"), default=0)
                assert dearest == 0 or before + min(dearest, self.limit) > self.limit, "there was room"

        def used(self):
            return sum(job.charged for job in self.jobs.values())

        @rule(n=st.integers(1, 5))
        def take(self, n):
            before = self.used()
            self.took(self.queue.take(n), before)

        @precondition(lambda self: self.jobs)
        @rule(data=st.data(), take=st.integers(0, 3))
        def complete(self, data, take):
            job = self.jobs.pop(data.draw(st.sampled_from(sorted(self.jobs))))
            self.stale.append(job)
            self.known[job.id] = "done"
            before = self.used()
            jobs = self.queue.complete(job, b"result", take=take)
            if take:
                self.took(jobs, before)

        @precondition(lambda self: self.jobs)
        @rule(data=st.data(), how=st.sampled_from(["retry", "delayed", "dead", "back"]))
        def put_down(self, data, how):
            job = self.jobs.pop(data.draw(st.sampled_from(sorted(self.jobs))))
            if how == "back":
                self.queue.release([job])
                self.known[job.id] = "waiting"
            else:
                self.queue.fail(job, retry=how != "dead", after_seconds=3600 if how == "delayed" else 0)
                buried = how == "dead" or job.attempt == 3
                self.known[job.id] = "dead" if buried else {"retry": "waiting", "delayed": "delayed"}[how]
            with pytest.raises(LeaseLost):
                self.queue.complete(job)

        @precondition(lambda self: self.stale)
        @rule()
        def complete_twice(self):
            self.queue.complete(self.stale[-1], b"result")  # the same completion again is no error, and no second one

        @precondition(lambda self: "dead" in self.known.values())
        @rule()
        def requeue(self):
            name = next(name for name, state in self.known.items() if state == "dead")
            assert self.queue.requeue([name]) == 1
            self.known[name] = "waiting"

        @invariant()
        def agrees(self):
            seen = self.queue.inspect()
            states = list(self.known.values())
            assert seen.waiting == states.count("waiting")
            assert seen.delayed == states.count("delayed")
            assert seen.in_flight == states.count("leased") == len(self.jobs)
            assert seen.dead == states.count("dead")
            assert seen.slots_in_use == self.used()
            count = seen.counters
            assert count.arrivals == len(states)
            assert count.completions == states.count("done")
            assert count.arrivals + count.requeued == (
                count.completions + count.dead + seen.waiting + seen.delayed + seen.in_flight
            )
            assert count.starts == count.completions + count.failures + count.released + seen.in_flight

    return QueueMachine


def test_any_sequence_of_calls(server):
    case = machine(server.url).TestCase
    case.settings = settings(
        max_examples=30,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    case().runTest()
