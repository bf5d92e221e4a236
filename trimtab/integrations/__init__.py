"""Adapters for HTTP clients, each an optional extra: `trimtab[httpx]`, `trimtab[requests]`."""
