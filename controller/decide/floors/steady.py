"""A floor that does not turn back and forth: up at once, down only when that is worth a turn, and then not all the way.

A replica that is let go and asked for again costs a warm-up. So the floor turns down only where the most that was lately
wanted lies below it by a whole band, and comes to stand a little above that most, inside the band: the next ripple then
needs no turn. Two bounds with a return point between them are how a stock is kept that wanders and whose every
correction has a price (Miller and Orr 1966, for cash). On its way down it follows, for to go on is no turn. The band is
at least a few noises of the traffic wide, so that what is small and ragged is left alone for longer.

A fleet that was found running stays for a warm-up: before the first forecasts are due nobody knows how much of it is needed.
"""

from __future__ import annotations

from controller.model.traffic import Standing

BAND = 0.15
"""Share by which less must be wanted before the floor turns down; at least one replica."""
BAND_NOISES = 5.0
"""The same in noises of the traffic, where that is more."""
RETURN = 0.12
"""Share of what is wanted that a lowering leaves on top of it, rounded to whole replicas."""
WAIT_WARM_UPS = 0.5
"""How long no more may have been wanted, in warm-ups."""
GAP_SECONDS = 300.0
"""After a gap as long as this nothing is known of the time between, and the wait begins anew."""


def settle(
    before: Standing | None,
    wanted: int,
    at: float,
    *,
    warm_up_seconds: float,
    noise_ratio: float = 0.0,
    running: int | None = None,
) -> Standing:
    """The floor that stands after this tick wanted so many replicas.

    Args:
        before: as returned by the last call; None at first.
        wanted: replicas.
        at: seconds since the epoch.
        warm_up_seconds: what a new replica takes to serve.
        noise_ratio: by how much forecasts of the traffic err, as a share of it.
        running: replicas that are asked for now, where known; only the first call asks.
    """
    if before is None:
        return Standing(max(wanted, running or 0), ((at, wanted),), at, at + warm_up_seconds, at)
    if at <= before.at:
        return before
    since = at if at - before.at > GAP_SECONDS else before.since
    wait = WAIT_WARM_UPS * warm_up_seconds
    # Only what is not exceeded later can be the most of any window.
    recent = (*((t, n) for t, n in before.wanted if n > wanted and t > at - wait), (at, wanted))
    if wanted >= before.replicas:
        falling = before.falling and wanted == before.replicas
        return Standing(wanted, recent, since, max(before.not_before, since), at, falling)
    most, band = recent[0][1], max(BAND, BAND_NOISES * noise_ratio)
    lower = int(most * (1.0 + RETURN) + 0.5)
    turns = before.falling or before.replicas - most >= max(1.0, band * before.replicas)
    if turns and lower < before.replicas and at - since >= wait and at >= before.not_before:
        return Standing(lower, recent, since, before.not_before, at, falling=True)
    return Standing(before.replicas, recent, since, before.not_before, at, before.falling)
