"""Commands run inside the test process: half a second of imports is paid once, not by each test."""

import logging
import signal
from dataclasses import dataclass

import pytest
import structlog

from controller.cli import main


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs one command as `trimtab ...` would; more keywords are variables of its environment."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments, **environ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse's way
            code = error.code
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    yield run
    signal.signal(signal.SIGTERM, handler)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
