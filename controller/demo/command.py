"""`trimtab demo [--json FILE] [--keep]`."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import tempfile
import time
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from types import FrameType

from rich.console import Console

from controller.demo import script, summary
from controller.demo.stage import Stage
from controller.demo.tally import Tail, Tally
from controller.demo.view import View, observe
from controller.errors import ConfigError
from controller.lab.load import Phase
from controller.lab.process import LabError

EVERY_SECONDS = 0.5
INTERRUPTED = 130
TERMINATED = 143


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own flags."""
    parser.add_argument("--json", metavar="FILE", help="write the summary to FILE, for machines")
    parser.add_argument("--keep", action="store_true", help="leave everything running afterwards, until Ctrl-C")


def run(args: argparse.Namespace) -> int:
    """The command; see `demo_main`."""
    return demo_main(args.json, args.keep)


def demo_main(json_file: str | None, keep: bool) -> int:
    """Play the demo.

    Returns:
        0 when everything that it claims was seen; 1 when not, and then it says what; 130 after Ctrl-C, 143 after TERM.

    Raises:
        ConfigError: the summary cannot be written to `json_file`; nothing was started.
        LabError: a part did not start or ended; everything is stopped.
    """
    _check_writable(json_file)
    view = View(Console())
    with _terminate_like_an_interrupt(), tempfile.TemporaryDirectory(prefix="trimtab-demo-") as folder:
        try:
            return _play(Path(folder), view, json_file, keep=keep)
        except KeyboardInterrupt as interrupt:
            view.say("stopped; nothing is left running")
            return TERMINATED if interrupt.args else INTERRUPTED


def _play(folder: Path, view: View, json_file: str | None, *, keep: bool) -> int:
    with _uninterrupted_end(Stage(folder, view.say)) as stage:
        tally = Tally()
        _story(stage, tally, view)
        result = summary.as_json(tally, script.PHASES, stage.kubernetes)
        for line in summary.lines(tally, script.PHASES, stage.kubernetes):
            view.say(line)
        if json_file is not None:
            Path(json_file).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        if keep:
            _keep(stage, view)
        return 0 if result["ok"] else 1


def _story(stage: Stage, tally: Tally, view: View) -> None:
    """Play all phases and read what comes of them."""
    rows, log = Tail(stage.rows), Tail(stage.decisions)
    stage.play(script.PHASES)
    total = sum(phase.seconds for phase in script.PHASES)
    slow_from = _start_of(script.SLOW)
    slowed = ""
    with view.playing():
        while stage.load.running():
            _read(rows, log, tally)
            stage.check()
            if tally.began_at is not None:
                elapsed = time.time() - tally.began_at
                if not slowed and elapsed >= slow_from:
                    slowed = stage.slow_down(script.SLOWED, script.SLOWDOWN)
                phase = _phase_at(elapsed)
                view.show(observe(stage, tally, phase=phase, elapsed=elapsed, total=total, slowed=slowed))
            stage.load.wait(EVERY_SECONDS)
    _read(rows, log, tally)
    if stage.load.returncode() != 0:
        raise LabError("the load generator failed: " + " ".join(stage.load.last_lines()))


def _read(rows: Tail, log: Tail, tally: Tally) -> None:
    for row in rows.read():
        tally.take_row(row)
    for record in log.read():
        tally.take_record(record)


def _keep(stage: Stage, view: View) -> None:
    """Keep everything running, under the first load, until Ctrl-C."""
    # From the first moment on: what was played has been judged already.
    with contextlib.suppress(KeyboardInterrupt):
        stage.play(script.KEPT)
        view.say("\nStill running, with load; Ctrl-C stops everything.")
        for name, url in stage.urls().items():
            view.say(f"  {name + ':':<14} {url}")
        view.say(
            f"  try: trimtab plan --policies {stage.policies} --prometheus-url {stage.prometheus.url} --redis-url"
            f" {stage.redis.url} --kubernetes kubeconfig --kubeconfig {stage.cluster.kubeconfig}"
        )
        while True:
            stage.check()
            time.sleep(1.0)
    view.say("stopping")


def _phase_at(elapsed: float) -> Phase:
    started = (phase for phase in reversed(script.PHASES) if elapsed >= _start_of(phase.name))
    return next(started, script.PHASES[0])


def _start_of(name: str) -> float:
    """Seconds from the start to that phase."""
    return sum(phase.seconds for phase in takewhile(lambda phase: phase.name != name, script.PHASES))


def _check_writable(json_file: str | None) -> None:
    """Say now, not after a minute, that the file cannot be written."""
    if json_file is not None:
        try:
            with Path(json_file).open("a", encoding="utf-8"):
                pass
        except OSError as error:
            raise ConfigError(f"--json {json_file}: {error.strerror}") from error


@contextlib.contextmanager
def _uninterrupted_end(stage: Stage) -> Iterator[Stage]:
    """The stage, entered; while it stops its parts, a second Ctrl-C does nothing."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(stage)
        stack.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        stack.callback(signal.signal, signal.SIGTERM, signal.SIG_IGN)
        yield stage


@contextlib.contextmanager
def _terminate_like_an_interrupt() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: with everything stopped. Both handlers are as before afterwards."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Set even if we were started in the background, where a shell makes Ctrl-C ignored: a sender of INT means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
