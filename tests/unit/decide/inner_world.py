"""A queue in front of a fleet with a sharp knee, as the inner loop sees it."""

from math import ceil, log2

from decide_world import policy

from controller.decide.inner import decide_limit
from controller.model.inner import InnerMemory, LimitView, Outlook, QueueCount

POLICY = policy(concurrency={"adaptive": True, "max": 400}, slo={"latency": "1s"}, interval="5s")


class Queue:
    """A queue in front of a fleet with a sharp knee; `turn` lets one second pass and decides."""

    def __init__(self, limit=20, knee=60.0, base=0.1, ready=4):
        self.limit, self.knee, self.base, self.ready = limit, knee, base, ready
        self.now, self.completions, self.slots, self.service = 1000.0, 0, 0.0, {}
        self.memory, self.doubt, self.mem, self.silent_since, self.demand = InnerMemory(), "", None, None, 1e9
        self.why = ""

    def count(self):
        return QueueCount(
            self.now, round(self.completions), self.slots, dict(self.service), round(self.in_flight), 1000
        )

    @property
    def in_flight(self):
        return min(self.limit, self.demand)

    def turn(self, seconds=1.0):
        """So long passes, and it decides."""
        self.turn_on(seconds)
        return self.decide()

    def turn_on(self, seconds):
        """So long passes."""
        throughput = min(self.in_flight, self.knee) / self.base
        response = self.in_flight / throughput if throughput else 0.0
        before = round(self.completions)
        self.completions += throughput * seconds
        self.slots += self.in_flight * seconds
        if response:
            bucket = min(max(ceil(4 * log2(response * 1000)), 0), 80)
            self.service[bucket] = self.service.get(bucket, 0) + round(self.completions) - before
        self.now += seconds

    def decide(self, count=None):
        at = self.now if self.silent_since is None else self.silent_since
        said = Outlook(at, self.ready, self.mem, self.doubt, default=5 * self.ready or None)
        plan, self.memory = decide_limit(
            POLICY, LimitView(self.limit, count or self.count()), said, self.memory, self.now
        )
        if plan is not None:
            assert plan.before == self.limit
            self.limit, self.why = plan.after, plan.why
        return plan

    def turns(self, n):
        limits = []
        for _ in range(n):
            self.turn()
            limits.append(self.limit)
        return limits
