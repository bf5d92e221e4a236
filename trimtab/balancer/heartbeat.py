"""Sharing in-flight counts: what one client writes each second, and what it reads back. Pure; the script does the rest.

Each client owns one field of the hash `Keys.inflight`, and writes it whole with its own end of life by the server's clock, so a
count cannot leak: there is no INCR to miss its DECR, and a client that dies is gone with its row. Beside the counts a row
carries recent failures, for an endpoint that fails fast is idle, and would look like the best choice to everybody else.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from importlib.resources import files
from typing import Any
from uuid import uuid4

PERIOD_SECONDS = 1.0
LIFE_SECONDS = 3.0
"""How long a row outlives its last heartbeat: a dead client's requests are forgotten after this."""
TOTAL_AGE_SECONDS = 0.4
"""How old a sum may be before the server sums anew; so that 200 clients cost 2.5 sums a second, not 200."""

SCRIPT = files("trimtab.balancer").joinpath("heartbeat.lua").read_text(encoding="utf-8")


class Heartbeat:
    """One client's side. `arguments()` before the call, `others()` on its reply."""

    def __init__(self) -> None:
        self.client = uuid4().hex
        self._rows: deque[tuple[float, dict[str, dict[str, float]]]] = deque(maxlen=8)
        self._sent: dict[str, dict[str, float]] = {}
        self.clients = 0
        """Clients that were alive at the last reply, this one included."""

    def arguments(self, in_flight: Mapping[str, int], failures: Mapping[str, float]) -> tuple[str, str, int, int]:
        """ARGV of the script: this client's row, with endpoints that are at zero left out."""
        self._sent = {"n": dict(in_flight), "f": {name: round(value, 2) for name, value in failures.items()}}
        row = json.dumps(self._sent, separators=(",", ":"))
        return self.client, row, int(LIFE_SECONDS * 1000), int(TOTAL_AGE_SECONDS * 1000)

    def farewell(self) -> tuple[str, str, int, int]:
        """ARGV that removes this client's row at once."""
        return self.client, "", int(LIFE_SECONDS * 1000), 0

    def others(self, reply: Any) -> dict[str, float]:
        """Requests in flight from all other clients by endpoint, each recent failure counted as one request.

        A sum may be older than this client's newest row, so what is taken off is the row that was there when it was made.
        Raises ValueError when the reply is not the script's.
        """
        try:
            now_ms, at_ms, text = reply
            total = json.loads(text)
            self._rows.append((float(now_ms), self._sent))
            own = next((row for written, row in reversed(self._rows) if written <= float(at_ms)), {})
            counts: dict[str, float] = {}
            for kind in ("n", "f"):
                mine = own.get(kind, {})
                for name, value in total.get(kind, {}).items():
                    counts[name] = counts.get(name, 0.0) + max(0.0, float(value) - mine.get(name, 0.0))
            self.clients = int(total.get("clients", 0))
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a heartbeat's reply: {error}") from error
        return {name: value for name, value in counts.items() if value > 0.005}
