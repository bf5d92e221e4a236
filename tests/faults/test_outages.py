"""The outage table: each row breaks one real part, looks at everything else, and mends it.

In every row: the loop keeps its interval, the other parts go on, nothing drops, one line says what is wrong and one that
it is over, and two ticks after the mending all is as before.
"""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import requests
from fault_world import INTERVAL, is_settled, jitter_ratio
from support.daemon import interval_kept
from support.eventually import eventually

from controller.lab.proxy import Answer, Hang, Refuse

LOG = logging.getLogger(__name__)

pytestmark = [pytest.mark.fault, pytest.mark.cluster]

WATCHED_INTERVALS = 3
RECOVERY_TICKS = 2

PROMETHEUS, REDIS, KUBERNETES = "Prometheus", "Redis", "Kubernetes"


@dataclass(frozen=True)
class Row:
    """One way to be broken.

    `says`: what the one log line must hold. `per_policy`: the line is about a policy's series, not about the system.
    `refusal`: it is the outcome of a decision: somebody else was faster, which is no outage.
    `intervals`: how long it stays broken.
    """

    system: str
    break_it: Callable
    mend_it: Callable
    says: str
    per_policy: bool = False
    refusal: bool = False
    blocks: frozenset = field(default_factory=frozenset)
    intervals: int = WATCHED_INTERVALS


def spoil(values):
    return lambda w: w.exporter.values.update(values)


def good_again(w):
    w.exporter.values.clear()
    asked = f"{w.prometheus.url}/api/v1/query"

    def fresh():
        found = requests.get(
            asked, {"query": f'time() - timestamp(lab_rate{{namespace="{w.namespace}"}} < 1e9)'}, timeout=5
        )
        return len([1 for s in found.json()["data"]["result"] if float(s["value"][1]) < 1.5]) == 6

    eventually(fresh)


def answer(proxy, status, body, when=None, **headers):
    text = json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda w: getattr(w, proxy).behave(Answer(status, text, names, when))


def heal(proxy):
    return lambda w: getattr(w, proxy).heal()


def vector(**more):
    return {"status": "success", "data": {"resultType": "vector", "result": []}, **more}


def status(code, reason, message):
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def prometheus(break_it, mend_it, says, **more):
    return Row(PROMETHEUS, break_it, mend_it, says, blocks=frozenset({"metrics"}), **more)


def prometheus_answers(code, body, says, **headers):
    return prometheus(answer("prometheus_proxy", code, body, **headers), heal("prometheus_proxy"), says)


def series(values, says, **more):
    return prometheus(spoil(values), good_again, says, per_policy=True, **more)


def is_write(method, target):
    return method in ("PATCH", "POST") and "/horizontalpodautoscalers" in target


def is_read(method, _target):
    return method == "GET"


def api_writes(code, reason, *, refusal=False, **headers):
    body = status(code, reason, f"this is a {reason} made for the test")
    blocks = frozenset({"hpa"})
    says = "it changed while being written; the next tick looks again" if refusal else f"{code}"
    breaks = answer("kubernetes_proxy", code, body, is_write, **headers)
    return Row(KUBERNETES, breaks, heal("kubernetes_proxy"), says, refusal=refusal, blocks=blocks)


def api_reads(code, reason, **headers):
    body = status(code, reason, f"this is a {reason} made for the test")
    blocks = frozenset({"hpa"})
    return Row(
        KUBERNETES,
        answer("kubernetes_proxy", code, body, is_read, **headers),
        heal("kubernetes_proxy"),
        f"{code}",
        blocks=blocks,
    )


ROWS = {
    "prometheus-killed": prometheus(
        lambda w: w.prometheus.process.kill(), lambda w: w.prometheus.restart(), "Prometheus: http://127.0.0.1:"
    ),
    "prometheus-refuses": prometheus(
        lambda w: w.prometheus_proxy.behave(Refuse()), heal("prometheus_proxy"), "connection refused"
    ),
    "prometheus-hangs": prometheus(
        lambda w: w.prometheus.process.pause(), lambda w: w.prometheus.process.resume(), "no answer within"
    ),
    "prometheus-503": prometheus_answers(503, {}, "HTTP 503", Retry_After="3600"),
    "prometheus-warnings": prometheus_answers(
        200, vector(warnings=["remote read: one shard is away"]), "one shard is away"
    ),
    "prometheus-empty": Row(
        PROMETHEUS,
        answer("prometheus_proxy", 200, vector()),
        heal("prometheus_proxy"),
        "no ",
        per_policy=True,
        blocks=frozenset({"metrics"}),
    ),
    "no-series": series({"*": None}, "no "),
    "nan": series({"*": math.nan}, "not a finite number"),
    "inf": series({"*": math.inf}, "not a finite number"),
    "target-dead": series({"chat-1": "down", "plain-1": "down"}, "no fresh sample of "),
    "target-dead-for-2-minutes": series(
        {"chat-1": "down", "plain-1": "down"}, "no fresh sample of ", intervals=round(120 / INTERVAL)
    ),
    "redis-killed": Row(
        REDIS, lambda w: w.redis.process.kill(), lambda w: w.redis.restart(), "Redis: ", blocks=frozenset({"redis"})
    ),
    "redis-hangs": Row(
        REDIS,
        lambda w: w.redis.process.pause(),
        lambda w: w.redis.process.resume(),
        "no answer",
        blocks=frozenset({"redis"}),
    ),
    "api-killed": Row(
        KUBERNETES,
        lambda w: w.cluster.kill(),
        lambda w: w.cluster.restart(),
        "Kubernetes: ",
        blocks=frozenset({"hpa", "api"}),
    ),
    "api-hangs": Row(
        KUBERNETES,
        lambda w: w.cluster.pause(),
        lambda w: w.cluster.resume(),
        "no answer",
        blocks=frozenset({"hpa", "api"}),
    ),
    "api-swallows": Row(
        KUBERNETES,
        lambda w: w.kubernetes_proxy.behave(Hang()),
        heal("kubernetes_proxy"),
        "no answer",
        blocks=frozenset({"hpa"}),
    ),
    "api-write-409": api_writes(409, "Conflict", refusal=True),
    "api-write-422": api_writes(422, "Invalid"),
    "api-write-429": api_writes(429, "TooManyRequests", Retry_After="3600"),
    "api-write-403": api_writes(403, "Forbidden"),
    "api-read-403": api_reads(403, "Forbidden"),
    "api-read-429": api_reads(429, "TooManyRequests", Retry_After="3600"),
}


