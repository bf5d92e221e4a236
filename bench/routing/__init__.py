"""Routing in virtual time: the shipped decisions and the shipped choice, beside their peers. `python -m bench.routing`."""
