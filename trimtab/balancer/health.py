"""What a client believes of one endpoint: how slow it is and how much it fails. Pure; time comes in as an argument.

Two numbers, both forgetful, so that an endpoint which was punished is tried again:

* `latency`: peak-EWMA, after Finagle's `PeakEwma`: a slower sample counts at once, a faster one by and by, with the time
  constant `LATENCY_TAU_SECONDS`. Where Finagle forgets towards 0, this forgets towards the fleet's median (`base`), so that
  no data is neither the best nor the worst.
* `failures`: +1 for each failure, halved by each success, forgotten with `FAILURE_TAU_SECONDS`; each unit multiplies the cost
  by 4. One failure among many successes hardly shows; five in a row make an endpoint 1024 times as dear, and since a failing
  endpoint is always idle, nothing less would keep traffic from it.
"""

from __future__ import annotations

from math import exp

from trimtab.balancer.speed import Speed

LATENCY_TAU_SECONDS = 10.0
FAILURE_TAU_SECONDS = 30.0
FAILURES_MAX = 5.0
FAILURE_FACTOR = 4.0
NOISE_SECONDS = 0.02
"""Added to both sides of a comparison of latencies: below this, the client's own hiccups are all that differs."""
KEEP_MAX = 0.9
"""How much of a peak the next faster sample leaves at most, so that one hiccup among thousands of samples is soon over."""


class Endpoint:
    """One endpoint as one client knows it. Mutable; the core that owns it holds the lock while it changes counts.

    Attributes:
        name: how to reach it, as published: `http://10.0.0.7:8000`.
        weight: published share of requests, 0 to 1; 0 while it is ejected or warming.
        inverse: 1 / weight, or 1 when the weight is 0 (such endpoints compete with each other only).
        in_flight: requests of this process that have not been released.
        others: requests in flight from all other clients, as the last heartbeat told; 0 when nothing is known.
        shared: the same, as far as believed (see `Core.share`).
        scale: what a request more costs here while counts are shared: slowness / weight.
        speed: what this client saw of how fast it works.
        latency: seconds, at the moment `latency_at`; None until the first sample.
    """

    __slots__ = (
        "failures",
        "failures_at",
        "in_flight",
        "inverse",
        "latency",
        "latency_at",
        "name",
        "others",
        "scale",
        "seen_at",
        "shared",
        "speed",
        "weight",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.weight = 0.0
        self.inverse = 1.0
        self.in_flight = 0
        self.others = 0.0
        self.shared = 0.0
        self.scale = 1.0
        self.speed = Speed()
        self.latency: float | None = None
        self.latency_at = 0.0
        self.failures = 0.0
        self.failures_at = 0.0
        self.seen_at = 0.0

    def expected_seconds(self, now: float, base: float) -> float:
        """Seconds that a request is expected to take: the last estimate, forgotten towards `base`."""
        latency = self.latency
        if latency is None:
            return base
        return base + (latency - base) * exp((self.latency_at - now) / LATENCY_TAU_SECONDS)

    def recent_failures(self, now: float) -> float:
        """Recent failures, 0 to `FAILURES_MAX`."""
        if not self.failures:
            return 0.0
        return self.failures * exp((self.failures_at - now) / FAILURE_TAU_SECONDS)

    def penalty(self, now: float, base: float) -> float:
        """How much dearer than a healthy, typical endpoint: 1 is typical, 2 twice as slow, 1000 failing. A ratio."""
        ratio = (self.expected_seconds(now, base) + NOISE_SECONDS) / (base + NOISE_SECONDS)
        return ratio * FAILURE_FACTOR ** self.recent_failures(now) if self.failures else ratio

    def observe(self, seconds: float, ok: bool | None, now: float, base: float) -> None:
        """Learn from one finished request.

        Args:
            seconds: how long it took, or how long it had taken when it was given up.
            ok: whether it succeeded; None when it was given up (cancelled, for example), which proves only that it would
                have taken longer than `seconds`.
            now: seconds on the caller's clock, any origin, never going back.
            base: the fleet's typical latency in seconds, above 0.
        """
        known = self.latency is not None
        expected = self.expected_seconds(now, base)
        if ok is False:
            self.failures = min(FAILURES_MAX, self.recent_failures(now) + 1.0)
            self.failures_at = now
            # A failure is quick or slow for reasons of its own: it may make an endpoint look slower, never faster.
            if seconds <= expected and not known:
                return
            seconds = max(seconds, expected)
        elif ok is None:
            if seconds <= expected:
                return
        elif self.failures:
            self.failures = self.recent_failures(now) / 2.0
            self.failures_at = now
            if self.failures < 0.01:
                self.failures = 0.0
        if known and seconds < expected:
            keep = min(KEEP_MAX, exp((self.latency_at - now) / LATENCY_TAU_SECONDS))
            seconds += (expected - seconds) * keep
        self.latency = seconds
        self.latency_at = now
