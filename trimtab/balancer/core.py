"""The pure heart that both balancers share: the endpoints, their in-flight counts, and the choice. No I/O, no Redis.

The choice is the weighted power of d choices: draw d endpoints, and take the one that a request more costs least. While clients share their counts
(see `heartbeat`), that is

    (own in-flight + shared in-flight + 1 + LEAD) x slowness x failing / weight

with `slowness` from everybody's answers (see `speed`), and the draw is by weight / slowness. A client that is alone sees too few answers for
that, and uses

    (own in-flight + 1) x penalty / weight

where `penalty` is the endpoint's own recent latency relative to the fleet's, times 4 per recent failure (see `health`).
Exceptions, in this order: when nothing is in flight that could be met (alone: at the endpoint drawn first) and it is well, the first draw is
taken at once, so that at low load the shares are exactly the weights; when every draw is unwell, more endpoints are looked at; weight 0 is used
only when nothing else is left.
Sources: Mitzenmacher 2001 for the power of choices under old information; Dahlin 2000 for believing information by its age; Finagle for
peak-EWMA; Envoy's `least_request`.
"""

from __future__ import annotations

import random as _random
import time
from bisect import bisect
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import exp, inf
from statistics import median_low
from threading import RLock

from trimtab.balancer import speed
from trimtab.balancer.health import FAILURE_FACTOR, Endpoint
from trimtab.balancer.table import Table
from trimtab.balancer.ticket import Ticket
from trimtab.errors import NoEndpoints

WELL = 2.0
"""The penalty up to which an idle endpoint is taken without looking at others: latencies within 2 x are noise.

Above it, with probability `WELL` / penalty, so that its share fades rather than ends."""
UNWELL = 12.0
"""The penalty above which more endpoints are looked at: two recent failures, or twelve times as slow as is typical."""
WIDE = 32
"""How many more are looked at, so that a fleet in trouble costs microseconds, not milliseconds."""
BASE_EVERY_SECONDS = 0.25
FORGET_SECONDS = 600.0
"""How long an endpoint that left the ranking is remembered, so that flapping does not wash its record clean."""
FADE_SECONDS = 0.85
"""Counts of this age are believed by 1/e. Simulated: at one heartbeat a second 0.3 is best of 0.1 to 1, at four 0.6 to 0.8."""
AGE_SECONDS = 1.0
_FRONT = 1.0 + speed.LEAD
_IDLE = 0.5
"""Fewer requests in flight in the whole fleet than this are none."""
_NOBODY: frozenset[str] = frozenset()


