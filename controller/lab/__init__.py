"""Real parts on loopback for the demo and the tests: processes that are watched, broken on purpose, and never left behind."""
