"""What needs no Redis: arguments, settings, counters, errors, and the price of importing."""

import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions as redis_errors
from redis.asyncio import Redis as AsyncRedis

import trimtab
from trimtab import RequestQueue
from trimtab.contract import Keys
from trimtab.errors import QueueUnavailable, RequestDead
from trimtab.queue import AsyncRequestQueue, Counters, Job, Reject, Retry, to_json
from trimtab.queue import protocol as wire
from trimtab.queue.counters import bucket_bound_seconds, pack_totals
from trimtab.queue.link import pack, persist
from trimtab.queue.protocol import Protocol, Request, Settings

SETTINGS = Settings(5, 10.0, 100, 3, 600.0, 30.0, 1.0, 5.0)
READ_ONLY_6_2 = "Error running script (call to f_ab): @user_script:9: @user_script: 9: -READONLY You can't write"
LEASE = b"1790000000000000:ab1x2:2:3:4:-5:1790000060000:1789999999000000:name:with:colons"


def test_a_lease_says_all_about_its_job():
    job = Job(LEASE, b'{"a": 1}')
    assert (job.id, job.charged, job.attempt, job.cost, job.priority) == ("name:with:colons", 2, 3, 4, -5)
    assert (job.started_at, job.enqueued_at, job.deadline_at) == (1790000000.0, 1789999999.0, 1790000060.0)
    assert job.json() == {"a": 1}
    assert "name:with:colons" in repr(job)


def test_json_payloads_are_compact_utf8():
    assert to_json({"word": "é", "list": []}) == '{"word":"é","list":[]}'.encode()


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (Request(b"", cost=0), "cost is 0"),
        (Request(b"", priority=1001), "priority is 1001"),
        (Request(b"", deadline=0), "deadline is 0"),
        (Request(b"", deadline=float("nan")), "deadline is nan"),
        (Request(b"", id=""), "1 to 200 bytes"),
        (Request(b"", id="a\nb"), "printable"),
        (Request(b"", id="é" * 101), "1 to 200 bytes"),
        (Request("text"), "payload must be bytes, not str"),
    ],
    ids=["cost", "priority", "deadline", "nan", "empty id", "control", "long id", "text"],
)
def test_a_wrong_request_is_refused_by_name(wrong, fault):
    with pytest.raises((ValueError, TypeError), match=fault):
        Protocol("a/b", "q", SETTINGS).enqueue([wrong])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"lease_seconds": 0}, "lease_seconds is 0"),
        ({"default_limit": -1}, "default_limit is -1"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"max_length": 0}, "max_length is 0"),
        ({"result_ttl_seconds": float("inf")}, "result_ttl_seconds is inf"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds is nan"),
    ],
    ids=["lease", "limit", "attempts", "length", "ttl", "timeout"],
)
def test_a_wrong_setting_is_refused_by_name(options, fault):
    with pytest.raises(ValueError, match=fault):
        RequestQueue("a/b", **options)


def test_an_asyncio_client_alone_is_not_enough():
    with pytest.raises(ValueError, match="keeper"):
        AsyncRequestQueue("a/b", redis=AsyncRedis())
    with pytest.raises(TypeError, match=r"redis\.Redis"):
        RequestQueue("a/b", redis=AsyncRedis())


def test_too_large_a_batch_is_refused():
    protocol = Protocol("a/b", "q", SETTINGS)
    with pytest.raises(ValueError, match="at most 500"):
        protocol.enqueue([Request(b"")] * 501)
    with pytest.raises(ValueError, match="0 to 500"):
        protocol.next(501, [])


def test_all_keys_lie_in_the_policys_hash_slot():
    keys = Keys("models/m")
    names = keys.queue("q").script_keys(keys.limit)
    assert len(set(names)) == 13
    assert all(name.startswith("trimtab:{models/m}:") for name in names)
    assert names[4] == keys.limit


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_packing_is_what_redis_reads(arguments):
    packed, found = pack(arguments), []
    while packed:
        head, packed = packed[1:].split(b"\r\n", 1)
        found.append(packed[: int(head)])
        packed = packed[int(head) + 2 :]
    assert found == arguments


