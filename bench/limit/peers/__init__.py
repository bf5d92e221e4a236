"""Published limit algorithms, written anew from their formulas, with their defaults: one update per control period."""
