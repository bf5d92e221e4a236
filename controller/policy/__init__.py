"""Policies: their schema, their strict loading, the last good set, and the presets of well-known servers."""
