"""The examples of docs/queue.md run as they are printed."""

import contextlib
import io
import re
import subprocess
from pathlib import Path

import pytest
from support.redis_lab import RedisServer

from trimtab.contract import Keys
from trimtab.queue import Window
from trimtab.queue.protocol import script

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "queue.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def own_server(tmp_path):
    with RedisServer(tmp_path / "redis") as server:
        yield server


def test_python_examples_print_what_they_say(own_server):
    names = {}
    text = "\n".join(blocks("python")).replace("redis://localhost:6379/0", own_server.url)
    text = text.replace("Redis(decode_responses", f"Redis(port={own_server.port}, decode_responses")
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            exec(compile(text, "docs/queue.md", "exec"), names)
    finally:
        names["queue"].close()
        names["redis"].close()
    assert isinstance(names["window"], Window)
    promised = re.findall(r"print\(.*\)  # (.*)$", text, flags=re.MULTILINE)
    assert len(promised) == 4
    assert [line for line in said.getvalue().splitlines() if line in promised] == promised


def test_the_walk_with_redis_cli_prints_what_it_says(own_server):
    (walk,) = blocks("sh")
    prelude = f'set -eu\nredis-cli() {{ command redis-cli -p {own_server.port} "$@"; }}\n'
    run = subprocess.run(["bash", "-c", prelude + walk], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = iter(line.strip('"') for line in run.stdout.splitlines())
    for promised in re.findall(r"^#> (.*)$", walk, flags=re.MULTILINE):
        assert promised in lines, f"{promised!r} is missing, or not in this order:\n{run.stdout}"


def test_the_page_names_all_keys_in_their_order():
    keys = Keys("namespace/name")
    names = [name.replace(keys.queue("NAME").prefix, "P") for name in keys.queue("NAME").script_keys(keys.limit)]
    assert (
        re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\| [\d, ]+ \| (.*?) \|", PAGE, flags=re.MULTILINE))) == names
    )


@pytest.mark.parametrize("path", sorted((ROOT / "trimtab" / "lua").glob("*.lua")), ids=lambda path: path.stem)
def test_every_script_is_documented(path):
    assert f"`{path.stem}`" in PAGE
    assert script(path.stem).text.startswith(b"--")
