"""The base of every section of a policy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Strict and frozen: an unknown field, a string for a number, a change after loading are all errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
