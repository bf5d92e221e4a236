"""Sharing in-flight counts: what one client writes, how often, and what it reads back. Pure; the script does the rest.

Each client owns one field of the hash `Keys.inflight`, and writes it whole with its own end of life by the server's clock, so a
count cannot leak: there is no INCR to miss its DECR, and a client that dies is gone with its row. Beside the counts a row
carries recent failures, for an endpoint that fails fast is idle, and would look like the best choice to everybody else; and what
was served lately, from which all clients together tell how fast each endpoint works now (see `speed`).

Young counts are worth far more than old ones, so a few clients beat up to 40 times a second; the more there are, and the more endpoints they
name, the rarer each beats, so that Redis never has more than `BEATS_PER_SECOND` of them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from hashlib import sha1
from importlib.resources import files
from typing import Any
from uuid import uuid4

from trimtab.balancer.speed import LEAST

PERIOD_SECONDS = (0.025, 1.0)
"""The least and the most between two heartbeats of one client; the most also while it has nothing to do."""
BEATS_PER_SECOND = 1000.0
"""Of all clients together, for up to `ENDPOINTS` endpoints; with more of them, in proportion fewer."""
ENDPOINTS = 20.0
WRITE_SECONDS = 1.0
"""A row that nothing changed is written again after this, so that it lives on and fades; a beat in between only reads the sum."""
JITTER = 0.1
"""Share of the period by which a beat is early or late, so that clients do not keep step."""
LIFE_SECONDS = 3.0
"""How long a row outlives its last heartbeat: a dead client's requests are forgotten after this."""
TOTAL_AGE_SECONDS = 1.0
"""After how long the server sums anew, to forget who is gone. In between it adds only what a row changes."""

SCRIPT = files("trimtab.balancer").joinpath("heartbeat.lua").read_text(encoding="utf-8")
SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""What `EVALSHA` calls it by, so that its text is sent once and not with every beat."""


class Heartbeat:
    """One client's side. `arguments()` before the call, `others()` on its reply."""

    def __init__(self) -> None:
        self.client = uuid4().hex
        self._rows: deque[tuple[float, dict[str, dict[str, Any]]]] = deque(maxlen=8)
        self._sent: dict[str, dict[str, Any]] = {}
        self.served: dict[str, tuple[float, float]] = {}
        """By endpoint what the other clients saw served, at the last reply; see `Core.evidence`."""
        self.clients = 0
        """Clients that were alive at the last reply, this one included."""

    def period_seconds(self, endpoints: int) -> float:
        """Seconds from one beat to the next, for a client that has requests to send to so many endpoints."""
        least, most = PERIOD_SECONDS
        if not self.clients:
            return most
        return min(most, max(least, self.clients * max(1.0, endpoints / ENDPOINTS) / BEATS_PER_SECOND))

    def arguments(
        self,
        in_flight: Mapping[str, int],
        failures: Mapping[str, float],
        served: Mapping[str, tuple[float, float]] | None = None,
    ) -> tuple[str, str, int, int]:
        """ARGV of the script: this client's row, with endpoints that are at zero left out."""
        self._sent = {"n": dict(in_flight), "f": {name: round(value, 2) for name, value in failures.items()}}
        if served:
            self._sent["w"] = {name: (round(count, 2), float(f"{work:.4g}")) for name, (count, work) in served.items()}
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
            self._rows.append((float(now_ms), self._sent))
            own: Mapping[str, Mapping[str, Any]] = next(
                (row for written, row in reversed(self._rows) if written <= float(at_ms)), {}
            )
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a heartbeat's reply: {error}") from error
        return self._without(own, text)

    def glance(self, total: str | bytes | None) -> dict[str, float] | None:
        """The same from the field `total` as it stands, if this client's row did not change since it was written; None if there is none."""
        if not total:
            return None
        text = total.decode() if isinstance(total, bytes) else total
        return self._without(self._sent, text.partition(" ")[2])

    def _without(self, own: Mapping[str, Mapping[str, Any]], text: str | bytes) -> dict[str, float]:
        try:
            total = json.loads(text)
            counts: dict[str, float] = {}
            for kind in ("n", "f"):
                mine = own.get(kind, {})
                for name, value in total.get(kind, {}).items():
                    counts[name] = counts.get(name, 0.0) + max(0.0, float(value) - mine.get(name, 0.0))
            mine = own.get("w", {})
            served = {}
            for name, (count, work) in (total.get("w") or {}).items():
                less = mine.get(name, (0.0, 0.0))
                if count - less[0] >= LEAST:
                    served[name] = (float(count - less[0]), max(0.0, float(work - less[1])))
            self.served = served
            self.clients = int(total.get("clients", 0))
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a heartbeat's reply: {error}") from error
        return {name: value for name, value in counts.items() if value > 0.005}
