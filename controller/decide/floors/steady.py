"""A floor that does not turn back and forth: up at once, down only when that has been worth it.

A replica that is let go and asked for again costs a warm-up, so the floor is lowered only onto the most that was wanted
for as long as that, and only if it is lower by more than noise. Each lowering that had to be taken back makes the next
wait longer and the deadband wider, and is forgotten in time. A fleet that was found running stays for two warm-ups:
before the first forecasts have been judged nobody knows how much of it is needed.
"""

from __future__ import annotations

from math import exp

from controller.model.memory import Standing

DEADBAND = 0.15
"""Share by which less must be wanted before the floor is lowered; at least one replica."""
FALLING_DEADBAND = 0.075
"""The same once it is on its way down: to go on is no turn."""
REGRET_WAITS = 1.0
"""By how many warm-ups a lowering that was taken back makes the wait longer."""
REGRET_WIDER = 0.5
"""By what share of itself it makes the deadband wider."""
REGRET_SECONDS = 1800.0
"""It fades by 1 − 1/e in this time."""
LONGEST_SECONDS = 3600.0
"""No wait is longer, unless a warm-up is."""
GAP_SECONDS = 300.0
"""After a gap as long as this nothing is known of the time between, and the wait begins anew."""


def settle(
    before: Standing | None, wanted: int, at: float, *, warm_up_seconds: float, running: int | None = None
) -> Standing:
    """The floor that stands after this tick wanted so many replicas.

    Args:
        before: as returned by the last call; None at first.
        wanted: replicas.
        at: seconds since the epoch.
        warm_up_seconds: what a new replica takes to serve.
        running: replicas that are asked for now, where known; only the first call asks.
    """
    if before is None:
        return Standing(max(wanted, running or 0), ((at, wanted),), at, at + warm_up_seconds, at)
    if at <= before.at:
        return before
    since = at if at - before.at > GAP_SECONDS else before.since
    regret = before.regret * exp(-(at - before.at) / REGRET_SECONDS)
    # Only what is not exceeded later can be the most of any window.
    kept = [(t, n) for t, n in before.wanted if n > wanted and t > at - max(LONGEST_SECONDS, warm_up_seconds)]
    recent = (*kept, (at, wanted))
    if wanted >= before.replicas:
        raised = wanted > before.replicas
        regret += raised and before.falling
        return Standing(wanted, recent, since, max(before.not_before, since), at, before.falling and not raised, regret)
    wait = max(min(warm_up_seconds * (1.0 + REGRET_WAITS * regret), LONGEST_SECONDS), warm_up_seconds)
    most = next((n for t, n in recent if t > at - wait), wanted)
    slack = max(
        1.0, (FALLING_DEADBAND if before.falling else DEADBAND) * (1.0 + REGRET_WIDER * regret) * before.replicas
    )
    waited = at - since >= wait and at >= before.not_before
    if waited and before.replicas - most >= slack:
        return Standing(most, recent, since, before.not_before, at, falling=True, regret=regret)
    return Standing(before.replicas, recent, since, before.not_before, at, before.falling, regret)