def seqs(w):
    return w.seq(w.chat), w.seq(w.plain)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_outage(world, row, caplog):
    caplog.set_level(logging.INFO, __name__)
    w, daemon = world, world.main
    eventually(lambda: is_settled(w), 15)
    daemon.await_ticks(1)
    before = {policy: w.numbers(policy) for policy in (w.chat, w.plain)}
    bounds, published, log = w.hpa(), seqs(w), daemon.mark()

    row.break_it(w)
    try:
        asked = w.ask_for_more()
        ticked = interval_kept(daemon, INTERVAL, row.intervals)
        told = eventually(lambda: refusals(w, log) if row.refusal else told_of_all(w, row, log), 10)
        check_while_broken(w, row, Before(before, published, bounds), asked)
    finally:
        row.mend_it(w)
    mended = daemon.ticks()
    names = {name(line) for line in told if not row.refusal}
    eventually(lambda: {name(line) for line in daemon.lines("recovered", log)} >= names, 20, 0.01)
    recovered = daemon.ticks() - mended
    eventually(lambda: w.hpa()[1] == asked, 10, 0.01)
    written = daemon.ticks() - mended
    what = "ticks %d in %d intervals; recovered after %d, HPA written after %d: %s"
    LOG.info(what, ticked, row.intervals, recovered, written, message(told[0]))

    assert abs(ticked - row.intervals) <= 1, "the loop keeps its interval"
    assert daemon.lines("tick missed", log) == []
    assert recovered <= RECOVERY_TICKS
    assert written <= RECOVERY_TICKS
    told = refusals(w, log) if row.refusal else daemon.lines("problem", log)
    assert len(told) == max(1, len(names)), "one line, or one for each policy"
    assert all(row.says in message(line) and "\n" not in message(line) for line in told)
    assert row.refusal or {line["system"] for line in told} == {row.system}
    assert row.refusal or all((line.get("policy") is not None) == row.per_policy for line in told)
    assert len(daemon.lines("recovered", log)) == len(names)
    assert_nothing_dropped(w, before)
    assert "Traceback" not in daemon.text()
    assert daemon.lines("bug") == []


@dataclass(frozen=True)
class Before:
    """What there was: limit and weights, seqs, the HPA's bounds."""

    numbers: dict
    published: tuple
    bounds: tuple


def check_while_broken(w, row, before, asked):
    """What still works while one part does not."""
    if "redis" not in row.blocks:
        assert all(now > was + 1 for now, was in zip(seqs(w), before.published, strict=True)), (
            "the ranking is refreshed"
        )
        assert_nothing_dropped(w, before.numbers)
    if "hpa" not in row.blocks:
        eventually(lambda: w.hpa()[1] == asked, 5)
    if "api" not in row.blocks:
        now = w.hpa()
        assert now[0] >= before.bounds[0], "minReplicas does not drop"
        assert now[1] >= before.bounds[1], "maxReplicas does not drop"


def assert_nothing_dropped(w, before):
    for policy, (limit, weights) in before.items():
        now = w.numbers(policy)
        assert now[0] >= limit, f"the limit of {policy} dropped"
        assert now[1] == pytest.approx(weights, rel=jitter_ratio(policy)), f"weights of {policy} moved"


def refusals(w, log):
    """Decisions about `chat` whose HPA write was refused."""
    decisions = [line for line in w.main.lines("decision", log) if line["policy"] == w.chat]
    return [d for d in decisions if any((o["actuator"], o["result"]) == ("hpa", "refused") for o in d["outcomes"])]


def told_of_all(w, row, log):
    """The lines about the outage. Where it breaks series, none before both policies have theirs, which come in ticks apart."""
    told = w.main.lines("problem", log)
    return told if not row.per_policy or {line.get("policy") for line in told} >= {w.chat, w.plain} else []


def name(line):
    return line["system"], line.get("policy")


def message(line):
    return line["message"] if "message" in line else "; ".join(o["detail"] for o in line["outcomes"])
