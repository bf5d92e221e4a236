"""Hypothesis: the same examples on each run, so that a red run is red again; `HYPOTHESIS_PROFILE=explore` seeks new ones."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady", max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
