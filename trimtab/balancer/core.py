"""The pure heart that both balancers share: the endpoints, their in-flight counts, and the choice. No I/O, no Redis.

The choice is the weighted power of d choices. Draw d endpoints in proportion to their published weights, and take the one with
the least

    (own in-flight + shared in-flight + 1) x penalty / weight

where `penalty` is the endpoint's own recent latency relative to the fleet's, times 4 per recent failure (see `health`).
Exceptions, in this order: the first draw is taken at once when it is idle and well, so that at low load the shares are exactly
the weights; when every draw is unwell, more endpoints are looked at; weight 0 is used only when nothing else is left.
Sources: Mitzenmacher 2001 for the power of choices under old information; Finagle for peak-EWMA; Envoy's `least_request`.
"""

from __future__ import annotations

import random as _random
import time
from bisect import bisect
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import median_low
from threading import RLock

from trimtab.balancer.health import Endpoint
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
BELIEF = 0.3
"""How much of a second-old difference is believed: simulated, best of 0.1, 0.2, 0.3, 0.5, 0.7 and 1 from 1 to 200 clients."""
_NOBODY: frozenset[str] = frozenset()


class Core:
    """Chooses, counts and learns. Safe to use from threads, from signal handlers and from finalizers.

    Args:
        choices: d, how many endpoints are drawn; 2 to 5 is plenty.
        belief: how much of what other clients' counts set apart is believed, 0 to 1; more when they are younger than a second.
        clock: seconds, monotonic.
        random: uniform in [0, 1).
    """

    def __init__(
        self,
        *,
        choices: int = 5,
        belief: float = BELIEF,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random.random,
    ) -> None:
        if choices < 1:
            raise ValueError(f"choices is {choices}; it must be at least 1")
        self.clock = clock
        self._more_draws = range(choices - 1)
        self._belief = belief
        self._random = random
        self._lock = RLock()
        self._known: dict[str, Endpoint] = {}
        self._table = Table(())
        self._base = 1.0
        self._base_due = 0.0
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
            ticket.open = True
        return ticket

    def choose(self, now: float, exclude: Collection[str] = ()) -> Endpoint:
        """The choice alone, nothing counted."""
        table = self._table
        base = self._base
        serving, cumulative, total = table.drawing()
        if exclude or not serving:
            return self._choose_besides(frozenset((exclude,) if isinstance(exclude, str) else exclude), now)
        draw = self._random
        best = serving[bisect(cumulative, draw() * total)]
        waiting = best.in_flight + best.shared
        penalty = best.penalty(now, base)
        if not waiting and (penalty <= WELL or self._bears(best, now)):
            return best
        cost = (waiting + 1) * penalty * best.inverse
        for _ in self._more_draws:
            other = serving[bisect(cumulative, draw() * total)]
            if other is best:
                continue
            others = other.penalty(now, base)
            others_cost = (other.in_flight + other.shared + 1) * others * other.inverse
            if others_cost < cost:
                best, cost, penalty = other, others_cost, others
        if penalty > UNWELL:
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
        serving, cumulative, total = table.drawing()
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
        if drawn and not first.in_flight + first.shared and self._bears(first, now):
            return first
        return self._cheapest(found, now)

    def _cheapest(self, endpoints: Sequence[Endpoint], now: float) -> Endpoint:
        base = self._base
        draw = self._random
        # The draw breaks ties: without it, the first of equals would take every request.
        return min(endpoints, key=lambda e: ((e.in_flight + e.shared + 1) * e.penalty(now, base) * e.inverse, draw()))

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
            self._observe(endpoint, now - ticket.started if seconds is None else seconds, ok, now)

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

    def share(self, counts: Mapping[str, float]) -> None:
        """Set what all other clients have in flight, by endpoint; absent means 0.

        Counts that are a second old mislead everybody the same way, so only a part of what sets an endpoint apart from its
        fair share (by weight) is believed; Dahlin 2000: interpret load information by its age.
        """
        with self._lock:
            table = self._table
            fair = (1.0 - self._belief) * sum(counts.get(e.name, 0.0) for e in table.everyone)
            for endpoint in self._known.values():
                endpoint.shared = self._belief * counts.get(endpoint.name, 0.0) + fair * endpoint.weight

    def after_fork(self) -> None:
        """In the child of a fork: nothing is in flight here, and the lock may have been held by a thread that is gone."""
        self._lock = RLock()
        self.generation += 1
        self._dropped.clear()
        for endpoint in self._known.values():
            endpoint.in_flight = 0
            endpoint.shared = 0.0
