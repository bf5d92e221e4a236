"""A small process that owns the control plane's processes, so that none outlives whoever started them.

It runs this file alone (standard library only), reads one JSON request a line on stdin and answers on stdout. When stdin
ends (the owner stopped, crashed or was killed with SIGKILL) it kills every child's process group and removes the folders
named on its command line. It has a session of its own, so a Ctrl-C in the terminal does not reach it first. Should the
guard itself be killed, the kernel kills its children (PR_SET_PDEATHSIG; set here because that signal follows the *thread*
that forked, and this process has one thread).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1


def _die_with_the_guard() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere stdin's end has to do
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _start(argv: list[str], log: str) -> subprocess.Popen[bytes]:
    with open(log, "ab") as output:  # noqa: PTH123 - pathlib would be this script's slowest import
        return subprocess.Popen(  # noqa: S603 - the owner's own argv, no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with_the_guard,  # noqa: PLW1509 - one thread, see above
        )


def _answer(request: dict[str, Any], children: dict[str, subprocess.Popen[bytes]]) -> dict[str, Any]:
    name = request["name"]
    if request["do"] == "start":
        try:
            children[name] = _start(request["argv"], request["log"])
        except OSError as error:
            return {"error": str(error)}
    child = children[name]
    if request["do"] == "signal" and child.poll() is None:
        os.killpg(child.pid, request["signal"])
        if request["signal"] == signal.SIGKILL:
            child.wait()
    return {"pid": child.pid, "exit": child.poll()}


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def main() -> None:
    """Serve requests until stdin ends or SIGTERM comes, then leave nothing."""
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        signal.signal(signal.SIGTERM, _end)
        try:
            for line in iter(sys.stdin.readline, ""):
                sys.stdout.write(json.dumps(_answer(json.loads(line), children)) + "\n")
                sys.stdout.flush()
        finally:
            # Both may come, the end of stdin first: then SIGTERM must not break into the cleaning below.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    finally:
        for child in children.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        for folder in sys.argv[1:]:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