@given(st.integers(1, 40))
def test_the_back_off_doubles_up_to_a_minute(attempt):
    plain = min(60.0, 2.0 ** (attempt - 1))
    assert 0.5 * plain <= SETTINGS.backoff(attempt) <= 1.5 * plain


def test_what_a_handler_raised_becomes_its_settlement():
    protocol = Protocol("a/b", "q", SETTINGS)
    job = Job(LEASE, b"")
    assert protocol.outcome(job, Reject("bad input")) == (b"dead", job, b"bad input")
    assert protocol.outcome(job, Retry("warming", after_seconds=2)) == (b"retry", job, b"2000:warming")
    verb, _, value = protocol.outcome(job, KeyError("x"))
    assert verb == b"retry"
    assert value.endswith(b":KeyError: 'x'")


def test_nonces_never_repeat():
    protocol, other = Protocol("a/b", "q", SETTINGS), Protocol("a/b", "q", SETTINGS)
    assert len({maker.nonce() for maker in (protocol, other) for _ in range(100)}) == 200
    assert all(character.isalnum() for character in protocol.nonce().decode())


def test_a_dead_requests_reason_reaches_its_waiter():
    with pytest.raises(RequestDead) as dead:
        wire.final("x", [b"dead", "überlast".encode()])
    assert dead.value.reason == "überlast"


def test_counters_read_what_the_scripts_wrote():
    fields = {
        b"arrivals": b"7",
        b"inflight_ms": b"1500",
        b"at": b"1790000000123",
        b"service:4": b"3",
        b"service:8": b"1",
    }
    counters = Counters.parse(fields)
    assert (counters.arrivals, counters.inflight_seconds, counters.at) == (7, 1.5, 1790000000.123)
    assert counters.service_quantile_seconds(0.5) == bucket_bound_seconds(4) == 0.002
    assert counters.service_quantile_seconds(0.9) == 0.004
    assert Counters.parse({}).service_quantile_seconds(0.5) is None


def test_counters_read_the_packed_totals_too():
    packed = pack_totals({"starts": 9, "inflight_ms": 1500, "at": 1790000000123, "waited_us": 2**53 - 1})
    counters = Counters.parse({b"arrivals": b"7", b"totals": packed})
    assert (counters.arrivals, counters.starts, counters.inflight_seconds) == (7, 9, 1.5)
    assert (counters.at, counters.waited_seconds) == (1790000000.123, (2**53 - 1) / 1e6)


@pytest.mark.parametrize(
    ("errors", "tries", "fails"),
    [
        ([], 1, False),
        ([redis_errors.ConnectionError("gone"), redis_errors.ReadOnlyError("replica")], 3, False),
        ([redis_errors.ResponseError(READ_ONLY_6_2)] * 2, 3, False),
        ([redis_errors.ResponseError(READ_ONLY_6_2)] * 99, 7, True),
        ([redis_errors.TimeoutError("slow")] * 99, 7, True),
        ([redis_errors.AuthenticationError("wrong password")], 1, True),
        ([redis_errors.OutOfMemoryError("OOM")], 1, True),
    ],
    ids=["answered", "transient", "old words", "old words for too long", "for too long", "denied", "refused"],
)
def test_calls_are_repeated_while_that_can_help(errors, tries, fails):
    clock = itertools.count()
    pending, seen = list(errors), []

    def call(repeated):
        seen.append(repeated)
        if pending:
            raise pending.pop(0)
        return "reply"

    def run():
        return persist(call, 7.0, clock=lambda: float(next(clock)), sleep=lambda _: None)

    if fails:
        with pytest.raises(QueueUnavailable, match=r"^Redis: "):
            run()
    else:
        assert run() == "reply"
    assert seen == [False, *[True] * (tries - 1)]


def test_all_public_names_can_be_imported():
    assert all(getattr(trimtab, name) is not None for name in trimtab.__all__)
    with pytest.raises(AttributeError, match="no_such"):
        _ = trimtab.no_such


def test_importing_the_library_imports_no_redis_and_no_controller():
    code = "import sys, trimtab; print([name for name in ('redis', 'controller', 'asyncio') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"