class Core:
    """Chooses, counts and learns. Safe to use from threads, from signal handlers and from finalizers.

    Args:
        choices: d, how many endpoints are drawn; more than 10 is no better.
        clock: seconds, monotonic.
        random: uniform in [0, 1).
    """

    def __init__(
        self,
        *,
        choices: int = 8,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random.random,
    ) -> None:
        if choices < 1:
            raise ValueError(f"choices is {choices}; it must be at least 1")
        self.clock = clock
        self._more_draws = range(choices - 1)
        self._random = random
        self._lock = RLock()
        self._known: dict[str, Endpoint] = {}
        self._table = Table(())
        self._base = 1.0
        self._base_due = 0.0
        self._sharing = False
        self.held = 0
        """Requests of this process in flight."""
        self.picks = 0
        """Requests that were ever counted."""
        self._met = 0.0
        self._shared_at = 0.0
        self._shared_age = AGE_SECONDS
        self._unit: float | None = None
        self._seen_by_others: Mapping[str, tuple[float, float]] = {}
        self._dropped: deque[Ticket] = deque()
        self.generation = 0
        self.on_refresh: Callable[[float], None] | None = None
        """Called a few times a second with the time, while endpoints are being picked."""

    def install(self, weights: Iterable[tuple[str, float]]) -> None:
        """Replace the table: (endpoint, weight) pairs, best first. What is known of each endpoint is kept."""
        now = self.clock()
        with self._lock:
            for endpoint in self._table.everyone:
                endpoint.seen_at = now
            members = []
            for name, weight in weights:
                endpoint = self._known.get(name) or Endpoint(name)
                endpoint.weight = weight
                endpoint.inverse = 1.0 / weight if weight > 0.0 else 1.0
                endpoint.seen_at = now
                self._known[name] = endpoint
                members.append(endpoint)
            kept = {e.name: e for e in self._known.values() if e.in_flight or now - e.seen_at < FORGET_SECONDS}
            self._known = kept
            self._table = Table(members)
            self._base_due = 0.0
            if self._sharing:
                self._judge(now)
                self._believe(now)

    def names(self) -> tuple[str, ...]:
        """The endpoints of the table, best first."""
        return tuple(e.name for e in self._table.everyone)

    def best(self) -> str:
        """The endpoint that is ranked first among those with weight, else first of all. Raises `NoEndpoints`."""
        table = self._table
        for endpoint in table.serving or table.idle:
            return endpoint.name
        raise NoEndpoints

    def take(self, exclude: Collection[str] = ()) -> Ticket:
        """Choose an endpoint and count one request on it. Raises `NoEndpoints` when there is none that is not excluded."""
        now = self.clock()
        if now >= self._base_due:
            self._refresh(now)
        if self._dropped:
            self.collect()
        endpoint = self.choose(now, exclude) if exclude else self.choose(now)
        ticket = Ticket(self, endpoint, now)
        with self._lock:
            endpoint.in_flight += 1
            self.held += 1
            self.picks += 1
            ticket.open = True
        return ticket

    def choose(self, now: float, exclude: Collection[str] = ()) -> Endpoint:
        """The choice alone, nothing counted."""
        table = self._table
        base = self._base
        serving, cumulative, total = table.drawing
        if exclude or not serving:
            return self._choose_besides(frozenset((exclude,) if isinstance(exclude, str) else exclude), now)
        if self._sharing:
            return self._choose_together(now)
        draw = self._random
        best = serving[bisect(cumulative, draw() * total)]
        waiting = best.in_flight
        penalty = best.penalty(now, base)
        if not waiting and (penalty <= WELL or self._bears(best, now)):
            return best
        cost = (waiting + 1) * penalty * best.inverse
        for _ in self._more_draws:
            other = serving[bisect(cumulative, draw() * total)]
            if other is best:
                continue
            others = other.penalty(now, base)
            others_cost = (other.in_flight + 1) * others * other.inverse
            if others_cost < cost:
                best, cost, penalty = other, others_cost, others
        if penalty > UNWELL:
            return self._cheapest([best, *table.remaining(_NOBODY, draw, WIDE)], now)
        return best

    def _choose_together(self, now: float) -> Endpoint:
        """The choice while counts are shared."""
        table = self._table
        draw = self._random
        if self.held + self._met < _IDLE:
            serving, cumulative, total = table.level
            best = serving[bisect(cumulative, draw() * total)]
            if not best.failures:
                return best
        serving, cumulative, total = table.drawing
        best = serving[bisect(cumulative, draw() * total)]
        cost = (best.in_flight + best.shared + _FRONT) * best.scale
        if best.failures:
            cost *= FAILURE_FACTOR ** best.recent_failures(now)
        for _ in self._more_draws:
            other = serving[bisect(cumulative, draw() * total)]
            if other is best:
                continue
            others_cost = (other.in_flight + other.shared + _FRONT) * other.scale
            if other.failures:
                others_cost *= FAILURE_FACTOR ** other.recent_failures(now)
            if others_cost < cost:
                best, cost = other, others_cost
        if best.failures and FAILURE_FACTOR ** best.recent_failures(now) > UNWELL:
            return self._cheapest([best, *table.remaining(_NOBODY, draw, WIDE)], now)
        return best

    def _bears(self, idle: Endpoint, now: float) -> bool:
        """Whether an idle endpoint is taken without looking at others, though it was slow: the slower, the less likely."""
        if idle.failures and idle.recent_failures(now) > 0.5:
            return False
        return self._random() * idle.penalty(now, self._base) <= WELL

    def _choose_besides(self, excluded: frozenset[str], now: float) -> Endpoint:
        """The same choice among those that are not excluded; the rare case, so clear rather than quick."""
        table = self._table
        serving, cumulative, total = table.drawing
        wanted = len(self._more_draws) + 1
        drawn: list[Endpoint] = []
        for _ in range(4 * wanted if serving else 0):
            endpoint = serving[bisect(cumulative, self._random() * total)]
            if endpoint.name not in excluded:
                drawn.append(endpoint)
                if len(drawn) == wanted:
                    break
        found = drawn or table.remaining(excluded, self._random, WIDE)
        if not found:
            raise NoEndpoints(excluded=excluded if table.everyone else ())
        first = found[0]
        waiting = self.held + self._met if self._sharing else first.in_flight
        if drawn and waiting < _IDLE and self._bears(first, now):
            return first
        return self._cheapest(found, now)

    def _cheapest(self, endpoints: Sequence[Endpoint], now: float) -> Endpoint:
        draw = self._random
        # The draw breaks ties: without it, the first of equals would take every request.
        return min(endpoints, key=lambda e: (self._cost(e, now), draw()))

    def _cost(self, endpoint: Endpoint, now: float) -> float:
        if self._sharing:
            failing: float = FAILURE_FACTOR ** endpoint.recent_failures(now)
            return (endpoint.in_flight + endpoint.shared + _FRONT) * endpoint.scale * failing
        return (endpoint.in_flight + 1) * endpoint.penalty(now, self._base) * endpoint.inverse

    def release(self, ticket: Ticket, ok: bool | None, seconds: float | None) -> None:
        """Uncount a request and learn from it. The first call for a ticket counts; later ones do nothing."""
        now = self.clock()
        endpoint = ticket.slot
        with self._lock:
            if not ticket.open:
                return
            ticket.open = False
            if ticket.generation != self.generation:
                return  # taken before a fork: the parent counts it
            endpoint.in_flight -= 1
            self.held -= 1
            took = now - ticket.started if seconds is None else seconds
            self._observe(endpoint, took, ok, now)
            if ok and 0.0 <= took < inf:
                work = took / (ticket.met + _FRONT)
                if self._unit is not None:
                    work = min(work, speed.SLOWEST * self._unit * endpoint.inverse)
                endpoint.speed.observe(work, now)

    def record(self, name: str, seconds: float, ok: bool | None) -> None:
        """Learn from a request that no ticket was taken for. An endpoint that is not known is ignored."""
        if not 0.0 <= seconds < float("inf"):
            raise ValueError(f"seconds is {seconds}; it must be a finite number, 0 or more")
        now = self.clock()
        with self._lock:
            endpoint = self._known.get(name)
            if endpoint is not None:
                self._observe(endpoint, seconds, ok, now)

    def _observe(self, endpoint: Endpoint, seconds: float, ok: bool | None, now: float) -> None:
        first = endpoint.latency is None
        endpoint.observe(seconds, ok, now, self._base)
        if first and endpoint.latency is not None:
            self._base_due = 0.0

    def _refresh(self, now: float) -> None:
        """Take the fleet's median latency anew: what an endpoint without recent samples is believed to take."""
        if self.on_refresh is not None:
            self.on_refresh(now)
        with self._lock:
            self._base_due = now + BASE_EVERY_SECONDS
            table = self._table
            latencies = [e.expected_seconds(now, self._base) for e in table.everyone if e.latency is not None]
            if self._sharing and now - self._shared_at > 2.0 * self._shared_age:
                self._believe(now)
            if latencies:
                # The lower one of an even number: of two endpoints, the quick one is what is typical.
                self._base = max(median_low(latencies), 1e-9)

    def drop(self, ticket: Ticket) -> None:
        """A ticket was garbage-collected unreleased. Takes no lock: a finalizer may run in the middle of anything."""
        self._dropped.append(ticket)

    def collect(self) -> None:
        """Release what `drop` was told of."""
        while self._dropped:
            try:
                ticket = self._dropped.popleft()
            except IndexError:  # another thread was faster
                return
            self.release(ticket, None, None)

    def in_flight(self) -> dict[str, int]:
        """Requests of this process that have not been released, by endpoint; only those that are not zero."""
        self.collect()
        with self._lock:
            return {name: e.in_flight for name, e in self._known.items() if e.in_flight}

    def recent_failures(self) -> dict[str, float]:
        """Recent failures that this process saw, by endpoint; only those that matter."""
        now = self.clock()
        with self._lock:
            found = {name: e.recent_failures(now) for name, e in self._known.items() if e.failures}
        return {name: value for name, value in found.items() if value >= 0.05}

    def evidence(self) -> dict[str, tuple[float, float]]:
        """What this process saw served lately, by endpoint: (answers, seconds per place in line), fading; see `speed`."""
        now = self.clock()
        with self._lock:
            found = {name: e.speed.evidence(now) for name, e in self._known.items() if e.speed.served}
        return {name: (served, work) for name, (served, work) in found.items() if served >= speed.LEAST}

    def share(
        self,
        counts: Mapping[str, float],
        served: Mapping[str, tuple[float, float]] | None = None,
        age_seconds: float = AGE_SECONDS,
    ) -> None:
        """Set what all other clients have in flight, and what they saw served, by endpoint; absent means 0.

        Args:
            counts: requests in flight.
            served: what their `evidence()` adds up to.
            age_seconds: how old all this is by the time it is used, on average.
        """
        now = self.clock()
        with self._lock:
            for endpoint in self._known.values():
                endpoint.others = counts.get(endpoint.name, 0.0)
            self._sharing = True
            self._shared_at = now
            self._shared_age = age_seconds
            self._seen_by_others = served or {}
            self._believe(now)
            self._judge(now)

    def alone(self) -> None:
        """Nothing is known of the other clients any more."""
        with self._lock:
            self._sharing = False
            self._met = 0.0
            self._unit = None
            self._seen_by_others = {}
            for endpoint in self._known.values():
                endpoint.others = endpoint.shared = 0.0
            self._table.drawing = self._table.level

    def _believe(self, now: float) -> None:
        """What sets an endpoint apart from its fair share of others' requests, by weight, is believed the less the older it is.

        Old counts mislead everybody the same way; Dahlin 2000: interpret load information by its age.
        """
        belief = self._belief(max(self._shared_age, now - self._shared_at))
        members = self._table.everyone
        self._met = sum(e.others for e in members)
        fair = (1.0 - belief) * self._met
        for endpoint in members:
            endpoint.shared = belief * endpoint.others + fair * endpoint.weight

    @staticmethod
    def _belief(age_seconds: float) -> float:
        return exp(-age_seconds / FADE_SECONDS)

    def _judge(self, now: float) -> None:
        """How slow each endpoint is, from what everybody saw."""
        seen, rows = self._seen_by_others, []
        for endpoint in self._table.serving:
            count, work = endpoint.speed.evidence(now)
            more = seen.get(endpoint.name)
            rows.append(
                (endpoint.weight, count, work) if more is None else (endpoint.weight, count + more[0], work + more[1])
            )
        self._unit = fleet = speed.unit(rows)
        belief = self._belief(self._shared_age)
        for endpoint, (weight, count, work) in zip(self._table.serving, rows, strict=True):
            slower = 1.0 if fleet is None else speed.slowness(weight, count, work, fleet, belief)
            endpoint.scale = endpoint.inverse * slower
        self._table.tilt()

    def after_fork(self) -> None:
        """In the child of a fork: nothing is in flight here, and the lock may have been held by a thread that is gone."""
        self._lock = RLock()
        self.generation += 1
        self._dropped.clear()
        self.held = 0
        for endpoint in self._known.values():
            endpoint.in_flight = 0
        self.alone()
