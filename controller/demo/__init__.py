"""The demo: the whole loop on real parts, told as a story in about a minute."""
