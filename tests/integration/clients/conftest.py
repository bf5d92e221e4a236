import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scripted_api import ScriptedApi


@pytest.fixture
def api():
    server = ScriptedApi()
    yield server
    server.close()
