from __future__ import annotations

import pytest

from controller.policy.schema import LoadPolicy


def make_policy(name="svc", *, selector=None, key="pod", endpoint="http://{pod}:8000", signals=None, **spec):
    return LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": name, "namespace": "models"},
            "spec": {
                "instances": {
                    "selector": selector or {"namespace": "models", "service": name},
                    "key": key,
                    "endpoint": endpoint,
                },
                "signals": signals or {"preset": "fastapi"},
                **spec,
            },
        }
    )


@pytest.fixture
def policy():
    """Makes a policy: name, selector, key, endpoint, signals, and any section by its name."""
    return make_policy
