"""Decision records: what was decided, from what, and what came of it."""
