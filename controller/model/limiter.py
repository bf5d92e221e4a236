"""What the adaptive limit remembers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimiterMemory:
    """What the adaptive limit remembers between its updates. Losing it costs a few careful updates, never a jump.

    Args:
        limit: the limit before rounding, requests.
        seen: what was seen with the same capacity, in cells of the requests in flight: cell, weight, mean of ln requests/s.
        recent: the last samples whole, oldest first: requests in flight, requests/s.
        learnt: samples since the last change of capacity.
        since_change: likewise, counting one from the first of changes in a row.
        base: response time with nothing waiting, seconds; None until one was seen.
        knee: requests in flight from which more of them only wait; None until one was seen.
        usual_knee: `knee` over a longer time, requests: what to expect where the samples do not tell.
        noise: standard deviation of the logarithm of throughput from one update to the next.
        usual_base: `base` over a longer time, seconds; it counts as much as `usual_weight` samples.
        above: evidence that capacity has risen, in deviations summed up (CUSUM); likewise `below`, that it has fallen.
        above_for: updates for which that evidence has been adding up; likewise `below_for`.
        opens: whether the samples leave open that there is no knee yet.
        found: whether the samples alone have ever shown a knee.
        climb: updates for which the limit may still climb in full steps, since capacity was seen to rise.
        since_probe: updates since the limit last went aside to learn; `since_doubt`, against what is only remembered.
        home: the limit from before it went aside; None while it is not aside.
        looking: updates for which it still goes further aside.
        look_down: whether the next look aside goes down rather than up.
        lateness: smoothed logarithm of response time over the SLO; below 0 is in time.
        slow: updates in a row over the SLO.
        missed: updates in a row without a usable sample.
        ready: instances that served at the last update.
        memory_cuts: how often the limit was cut since memory became scarce.
        since: from when the next sample is taken, seconds since the epoch; None when that has not begun.
        in_flight_sum: of the ticks since then, requests; over `ticks` of them.
    """

    limit: float
    seen: tuple[tuple[int, float, float], ...] = ()
    recent: tuple[tuple[float, float], ...] = ()
    learnt: int = 0
    since_change: int = 100
    base: float | None = None
    knee: float | None = None
    usual_knee: float | None = None
    noise: float = 0.2
    usual_base: float | None = None
    usual_weight: float = 0.0
    above: float = 0.0
    below: float = 0.0
    above_for: int = 0
    below_for: int = 0
    opens: bool = False
    found: bool = False
    climb: int = 0
    since_probe: int = 0
    since_doubt: int = 0
    home: float | None = None
    looking: int = 0
    look_down: bool = True
    lateness: float = -1.0
    slow: int = 0
    missed: int = 0
    ready: int | None = None
    memory_cuts: int = 0
    since: float | None = None
    in_flight_sum: float = 0.0
    ticks: int = 0
