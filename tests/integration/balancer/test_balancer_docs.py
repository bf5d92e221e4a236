"""The examples of docs/client.md, run one after the other against a real Redis and real servers."""

import importlib.util
import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default::ResourceWarning")]

PAGE = Path(__file__).parents[3] / "docs" / "client.md"
EXAMPLE = re.compile(r"(<!-- runs where (\w+) is installed -->\n)?```python\n(.*?)```", re.DOTALL)


def test_every_example_runs(lab, models):
    lab.publish(1, {server.url: 0.5 for server in models})
    examples = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) > 8
    world = {"__name__": "example"}
    try:
        for _, needs, source in examples:
            if needs and importlib.util.find_spec(needs) is None:
                compile(source, str(PAGE), "exec")
                continue
            assert "redis://localhost:6379/0" in source or "Balancer(" not in source
            exec(compile(source.replace("redis://localhost:6379/0", lab.url), str(PAGE), "exec"), world)
            if "reply" in world:
                assert world.pop("reply").status_code == 200, source
        status = world["balancer"].status()
        assert (status.state, status.in_flight, status.fault) == ("fresh", {}, "")
    finally:
        world["balancer"].close()
        world["session"].close()
