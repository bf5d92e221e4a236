"""Clients of other systems, built once, with timeouts, credentials and one error tree."""
