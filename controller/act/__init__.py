"""Changes the world: Redis, the HPA, Events. Re-validates first; each part fails alone."""
