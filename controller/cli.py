"""The commands. Parses flags, maps errors to exit codes, and leaves the work to others.

Exit codes: 0 done; 1 failed while running; 2 wrong usage or an invalid policy.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from controller.errors import ConfigError, PolicyError, TrimtabError
from controller.settings import Settings, flag, variable
from trimtab import __version__

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        return _complain(str(error) if isinstance(error, PolicyError) else f"trimtab: {error}", USAGE)
    except TrimtabError as error:
        return _complain(f"trimtab: {error}", FAILED)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("controller", "trimtab"):
            raise
        return _complain(f"trimtab: this command needs {error.name}: pip install 'trimtab[controller]'", USAGE)
    except BrokenPipeError:
        # The reader of our output went away; Python would say so once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code


def _run(arguments: argparse.Namespace) -> int:
    # Before the imports, which take a second: as process 1 of a container, Python does nothing on SIGTERM by itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))
    from controller.app import build
    from controller.report.logs import configure

    settings = Settings.load(vars(arguments))
    configure(settings.log_format, settings.log_level)
    with build(settings, dry_run=arguments.dry_run) as app:
        if arguments.once:
            return FAILED if app.once(app.store.policies).result == "failed" else DONE
        app.run()
    return DONE


def _plan(arguments: argparse.Namespace) -> int:
    from controller.commands.plan import plan

    return plan(Settings.load(vars(arguments)), as_json=arguments.output == "json")


def _explain(arguments: argparse.Namespace) -> int:
    from controller.commands.explain import explain

    settings = Settings.load(vars(arguments))
    return explain(settings, arguments.policy, at=arguments.at, as_json=arguments.output == "json")


def _drill(arguments: argparse.Namespace) -> int:
    from controller.commands.drill import run

    return run(Settings.load(vars(arguments)), as_json=arguments.output == "json")


def _replay(arguments: argparse.Namespace) -> int:
    from controller.commands.replay import run

    settings = Settings.load(vars(arguments))
    return run(settings, arguments.policy, since=arguments.since, as_json=arguments.output == "json")


def _status(arguments: argparse.Namespace) -> int:
    from controller.commands.status import status

    settings = Settings.load(vars(arguments))
    return status(settings, as_json=arguments.output == "json", watch_seconds=2.0 if arguments.watch else None)


def _validate(arguments: argparse.Namespace) -> int:
    from controller.policy.load import validate_paths

    faults = validate_paths([Path(path) for path in arguments.paths])
    if arguments.output == "json":
        found = [{"file": f.file, "line": f.line, "field": f.field, "message": f.message} for f in faults]
        sys.stdout.write(json.dumps({"faults": found}, indent=2) + "\n")
    for fault in faults if arguments.output == "text" else ():
        sys.stderr.write(f"{fault}\n")
    return USAGE if faults else DONE


def _schema(arguments: argparse.Namespace) -> int:
    from controller.policy.jsonschema import budget_schema_text, policy_schema_text

    sys.stdout.write(budget_schema_text() if arguments.of == "budget" else policy_schema_text())
    return DONE


def _version(_arguments: argparse.Namespace) -> int:
    sys.stdout.write(f"trimtab {__version__}\n")
    return DONE


def _demo(arguments: argparse.Namespace) -> int:
    try:
        from controller.demo import command
    except ImportError as error:
        raise ConfigError(f"the demo needs {error.name}: pip install 'trimtab[controller,demo]'") from error
    return command.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trimtab", description="Keeps AI model services steady under load, in small explained steps."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="the daemon")
    run.add_argument("--once", action="store_true", help="one tick, then exit")
    run.add_argument("--dry-run", action="store_true", help="observe, decide and report; write nothing")
    run.set_defaults(run=_run)
    plan = commands.add_parser("plan", help="what one tick would change, old -> new, with reasons; writes nothing")
    plan.set_defaults(run=_plan)
    status = commands.add_parser("status", help="what is in Redis and Kubernetes now")
    status.add_argument("--watch", action="store_true", help="again every 2 seconds, until interrupted")
    status.set_defaults(run=_status)
    explain = commands.add_parser("explain", help="why a policy's numbers are what they are, from the journal or now")
    explain.add_argument("policy", metavar="POLICY", help="namespace/name, or the name alone")
    explain.add_argument(
        "--at", metavar="TIME", help="2026-11-27T14:05:00Z, 14:05 (today) or '10m ago'; default: the last record"
    )
    explain.set_defaults(run=_explain)
    drill = commands.add_parser("drill", help="what the policies do while their systems fail; exit 1 if anything falls")
    drill.add_argument(
        "--policies", metavar="DIR", default=None, help="folder with the policy files [TRIMTAB_POLICIES]"
    )
    drill.set_defaults(run=_drill)
    replay = commands.add_parser(
        "replay", help="what the policy as it is now would have decided on the journal's inputs"
    )
    replay.add_argument("policy", metavar="POLICY", help="namespace/name, or the name alone")
    replay.add_argument("--since", metavar="TIME", help="as for explain --at; default: all that the journal has")
    replay.set_defaults(run=_replay)
    for command in (run, plan, status, explain, replay):
        _add_settings(command)

    validate = commands.add_parser("validate", help="check policy files; exit 2 and one line per fault if any")
    validate.add_argument("paths", nargs="+", metavar="PATH", help="policy files or folders")
    validate.set_defaults(run=_validate)
    for command in (plan, status, explain, drill, replay, validate):
        command.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default: text")
    schema = commands.add_parser("schema", help="the JSON Schema of a policy or a budget")
    schema.add_argument("of", nargs="?", choices=("policy", "budget"), default="policy", help="default policy")
    schema.set_defaults(run=_schema)
    demo = commands.add_parser("demo", help="the whole loop on real parts, in about a minute")
    demo.add_argument("--json", metavar="FILE", help="write the summary for machines")
    demo.add_argument("--keep", action="store_true", help="leave everything running and print the URLs")
    demo.set_defaults(run=_demo)
    commands.add_parser("version", help="the version").set_defaults(run=_version)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings", "each is also a variable; the flag wins")
    for f in fields(Settings):
        text = f"{f.metadata['doc']} [{variable(f.name)}]".replace("%", "%%")
        if isinstance(f.default, bool):
            group.add_argument(flag(f.name), action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            group.add_argument(flag(f.name), metavar=_metavar(f.name), default=None, help=text)


def _metavar(name: str) -> str:
    last = name.rpartition("_")[2]
    return {"url": "URL", "file": "FILE", "seconds": "SECONDS", "policies": "DIR", "journal": "DIR"}.get(last, "VALUE")
