import pytest
from journal_world import fill


@pytest.fixture
def settings(tmp_path):
    return fill(tmp_path)
