"""One number on its way from a rule to the plan, with its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.model.plan import Change, Hold


@dataclass(frozen=True, slots=True)
class Proposed:
    """One integer that may move.

    Args:
        before: what stands now; None when nothing does.
        after: what should stand.
        reason: why they differ.
        held: why it stays, or moves less, though something asked it to move; empty when nothing did.
        asked: what was asked for first; None while nothing has bounded it.
    """

    field: str
    before: int | None
    after: int
    reason: str = ""
    held: str = ""
    asked: int | None = None

    @property
    def lowers(self) -> bool:
        """Whether it would go down."""
        return self.before is not None and self.after < self.before

    @property
    def raises(self) -> bool:
        """Whether it would go up."""
        return self.before is not None and self.after > self.before

    def keep(self, why: str) -> Proposed:
        """Stay at what stands, saying why; a new value has nothing to stay at and goes through."""
        if self.before is None or self.after == self.before:
            return self
        return replace(
            self, after=self.before, held=f"{why}; asked for {self.after}: {self.reason}", asked=self._first()
        )

    def clamp(self, after: int, why: str) -> Proposed:
        """Move to `after` instead, adding the clamp to the reason; the same value changes nothing."""
        if after == self.after:
            return self
        if after == self.before:
            return self.keep(why)
        reason = f"{self.reason}; {why}" if self.reason else why
        return replace(self, after=after, reason=reason, asked=self._first())

    def change(self) -> Change | None:
        """The line of the plan, if it moves."""
        return (
            None
            if self.before == self.after
            else Change(self.field, self.before, self.after, self.reason, self._first())
        )

    def hold(self) -> Hold | None:
        """The line of the plan, if it was kept from moving."""
        return Hold(self.field, self.held, self._first()) if self.held and self.before == self.after else None

    def _first(self) -> int:
        return self.after if self.asked is None else self.asked
