"""Python's cycle collector, told that the values of a tick form no cycles.

Reference counts free them. The collector still looks at each of them, again and again while a large fleet's tick makes
hundreds of thousands: a quarter of that tick's CPU.
"""

from __future__ import annotations

import gc

YOUNG = 100_000
"""New containers between two looks at the youngest; a small fleet's process reaches that after many ticks."""


def calm() -> None:
    """Leave what exists now, modules and clients, out of all later looks, and look seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
