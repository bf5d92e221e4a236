"""Redis key names and document shapes: the one place where they are written down.

Everything that concerns one policy lives in one hash slot: `{namespace/name}` is the hash tag. Names and shapes here are
public; a change is an entry in CHANGELOG.md.
"""

from __future__ import annotations

from dataclasses import dataclass

DOCUMENT_VERSION = 1
"""`v` of the ranking document."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one policy, by its key `namespace/name`."""

    policy: str

    def _key(self, suffix: str) -> str:
        return f"trimtab:{{{self.policy}}}:{suffix}"

    @property
    def ranking(self) -> str:
        """String, JSON: the ranked endpoints. Replaced whole; expires after the last-good time."""
        return self._key("ranking")

    @property
    def weights(self) -> str:
        """Sorted set: endpoint -> weight. `ZREVRANGE key 0 0` is the best endpoint."""
        return self._key("weights")

    @property
    def limit(self) -> str:
        """String, integer: requests that may be in flight, fleet-wide."""
        return self._key("limit")

    @property
    def fence(self) -> str:
        """Hash `epoch`, `seq`: the newest publish that was accepted; never expires, so an older one is refused for ever."""
        return self._key("fence")

    @property
    def changed(self) -> str:
        """Pub/sub channel: the new `seq` after each publish."""
        return self._key("changed")

    @property
    def inflight(self) -> str:
        """Each client's own in-flight counts by endpoint; a heartbeat that expires with its client."""
        return self._key("inflight")

    def queue(self, name: str) -> QueueKeys:
        """The keys of the request queue `name`."""
        return QueueKeys(self._key(f"queue:{name}"))


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one request queue, all in its policy's hash slot."""

    prefix: str

    @property
    def waiting(self) -> str:
        """Sorted set of waiting request ids."""
        return f"{self.prefix}:waiting"

    @property
    def leases(self) -> str:
        """Sorted set: request id -> lease expiry. Its size is the number of requests in flight."""
        return f"{self.prefix}:leases"
