"""Two readings of the counters make rates, means and quantiles; what cannot be compared is said so."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from trimtab.errors import QueueError
from trimtab.queue import Counters, Discontinuity, Window, between, inspect_command, parse_inspection
from trimtab.queue.counters import MONOTONIC, bucket_bound_seconds

NOW_MS = 1790000000000
HEAD = [NOW_MS, 8, 5, 1, 3, 2, (NOW_MS - 2500) * 1000]
"""now_ms, limit, waiting, delayed, leases, dead, oldest_us."""
COUNTED = {
    "arrivals": 20,
    "since": (NOW_MS - 60_000) * 1000,
    "at": NOW_MS - 500,
    "inflight_ms": 10_000,
    "extra_ms": 4_000,
    "extra": 2,
    "starts": 13,
    "completions": 10,
    "waited_us": 26_000_000,
    "service_us": 10_000_000,
    "service:40": 10,
}


def reply(head=HEAD, as_text=False, **counted):
    fields = [str(part) for pair in {**COUNTED, **counted}.items() for part in pair]
    return [*head, *(fields if as_text else [part.encode() for part in fields])]


def reading(after_ms=0, **counted):
    return parse_inspection(reply([NOW_MS + after_ms, *HEAD[1:]], **counted))


@pytest.mark.parametrize("as_text", [False, True], ids=["bytes", "text"])
def test_a_reply_is_read_and_its_integrals_reach_its_instant(as_text):
    seen = parse_inspection(reply(as_text=as_text))
    assert (seen.at, seen.limit, seen.waiting, seen.delayed, seen.in_flight, seen.dead) == (1790000000.0, 8, 5, 1, 3, 2)
    assert (seen.slots_in_use, seen.oldest_seconds, seen.counters.since) == (5, 2.5, 1789999940.0)
    assert seen.counters.inflight_seconds == pytest.approx(10.0 + 3 * 0.5)
    assert seen.counters.slots_seconds == pytest.approx(14.0 + 5 * 0.5)


def test_a_queue_that_was_never_used_reads_as_zeros():
    seen = parse_inspection([NOW_MS, 5, 0, 0, 0, 0, b"0"])
    assert (seen.in_flight, seen.oldest_seconds, seen.counters) == (0, 0.0, Counters())


WRONG = {
    "error": ResponseError("WRONGTYPE"),
    "none": None,
    "empty": [],
    "short": [1, 2, 3],
    "status": b"OK",
    "odd": [*HEAD, b"arrivals"],
    "no number": [*HEAD, b"arrivals", b"many"],
    "no numbers": ["x"] * 7,
    "negative": reply(starts=-1),
    "nan": reply(waited_us="nan"),
    "infinite": reply(inflight_ms="inf"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_another_reply_is_refused(wrong):
    with pytest.raises(QueueError, match=r"no counters|no reply of inspect"):
        parse_inspection(wrong)


def test_the_command_names_the_keys_of_one_hash_slot():
    name, text, count, *rest = inspect_command("models/m", "q", 7)
    assert (name, count, len(rest), rest[-1]) == ("EVAL", 13, 14, 7)
    assert all(key.startswith("trimtab:{models/m}:") for key in rest[:-1])
    assert "HGETALL" in text


def test_two_readings_give_rates_means_and_quantiles():
    after = reading(
        after_ms=2000,
        at=NOW_MS + 2000,
        inflight_ms=19_500,
        extra_ms=11_000,
        arrivals=26,
        starts=17,
        **{"completions": 14, "waited_us": 34_000_000, "service_us": 12_000_000, "service:40": 13, "service:44": 1},
    )
    window = between(reading(), after)
    assert isinstance(window, Window)
    assert window.seconds == 2.0
    assert (window.arrivals_per_second, window.starts_per_second, window.completions_per_second) == (3.0, 2.0, 2.0)
    assert window.mean_in_flight == pytest.approx((19.5 - 11.5) / 2)
    assert window.mean_slots == pytest.approx((30.5 - 16.5) / 2)
    assert (window.mean_wait_seconds, window.mean_service_seconds) == (2.0, 0.5)
    assert window.service == {40: 3, 44: 1}
    assert bucket_bound_seconds(39) < window.service_quantile_seconds(0.5) <= bucket_bound_seconds(40)
    assert window.service_quantile_seconds(1.0) == pytest.approx(bucket_bound_seconds(44))


def test_a_window_without_work_has_no_means():
    window = between(reading(), reading(after_ms=1000))
    assert (window.mean_wait_seconds, window.mean_service_seconds, window.service_quantile_seconds(0.5)) == (None,) * 3
    assert window.mean_in_flight == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ({}, "no time passed"),
        ({"after_ms": -1500}, "clock went back by 1.500 s"),
        ({"after_ms": 1000, "since": NOW_MS * 1000}, "began anew"),
        ({"after_ms": 1000, "arrivals": 19}, "arrivals fell by 1"),
        ({"after_ms": 1000, "service:40": 9}, "service:40 fell by 1"),
        ({"after_ms": 1000, "at": NOW_MS + 1000, "inflight_ms": 9_000}, "inflight_seconds fell"),
        ({"after_ms": 1000, "waited_us": 0}, "waited_seconds fell by 26"),
    ],
    ids=["twice", "clock", "anew", "counter", "bucket", "integral", "sum"],
)
def test_what_cannot_be_compared_says_why(after, reason):
    found = between(reading(), reading(**after))
    assert isinstance(found, Discontinuity)
    assert reason in found.reason


SILENT = {"seconds": 1.0, "inflight_seconds": 0.0, "slots_seconds": 0.0, "waited_seconds": 0.0, "service_seconds": 0.0}
STEPS = st.fixed_dictionaries(
    {
        "seconds": st.integers(1, 5000).map(lambda ms: ms / 1000),
        **{name: st.integers(0, 50) for name in MONOTONIC},
        **{name: st.integers(0, 10**6).map(lambda n: n / 1000) for name in ("inflight_seconds", "slots_seconds")},
        **{name: st.integers(0, 10**9).map(lambda n: n / 1e6) for name in ("waited_seconds", "service_seconds")},
        "service": st.dictionaries(st.integers(0, 80), st.integers(1, 9), max_size=4),
    }
)


def later(before, step):
    counters = before.counters
    sums = ("inflight_seconds", "slots_seconds", "waited_seconds", "service_seconds")
    buckets = {*counters.service, *step["service"]}
    return replace(
        before,
        at=before.at + step["seconds"],
        counters=replace(
            counters,
            **{name: getattr(counters, name) + step[name] for name in (*MONOTONIC, *sums)},
            service={bucket: counters.service.get(bucket, 0) + step["service"].get(bucket, 0) for bucket in buckets},
        ),
    )


@given(STEPS, STEPS)
def test_a_window_is_the_sum_of_its_parts(first, second):
    start = reading()
    middle = later(start, first)
    end = later(middle, second)
    whole, parts = between(start, end), [between(start, middle), between(middle, end)]
    assert all(isinstance(window, Window) for window in (whole, *parts))
    assert whole.seconds == pytest.approx(sum(part.seconds for part in parts))
    for name in MONOTONIC:
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts)
    for name in ("mean_in_flight", "mean_slots"):
        total = sum(getattr(part, name) * part.seconds for part in parts)
        assert getattr(whole, name) * whole.seconds == pytest.approx(total, abs=1e-6)
    assert sum(whole.service.values()) == sum(sum(part.service.values()) for part in parts)


@given(st.dictionaries(st.integers(0, 80), st.integers(1, 9), min_size=1, max_size=6), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_and_stay_inside_the_histogram(service, low, high):
    window = between(reading(), later(reading(), {**dict.fromkeys(MONOTONIC, 0), **SILENT, "service": service}))
    low, high = sorted((low, high))
    found = [window.service_quantile_seconds(quantile) for quantile in (low, high)]
    assert 0.0 <= found[0] <= found[1] <= bucket_bound_seconds(max(service)) * (1 + 1e-9)
