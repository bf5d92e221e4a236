import io
import json
import logging

import pytest
import structlog

from controller.report.logs import configure


@pytest.fixture(autouse=True)
def _restore():
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_json_is_one_object_a_line_with_the_first_keys_first():
    stream = io.StringIO()
    configure("json", "info", stream)
    log = structlog.get_logger("trimtab")
    log.debug("too quiet")
    log.info("decision", changes=[{"field": "limit"}], policy="models/a", sentence="limit 40 -> 28\nsecond line")
    logging.getLogger("some.library").warning("from %s", "elsewhere")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert list(first) == ["ts", "level", "event", "policy", "sentence", "changes"]
    assert (second["level"], second["event"]) == ("warning", "from elsewhere")


def test_a_traceback_stays_in_its_line():
    stream = io.StringIO()
    configure("json", "info", stream)
    structlog.get_logger("trimtab").error("bug", exc_info=ValueError("x"))
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: x" in json.loads(line)["exception"]


def test_text_for_people_has_no_colours_off_a_terminal():
    stream = io.StringIO()
    configure("console", "info", stream)
    structlog.get_logger("trimtab").info("started", version="1")
    assert "\x1b[" not in stream.getvalue()
    assert "version=1" in stream.getvalue()
