"""The process that outlives us by a moment: it kills what we started when we are gone, however we went.

Run as a script by `controller.lab.process`, once per process that starts others. It imports next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Read `+PGID` and `-PGID` lines until the writer is gone, then kill the groups that are still listed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
