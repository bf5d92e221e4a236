"""The rate's history from a real Prometheus whose storage was filled with the past by promtool."""

import math
import time
import urllib.request
from dataclasses import replace

import pytest
import redis

from controller.deadline import Deadline
from controller.decide.floors.forecast import forecast, study
from controller.model.snapshot import Known, NotAsked, Unknown
from controller.observe.gather import Observer
from controller.observe.history import STEP_SECONDS, HistoryReader, rate_query
from controller.settings import Settings

pytestmark = pytest.mark.integration

DAYS = 4
SCRAPE = 60
RATE = {"rate": {"query": "sum by ($by) (rate(requests_total{$selector}[$window]))"}}
SCALING = {
    "hpa": "h",
    "target": {"name": "m"},
    "min": {"floor": 2, "ceiling": 40},
    "max": {"floor": 40, "ceiling": 40},
    "forecast": {"history": "3d"},
}


def per_second(at):
    """20 requests/s for each of two pods, and three times as many for ten minutes from the hour on."""
    return 60.0 if at % 3600.0 < 600.0 else 20.0


def past(now):
    """OpenMetrics text of two pods' counters. One pod starts anew after two days; nothing is known of five hours."""
    lines = ["# TYPE requests counter"]
    for pod, fresh_from in (("a", 0.0), ("b", now - 2 * 86400.0)):
        count = 0.0
        start = now - now % SCRAPE - DAYS * 86400
        for n in range(DAYS * 86400 // SCRAPE + 1):
            at = start + n * SCRAPE
            if at - SCRAPE < fresh_from <= at:
                count = 0.0
            count += per_second(at - SCRAPE) * SCRAPE
            if not 30 * 3600 < now - at < 35 * 3600:
                lines.append(f'requests_total{{service="svc",pod="{pod}"}} {count:.0f} {at:.0f}')
    return "\n".join([*lines, "# EOF\n"])


@pytest.fixture(scope="module")
def backfilled(backfilled_prometheus):
    """(URL of a Prometheus that holds the past, the instant at which it ends)."""
    # Always at the same minute of an hour: what lies at the edges of steps and gaps is then always the same.
    now = 3600.0 * (time.time() // 3600.0) - 1380.0
    return backfilled_prometheus(past(now)), now


@pytest.fixture
def asking(policy):
    """A policy that asks for a forecast."""
    return policy(signals=RATE, scaling=SCALING)


@pytest.fixture
def read(wait_until):
    """The first reading of a reader that is known."""

    def known(reader, policy, at):
        def found():
            reading = reader.read([policy], at)[policy.key]
            return reading if isinstance(reading, Known) else None

        return wait_until(found).value

    return known


def test_the_history_is_the_services_own_rate(backfilled, asking, read):
    url, now = backfilled
    reader = HistoryReader(Settings(prometheus_url=url))
    assert reader.read([asking], now)[asking.key] == Unknown("it has not been read yet")
    found = read(reader, asking, now)
    assert len(found.rates) == 3 * 86400 / STEP_SECONDS
    assert now - STEP_SECONDS < found.ended_at <= now
    assert found.problem == ""
    known = {
        found.ended_at - STEP_SECONDS * n: rate for n, rate in enumerate(reversed(found.rates)) if rate is not None
    }
    gone = [at for at in known if 30.5 * 3600 < now - at < 34.5 * 3600]
    assert not gone, "a gap is a gap, not a zero"
    whole = [at for at in known if abs(now - at - 2 * 86400.0) > 900.0 and not 29.5 * 3600 < now - at < 35.5 * 3600]
    inside = [at for at in whole if at % 3600.0 == 2400.0]
    assert [known[at] for at in inside] == pytest.approx([40.0] * len(inside), rel=0.05)
    peaks = [at for at in whole if at % 3600.0 == 600.0]
    assert [known[at] for at in peaks] == pytest.approx([120.0] * len(peaks), rel=0.05)
    restart = [rate for at, rate in known.items() if abs(now - at - 2 * 86400.0) <= 900.0]
    assert all(0.0 < rate <= 125.0 for rate in restart), "a counter that starts anew is no burst and no negative rate"
    reader.close()


def test_the_hour_is_foreseen_from_it(backfilled, asking, read):
    url, now = backfilled
    reader = HistoryReader(Settings(prometheus_url=url))
    found = read(reader, asking, now)
    learnt = study(found, 195.0, None)
    assert learnt.season in {"hour", "day"}, "every day has the same hours"
    assert learnt.skill > 0.2
    hour = 3600.0 * math.ceil(now / 3600.0)
    assert forecast(found, learnt, hour - 60.0).growth > 2.0
    assert forecast(found, learnt, hour + 2000.0).growth < 1.2
    reader.close()


def test_only_what_is_missing_is_asked_for_again(backfilled, serve, asking, read, wait_until):
    url, now = backfilled
    asked = []

    def forward(handler):
        asked.append(handler.path)
        with urllib.request.urlopen(url + handler.path, timeout=10) as answer:
            handler.reply(answer.read())

    reader = HistoryReader(Settings(prometheus_url=serve(forward).url))
    early = read(reader, asking, now - 7200.0)
    assert len(asked) == 1
    for _ in range(50):
        reader.read([asking], now - 7200.0 + 1800.0)
    assert len(asked) == 1, "an hour has not passed"
    found = wait_until(
        lambda: late if (late := reader.read([asking], now)[asking.key].value).ended_at > early.ended_at else None
    )
    assert len(asked) == 2
    assert found.rates[:-24] == early.rates[24:]
    assert found.rates[-1] is not None
    reader.close()


def test_a_failure_keeps_the_last_good_history_and_is_named(backfilled, serve, asking, read, wait_until):
    url, now = backfilled
    broken = []

    def behave(handler):
        if broken:
            handler.reply({"status": "error", "error": "too many samples"}, status=422)
            return
        with urllib.request.urlopen(url + handler.path, timeout=10) as answer:
            handler.reply(answer.read())

    reader = HistoryReader(Settings(prometheus_url=serve(behave).url))
    good = read(reader, asking, now - 7200.0)
    broken.append(True)
    kept = wait_until(lambda: late if (late := reader.read([asking], now)[asking.key].value).problem else None)
    assert kept == replace(good, problem=kept.problem)
    assert "too many samples" in kept.problem
    reader.close()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param({"status": "success", "warnings": ["store gone"], "data": {"resultType": "matrix", "result": []}},
                     "partial answer: store gone", id="partial"),
        pytest.param({"status": "success", "data": {"resultType": "vector", "result": []}}, "returns a vector", id="kind"),
        pytest.param({"status": "success", "data": {"resultType": "matrix", "result": [{"values": []}, {"values": []}]}},
                     "2 series", id="two series"),
        pytest.param({"hello": 1}, "is this its URL?", id="no Prometheus"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_whole_is_no_history(serve, asking, wait_until, body, words):
    reader = HistoryReader(Settings(prometheus_url=serve(lambda handler: handler.reply(body)).url))

    def failed():
        found = reader.read([asking], 1e9)[asking.key]
        return found if isinstance(found, Unknown) and "yet" not in found.reason else None

    assert words in wait_until(failed).reason
    reader.close()


def test_a_server_that_hangs_delays_no_tick(serve, asking):
    hanging = serve(lambda handler: handler.server.released.wait(20.0))
    reader = HistoryReader(Settings(prometheus_url=hanging.url))
    for tick in range(200):
        assert isinstance(reader.read([asking], 1e9 + tick)[asking.key], Unknown)
    assert len(hanging.requests) <= 1, "one errand at a time"


def test_a_policy_without_forecast_is_not_asked_about(serve, policy):
    reader = HistoryReader(Settings(prometheus_url=serve(lambda handler: handler.reply({})).url))
    without = {key: value for key, value in SCALING.items() if key != "forecast"}
    for spec in ({}, {"scaling": without}, {"scaling": SCALING | {"forecast": {"enabled": False}}}):
        without_it = policy(signals=RATE, **spec)
        assert isinstance(reader.read([without_it], 1e9)[without_it.key], NotAsked)


def test_the_query_sums_the_service_over_steps(policy, asking):
    assert rate_query(asking) == ('sum(sum by (pod, service) (rate(requests_total{service="svc"}[300s])))')
    by_pod = {"rate": {"query": "sum by ($by) (rate(container_requests_total{$pods}[$window]))"}}
    assert "by pod only" in rate_query(policy(signals=by_pod, scaling=SCALING)).reason
    no_rate = {"cpu": {"query": "sum by ($by) (cpu{$selector})"}}
    assert rate_query(policy(signals=no_rate, scaling=SCALING)) == Unknown("the policy has no signal `rate`")


def test_the_observer_hands_it_on(backfilled, asking, wait_until):
    url, now = backfilled

    nobody = redis.Redis(port=1, decode_responses=True, socket_timeout=0.5)
    observer = Observer(Settings(prometheus_url=url), kube=None, redis=nobody)

    def known():
        found = observer.observe([asking], now, Deadline.after(5.0)).services[asking.key].history
        return found if isinstance(found, Known) else None

    assert wait_until(known).value.rates
    observer.close()
