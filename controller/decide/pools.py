"""Share a fleet-wide limit out over worker pools, each of a whole number of slots. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resize:
    """What to ask of the workers.

    Attributes:
        shares: slots by worker, as they should be in the end. 0: it shall take nothing.
        shrink: workers above their share, and by how many slots. Asked first: it may be refused while they are busy.
        wanted: workers below their share, and by how many slots. `grow` says how many of these may be given now.
    """

    shares: Mapping[str, int]
    shrink: Mapping[str, int]
    wanted: Mapping[str, int]


def share_out(
    limit: int, pools: Mapping[str, int], *, elsewhere: int = 0, largest: int | None = None, least: int = 0
) -> Resize:
    """Equal shares of `limit`, and the way there.

    Args:
        limit: slots for all workers together.
        pools: slots now, by worker; 0 for one that takes nothing.
        elsewhere: slots of workers that may be alive but could not be asked; they are left to them.
        largest: slots that one worker may have; what cannot be given for this reason stays free.
        least: slots that each keeps, though they then have more than the limit.

    The slots that equal shares leave over go to workers that have more now, so that few change.
    """
    free = max(0, limit - elsewhere)
    order = sorted(pools, key=lambda worker: (-pools[worker], worker))
    each, over = divmod(free, len(order)) if order else (0, 0)
    shares = {worker: each + (place < over) for place, worker in enumerate(order)}
    if largest is not None:
        shares = {worker: min(share, largest) for worker, share in shares.items()}
    shares = {worker: max(share, min(least, pools[worker])) for worker, share in shares.items()}
    return Resize(
        shares=shares,
        shrink={worker: pools[worker] - share for worker, share in shares.items() if share < pools[worker]},
        wanted={worker: share - pools[worker] for worker, share in shares.items() if share > pools[worker]},
    )


def grow(limit: int, pools: Mapping[str, int], wanted: Mapping[str, int], *, elsewhere: int = 0) -> dict[str, int]:
    """How many slots each worker may be given now, so that all together stay within `limit`.

    Args:
        pools: slots after the shrinking that was done; one that refused still has its own.
        wanted: as in `Resize`.
        elsewhere: as for `share_out`.
    """
    room = limit - elsewhere - sum(pools.values())
    given: dict[str, int] = {}
    for worker, slots in wanted.items():
        if (now := min(slots, room)) > 0:
            given[worker] = now
            room -= now
    return given
