"""Every test here runs twice: on the real control plane and on the emulator."""

import pytest
from plugins.planes import fresh_namespace
from support.objects import Paths


@pytest.fixture(params=[pytest.param("cluster", marks=pytest.mark.cluster), "emulator"])
def plane(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def paths(plane):
    with fresh_namespace(plane) as namespace:
        yield Paths(namespace)
