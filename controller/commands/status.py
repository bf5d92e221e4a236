"""`trimtab status`: what Redis and Kubernetes hold now, as clients and the HPA see it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any

from redis import Redis

from controller.app import App, build
from controller.clients.redis import redis_errors
from controller.commands.table import number, table
from controller.deadline import Deadline
from controller.errors import DependencyError
from controller.model.snapshot import HpaView, Known, NotAsked, QueueView, Reading, ScaleView, Unknown
from controller.report.logs import configure
from controller.settings import Settings
from trimtab.contract import InvalidDocument, Keys, Ranking, parse_ranking

READ_SECONDS = 6.0


def status(settings: Settings, *, as_json: bool, watch_seconds: float | None) -> int:
    """Print the state of every policy, again and again if `watch_seconds` is given. 0, or 1 when a system did not answer."""
    configure("console", "critical", sys.stderr)
    with build(settings, dry_run=True, election=False) as app:
        while True:
            state, problems = _state(app)
            text = json.dumps({"policies": state, "problems": problems}, indent=2) if as_json else _text(state)
            if watch_seconds is not None and sys.stdout.isatty():
                sys.stdout.write("\x1b[H\x1b[2J")
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
            for problem in problems:
                sys.stderr.write(f"trimtab: {problem}\n")
            if watch_seconds is None:
                return 1 if problems else 0
            time.sleep(watch_seconds)


def _state(app: App) -> tuple[list[dict[str, Any]], list[str]]:
    snapshot = app.loop.observer.observe(app.store.policies, time.time(), Deadline.after(READ_SECONDS))
    problems = list(snapshot.problems)
    states = []
    for policy in app.store.policies:
        service = snapshot.services[policy.key]
        ranking = _ranking(app.redis, policy.key, problems)
        state: dict[str, Any] = {
            "policy": policy.key,
            "mode": policy.spec.mode.value,
            "ranking": None,
            "age_seconds": None,
        }
        if ranking is not None:
            state["ranking"] = asdict(ranking)
            state["age_seconds"] = max(0.0, time.time() - ranking.published_at)
        match service.published:
            case Known(value=published) if published is not None:
                state["limit"] = published.limit
            case _:
                state["limit"] = None
        state["hpa"] = _reading(service.hpa)
        state["scale"] = _reading(service.scale)
        state["queue"] = _reading(service.queue)
        states.append(state)
    return states, list(dict.fromkeys(problems))


def _ranking(redis: Redis, policy: str, problems: list[str]) -> Ranking | None:
    try:
        with redis_errors():
            text = redis.get(Keys(policy).ranking)
        return parse_ranking(str(text)) if text is not None else None
    except (DependencyError, InvalidDocument) as error:
        problems.append(str(error) if isinstance(error, DependencyError) else f"{policy}: {error}")
        return None


def _reading(reading: Reading[Any]) -> dict[str, Any] | None:
    match reading:
        case Known(value=HpaView() as view):
            spec = asdict(view.spec)
            return {**spec, "current_replicas": view.current_replicas, "desired_replicas": view.desired_replicas,
                    "foreign_owner": view.foreign_owner, "paused": view.paused,
                    "conditions": [asdict(condition) for condition in view.conditions]}  # fmt: skip
        case Known(value=ScaleView() | QueueView() as value):
            return asdict(value)
        case Known():
            return {"absent": True}
        case Unknown(reason=reason):
            return {"unknown": reason}
        case NotAsked():
            return None
    return None


def _text(states: list[dict[str, Any]]) -> str:
    return "\n\n".join("\n".join(_policy_lines(state)) for state in states)


def _policy_lines(state: dict[str, Any]) -> list[str]:
    lines = [f"{state['policy']} ({state['mode']})"]
    ranking = state["ranking"]
    if ranking is None:
        lines.append("  ranking  none published")
    else:
        panic = ", panic: unweighted" if ranking["panic"] else ""
        lines.append(
            f"  ranking  seq {ranking['seq']}, {state['age_seconds']:.0f} s old, valid {ranking['valid_for']:.0f} s{panic}"
        )
        rows = [
            (row["rank"], row["instance"], row["endpoint"], number(row["weight"]), row["state"],
             number(row["latency"], " s"), number(row["cpu"]), row["why"])
            for row in ranking["endpoints"]
        ]  # fmt: skip
        lines.append(table(("RANK", "INSTANCE", "ENDPOINT", "WEIGHT", "STATE", "LATENCY", "CPU", "WHY"), rows, "  "))
    lines.append(f"  limit    {'none' if state['limit'] is None else state['limit']}{_queue(state['queue'])}")
    if state["hpa"] is not None:
        lines.append(f"  hpa      {_hpa(state['hpa'])}")
    return lines


def _queue(queue: dict[str, Any] | None) -> str:
    if not queue or "depth" not in queue:
        return ""
    return f", {queue['in_flight']} in flight, {queue['depth']} waiting"


def _hpa(hpa: dict[str, Any]) -> str:
    if "unknown" in hpa:
        return f"not known: {hpa['unknown']}"
    if "absent" in hpa:
        return "none yet"
    targets = ", ".join(f"{target['name']} {target['percent']} %" for target in hpa["targets"])
    notes = [f"owned by {hpa['foreign_owner']}"] if hpa["foreign_owner"] else []
    notes += [f"paused: {hpa['paused']}"] if hpa["paused"] else []
    said = [f"{c['type']}: {c['reason']}" for c in hpa["conditions"] if c["reason"]]
    notes += [f"it says {', '.join(said)}"] if said else []
    bounds = f"{hpa['min_replicas']}-{hpa['max_replicas']} replicas, now {hpa['current_replicas']}"
    return "; ".join([f"{bounds}, {targets}", *notes])
