"""From documents to the table: what is accepted, what is refused, and what stands when nothing more comes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.balancer import State
from trimtab.balancer.core import Core
from trimtab.balancer.feed import Feed
from trimtab.balancer.heartbeat import Heartbeat
from trimtab.balancer.session import Session
from trimtab.contract import Endpoint, Keys, ranking_document
from trimtab.errors import NoEndpoints

POLICY = "models/m"
NOW = 1_790_000_000.0


def document(seq=1, weights=None, *, policy=POLICY, published_at=NOW, valid_for=60.0):
    rows = [
        Endpoint(name, name, rank, weight, "serving" if weight else "ejected")
        for rank, (name, weight) in enumerate((weights or {"a": 0.7, "b": 0.3, "out": 0.0}).items(), start=1)
    ]
    return ranking_document(
        policy=policy, seq=seq, published_at=published_at, valid_for=valid_for, limit=None, panic=False, endpoints=rows
    )


class World:
    """A feed, and the time."""

    def __init__(self, fallback=()):
        self.now = 5000.0
        self.core = Core(clock=lambda: self.now)
        self.feed = Feed(self.core, POLICY, fallback, last_good_seconds=600.0)
        self.session = Session(self.core, self.feed, Keys(POLICY), share=True)

    def offer(self, text):
        return self.feed.offer(text, NOW + self.now - 5000.0)

    def later(self, seconds):
        self.now += seconds
        try:
            self.core.take().release()  # picks alone must be enough to notice
        except NoEndpoints:
            self.feed.advance(self.now)
        return self.feed.state

    @property
    def weights(self):
        return {e.name: round(e.weight, 3) for e in self.core._table.everyone}


@pytest.mark.parametrize(
    ("fallback", "published", "after", "state", "weights"),
    [
        pytest.param((), False, 0, State.NONE, {}, id="nothing ever known"),
        pytest.param(("x", "y"), False, 0, State.FALLBACK, {"x": 0.5, "y": 0.5}, id="fallback only"),
        pytest.param(("x", "y"), False, 9e5, State.FALLBACK, {"x": 0.5, "y": 0.5}, id="fallback does not age"),
        pytest.param(("x",), True, 0, State.FRESH, {"a": 0.7, "b": 0.3, "out": 0.0}, id="a ranking replaces it"),
        pytest.param((), True, 59, State.FRESH, {"a": 0.7, "b": 0.3, "out": 0.0}, id="fresh"),
        pytest.param((), True, 61, State.LAST_GOOD, {"a": 0.7, "b": 0.3, "out": 0.0}, id="last good"),
        pytest.param((), True, 599, State.LAST_GOOD, {"a": 0.7, "b": 0.3, "out": 0.0}, id="still last good"),
        pytest.param((), True, 601, State.UNIFORM, {"a": 0.333, "b": 0.333, "out": 0.333}, id="uniform"),
        pytest.param(("x",), True, 9e5, State.UNIFORM, {"a": 0.333, "b": 0.333, "out": 0.333}, id="uniform for ever"),
    ],
)
def test_degradation(fallback, published, after, state, weights):
    world = World(fallback)
    if published:
        assert world.offer(document())
    assert world.later(after) is state
    assert world.weights == weights


def test_a_new_ranking_ends_every_degradation():
    world = World()
    world.offer(document(1))
    world.later(2000)
    assert world.offer(document(2, {"b": 1.0}, published_at=NOW + 2000))
    assert (world.feed.state, world.weights) == (State.FRESH, {"b": 1.0})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(None, "no ranking is published", id="no key"),
        pytest.param("", "no JSON", id="empty"),
        pytest.param(b"\xff\xfe", "no JSON", id="bytes that are no text"),
        pytest.param("{" * 9000, "ranking:", id="nonsense"),
        pytest.param("[" * 100_000, "ranking:", id="nested too deeply"),
        pytest.param('{"v": 2}', "version 2", id="a version to come"),
        pytest.param(document(0), "older than 1", id="an older publish"),
        pytest.param(document(9, policy="models/other"), "of policy models/other", id="another policy"),
        pytest.param(document(9).replace("0.7", "NaN"), "finite", id="not a number"),
        pytest.param(document(9).replace('"b"', '"a"'), "listed twice", id="an endpoint twice"),
        pytest.param(json.dumps({**json.loads(document(9)), "endpoints": []}), "no endpoints", id="no endpoints"),
    ],
)
def test_what_is_of_no_use_changes_nothing(text, words):
    world = World()
    world.offer(document(1))
    before = world.weights
    assert not world.offer(text)
    assert words in world.feed.fault
    assert "\n" not in world.feed.fault
    assert world.weights == before
    assert world.offer(document(2))
    assert world.feed.fault == ""


def test_the_same_publish_again_is_no_fault_and_no_news():
    world = World()
    world.offer(document(1))
    table = world.core._table
    assert world.offer(document(1))
    assert world.core._table is table


def test_history_starts_anew_only_once_the_old_one_is_of_no_use():
    world = World()
    world.offer(document(1842))
    assert world.later(599) is State.LAST_GOOD
    assert not world.offer(document(3, {"n": 1.0}, published_at=NOW + 599))
    assert world.later(10) is State.UNIFORM
    assert not world.offer(document(1800, {"n": 1.0}, published_at=NOW - 60)), "older by the clock too"
    assert world.offer(document(3, {"n": 1.0}, published_at=NOW + 605))
    assert world.weights == {"n": 1.0}


@pytest.mark.parametrize(
    ("wrong_by", "state"),
    [(0, State.FRESH), (-7200, State.LAST_GOOD), (7200, State.FRESH)],
    ids=["right", "slow", "fast"],
)
def test_a_publisher_with_a_wrong_clock(wrong_by, state):
    world = World()
    world.feed._last_good_seconds = 1e6
    world.offer(document(1, published_at=NOW + wrong_by))
    assert world.feed.state is state
    world.now += 5.0
    # The second one was not there five seconds ago, so it is fresh, whatever is written on it.
    assert world.offer(document(2, published_at=NOW + 5 + wrong_by))
    assert world.feed.state is State.FRESH
    assert world.feed.age_seconds(world.now) <= 5.0


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_the_newest_publish_wins_in_any_order(order):
    world = World()
    newest = 0
    for seq in order:
        assert world.offer(document(seq)) == (seq >= newest)
        newest = max(newest, seq)
        assert world.feed.ranking.seq == newest


def reply(clients, now, at, *rows):
    total = {"clients": clients, "n": {}, "f": {}}
    for row in rows:
        for kind in "nf":
            for name, value in row.get(kind, {}).items():
                total[kind][name] = total[kind].get(name, 0) + value
    return [now, at, json.dumps(total)]


def test_others_are_all_but_oneself():
    beat = Heartbeat()
    row = json.loads(beat.arguments({"a": 3}, {"b": 1.5})[1])
    assert row == {"n": {"a": 3}, "f": {"b": 1.5}}
    assert beat.others(reply(2, 1000, 1000, row, {"n": {"a": 4, "c": 1}})) == {"a": 4.0, "c": 1.0}
    assert beat.clients == 2


def test_what_others_saw_served_is_all_but_what_oneself_saw():
    beat = Heartbeat()
    row = json.loads(beat.arguments({}, {}, {"a": (3.0, 1.5), "b": (2.0, 1.0)})[1])
    assert row["w"] == {"a": [3.0, 1.5], "b": [2.0, 1.0]}
    total = {"clients": 2, "n": {}, "f": {}, "w": {"a": [5.0, 4.0], "b": [2.0, 1.0], "c": [1.0, 0.5]}}
    beat.others([1000, 1000, json.dumps(total)])
    assert beat.served == {"a": (2.0, 2.5), "c": (1.0, 0.5)}


@pytest.mark.parametrize(
    ("clients", "endpoints", "seconds"),
    [
        pytest.param(0, 10, 1.0, id="nobody known yet"),
        pytest.param(1, 10, 0.025, id="one"),
        pytest.param(25, 10, 0.025, id="as many as may beat 40 times a second"),
        pytest.param(200, 10, 0.2, id="more"),
        pytest.param(200, 40, 0.4, id="with rows twice as long"),
        pytest.param(5000, 10, 1.0, id="never rarer than once a second"),
    ],
)
def test_the_more_clients_the_rarer_each_beats(clients, endpoints, seconds):
    beat = Heartbeat()
    beat.clients = clients
    assert beat.period_seconds(endpoints) == pytest.approx(seconds)


def test_a_row_that_did_not_change_is_not_written_again():
    world = World()
    world.offer(document(1, {"a": 0.5, "b": 0.5}))
    session = world.session
    assert not session.unchanged()
    session.beat()
    session.beaten(reply(2, 1000, 1000, {"n": {"a": 5}}))
    assert session.unchanged()
    assert not session.glanced(None), "nobody has summed yet"
    assert session.glanced('1100 {"clients":2,"n":{"b":7},"f":{}}')
    assert world.core._known["b"].shared > world.core._known["a"].shared
    ticket = world.core.take()
    assert not session.unchanged()
    session.beat()
    assert session.unchanged()
    ticket.release()
    assert not session.unchanged()
    session.beat()
    world.now += 1.0
    assert not session.unchanged(), "it must live on"


@pytest.mark.parametrize("nonsense", ["x", "12", "12 {", "12 []", b"12 3"])
def test_a_sum_that_is_none(nonsense):
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own is one too
        Heartbeat().glance(nonsense)


def test_a_client_without_requests_beats_once_a_second():
    world = World()
    world.offer(document(1, {"a": 1.0}))
    session = world.session
    session.beat()
    session.beaten(reply(1, 1000, 1000))
    assert session.next_beat_seconds() < 0.03
    world.now += 120.0
    assert session.next_beat_seconds() >= 0.9
    world.core.take()
    assert session.next_beat_seconds() < 0.03


def test_from_an_older_sum_the_older_row_is_taken_off():
    beat = Heartbeat()
    beat.arguments({"a": 10}, {})
    beat.others(reply(1, 1000, 1000, {"n": {"a": 10}}))
    beat.arguments({}, {})
    # Another client had it summed at 1900, when this client's row still said 10.
    assert beat.others(reply(2, 2000, 1900, {"n": {"a": 10}}, {"n": {"a": 2}})) == {"a": 2.0}


@pytest.mark.parametrize("nonsense", [None, [], [1, 2], [1, 2, "{"], ["x", 2, "{}"], [1, 2, "[]"], [1, 2, '{"n": 3}']])
def test_a_reply_that_is_none(nonsense):
    beat = Heartbeat()
    beat.arguments({}, {})
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own is one too
        beat.others(nonsense)


def test_counts_of_others_are_forgotten_when_redis_is_silent():
    world = World()
    world.offer(document(1, {"a": 0.5, "b": 0.5}))
    session = world.session
    session.beat()
    session.beaten(reply(2, 1000, 1000, {"n": {"a": 50}}))
    assert world.core._known["a"].shared > world.core._known["b"].shared > 0
    world.later(2.0)
    assert world.core._known["a"].shared > 0
    world.later(2.0)  # without any word from the thread, which may be stuck in a call
    assert world.core._known["a"].shared == 0


def test_attempts_to_reach_redis_grow_rarer():
    session = World().session
    waits = [session.failed(TimeoutError("no answer")) for _ in range(10)]
    assert waits == sorted(waits)
    assert 0.2 <= waits[0] <= waits[-1] <= 2.0
    assert session.error == "TimeoutError: no answer"
