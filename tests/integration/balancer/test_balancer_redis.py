"""Following a real Redis: changes, degradation, hangs, restarts, sharing and forks."""

import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from balancer_lab import POLICY, eventually

from trimtab import Balancer, NoEndpoints
from trimtab.balancer import State
from trimtab.balancer.heartbeat import SCRIPT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

A, B = "http://10.0.0.1:8000", "http://10.0.0.2:8000"


@pytest.fixture
def follow(lab):
    made = []

    def make(redis=None, **options):
        made.append(Balancer(POLICY, redis or lab.url, **options))
        return made[-1]

    yield make
    for balancer in made:
        balancer.close()


def picks(balancer, count=400):
    counts = Counter()
    for _ in range(count):
        with balancer.pick() as endpoint:
            counts[endpoint] += 1
    return counts


def seq(balancer):
    return balancer.status().seq


def test_the_published_ranking_is_there_when_the_constructor_returns(lab, follow):
    lab.publish(7, {A: 0.75, B: 0.25, "http://out": 0.0})
    balancer = follow()
    assert (balancer.best(), balancer.status().state, seq(balancer)) == (A, State.FRESH, 7)
    counts = picks(balancer, 4000)
    assert set(counts) == {A, B}
    assert counts[A] / 4000 == pytest.approx(0.75, abs=0.03)


def test_a_change_is_announced(lab, follow):
    lab.publish(1, {A: 1.0})
    balancer = follow(poll_seconds=3600)
    # The ranking is read again once the subscription stands, so an announcement after that cannot be missed.
    eventually(lambda: lab.client.pubsub_numsub(lab.keys.changed)[0][1] == 1)
    lab.publish(2, {B: 1.0})
    eventually(lambda: seq(balancer) == 2)
    assert set(picks(balancer)) == {B}


def test_a_change_is_found_by_polling(lab, follow):
    lab.publish(1, {A: 1.0})
    balancer = follow(poll_seconds=0.1)
    lab.publish(2, {B: 1.0}, announce=False)
    eventually(lambda: seq(balancer) == 2)


def test_an_older_publish_is_refused(lab, follow):
    lab.publish(5, {A: 1.0})
    balancer = follow(poll_seconds=0.1)
    lab.publish(4, {B: 1.0})
    eventually(lambda: "older" in balancer.status().fault)
    assert (seq(balancer), set(picks(balancer))) == (5, {A})
    lab.publish(6, {B: 1.0})
    eventually(lambda: seq(balancer) == 6)


def test_last_good_stands_when_the_key_is_gone(lab, follow):
    lab.publish(1, {A: 0.9, B: 0.1}, valid_for=0.2)
    balancer = follow(poll_seconds=0.1, last_good_seconds=1.0)
    lab.client.delete(lab.keys.ranking)
    eventually(lambda: balancer.status().state is State.LAST_GOOD)
    assert picks(balancer)[A] > 300
    eventually(lambda: balancer.status().state is State.UNIFORM)
    assert 100 < picks(balancer)[A] < 300
    lab.publish(2, {B: 1.0})
    eventually(lambda: balancer.status().state is State.FRESH)


def test_nothing_known(follow, lab):
    balancer = follow(wait_seconds=0.2)
    with pytest.raises(NoEndpoints, match="no endpoint is known"):
        balancer.pick()
    with pytest.raises(NoEndpoints):
        balancer.best()
    assert (balancer.status().state, balancer.status().fault) == (State.NONE, "no ranking is published")
    lab.publish(1, {A: 1.0})
    assert eventually(lambda: balancer.status().endpoints) == (A,)


def test_the_constructor_waits_for_the_first_ranking(follow, lab):
    threading.Timer(0.3, lab.publish, (1, {A: 1.0})).start()
    assert follow(wait_seconds=15).best() == A


def test_redis_is_not_up_yet(lab, follow):
    lab.stop()
    balancer = follow(fallback=[B], wait_seconds=10)
    assert (balancer.best(), balancer.status().state) == (B, State.FALLBACK)
    assert "ConnectionError" in balancer.status().fault
    lab.start()
    lab.publish(1, {A: 1.0})
    eventually(lambda: balancer.best() == A)
    assert balancer.status().fault == ""


def test_redis_restarts_empty(lab, follow):
    lab.publish(1, {A: 1.0})
    balancer = follow(poll_seconds=0.2)
    lab.stop()
    eventually(lambda: balancer.status().fault)
    assert set(picks(balancer)) == {A}
    lab.start()
    eventually(lambda: balancer.status().fault == "no ranking is published")
    assert set(picks(balancer)) == {A}
    lab.publish(2, {B: 1.0})
    eventually(lambda: seq(balancer) == 2)


def test_no_pick_waits_for_a_hung_redis(lab, follow):
    lab.publish(1, {A: 0.5, B: 0.5})
    balancer = follow(poll_seconds=0.1)
    lab.hang()
    # The follower is in the middle of a call that is not answered, and says so when it has given it up.
    before = sum(picks(balancer, 20_000).values())
    eventually(lambda: "Timeout" in balancer.status().fault)
    after = sum(picks(balancer, 20_000).values())
    assert lab.hung(), "all picks were made while Redis hung"
    assert (before, after) == (20_000, 20_000)
    assert balancer.status().in_flight == {}
    lab.go_on()
    lab.publish(2, {B: 1.0})
    eventually(lambda: seq(balancer) == 2 and not balancer.status().fault)


def test_a_socket_that_never_answers(follow):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        balancer = follow(url, fallback=[A], wait_seconds=0.05)
        connection, _ = silent.accept()
        with connection:
            assert set(picks(balancer, 5000)) == {A}
            connection.settimeout(5)
            assert connection.recv(1024), "it did ask"
            eventually(lambda: "Timeout" in balancer.status().fault)
            assert set(picks(balancer, 5000)) == {A}


def test_counts_are_shared_and_taken_back(lab, follow):
    lab.publish(1, {A: 0.5, B: 0.5})
    one, two = follow(), follow()
    eventually(lambda: one.status().clients == two.status().clients == 2)
    tickets = [ticket for ticket in (one.pick() for _ in range(60)) if ticket.endpoint == A]
    eventually(lambda: one.status().in_flight == {A: len(tickets)})
    eventually(lambda: two._core._known[A].shared > two._core._known[B].shared > 0)
    assert one._core._known[A].shared == 0, "nobody counts its own twice"
    assert picks(two)[B] > 300
    one.close()
    eventually(lambda: two._core._known[A].shared == 0)
    assert eventually(lambda: two.status().clients == 1)


def beat(lab, client, row, max_age=60_000):
    reply = lab.client.eval(
        SCRIPT, 1, lab.keys.inflight, client, row if isinstance(row, str) else json.dumps(row), 3000, max_age
    )
    return json.loads(reply[2])


def test_the_sum_is_that_of_all_rows_at_every_beat(lab):
    rng = random.Random(1)
    rows = {}
    for _ in range(300):
        client = rng.choice("xyz")
        rows[client] = {
            "n": {name: rng.randrange(5) for name in (A, B) if rng.random() < 0.7},
            "f": {A: round(rng.random(), 2)} if rng.random() < 0.3 else {},
            "w": {name: [round(rng.random(), 2), round(rng.random(), 4)] for name in (A, B) if rng.random() < 0.7},
        }
        total = beat(lab, client, rows[client])
        for kind in "nf":
            for name in (A, B):
                assert total[kind].get(name, 0) == pytest.approx(sum(row[kind].get(name, 0) for row in rows.values()))
        for name in (A, B):
            for i in (0, 1):
                expected = sum(row["w"].get(name, (0, 0))[i] for row in rows.values())
                assert total["w"].get(name, (0, 0))[i] == pytest.approx(expected, abs=1e-9)
    assert beat(lab, "x", rows["x"], max_age=0)["clients"] == 3
    beat(lab, "x", "")
    assert beat(lab, "y", rows["y"])["clients"] == 2


@pytest.mark.parametrize(
    "row", ["{", "3", "[]", '{"n": 3}', '{"n": {"a": "x"}}', '{"w": {"a": 3}}', '{"w": {"a": ["x", 1]}}']
)
def test_one_client_that_writes_nonsense_disturbs_nobody(lab, row):
    lab.client.hset(lab.keys.inflight, "bad", f"{int(time.time() * 1000) + 60_000} {row}")
    for _ in range(3):
        assert beat(lab, "good", {"n": {A: 2}})["n"] == {A: 2}
        beat(lab, "bad", row)
    lab.client.hset(lab.keys.inflight, "total", f"{int(time.time() * 1000)} {row}")
    assert beat(lab, "good", {"n": {A: 2}})["n"] == {A: 2}


def test_a_client_of_the_version_before_shares_with_us(lab):
    """Its rows have no "w", and it makes a total without one."""
    beat(lab, "new", {"n": {A: 1}, "f": {}, "w": {A: [2, 0.5]}})
    lab.client.hset(lab.keys.inflight, "old", f'{int(time.time() * 1000) + 3000} {{"n":{{"{A}":4}},"f":{{}}}}')
    lab.client.hset(lab.keys.inflight, "total", f'{int(time.time() * 1000)} {{"clients":2,"n":{{"{A}":5}},"f":{{}}}}')
    assert beat(lab, "new", {"n": {A: 1}, "f": {}, "w": {A: [2, 0.5]}}) == {
        "clients": 2,
        "n": {A: 5},
        "f": {},
        "w": {A: [2, 0.5]},
    }


HOLD = """
import sys, time
from trimtab import Balancer
balancer = Balancer({policy!r}, {url!r}, wait_seconds=10)
held = [balancer.pick() for _ in range(40)]
while balancer.status().clients < 2: time.sleep(0.05)
print("held", flush=True)
time.sleep(600)
"""


def test_a_killed_client_leaves_nothing_behind(lab, follow):
    lab.publish(1, {A: 1.0})
    balancer = follow()
    source = HOLD.format(policy=POLICY, url=lab.url)
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout.readline() == b"held\n"
            eventually(lambda: balancer._core._known[A].shared >= 40)
        finally:
            child.kill()
    killed = time.monotonic()
    eventually(lambda: balancer._core._known[A].shared == 0)
    # 3 s that a row lives, 1 s until the sum is made anew, 1 s between beats; the rest is for a busy machine.
    assert time.monotonic() - killed < 10
    assert len(lab.rows()) == 1


def test_when_all_clients_are_gone_so_is_the_key(lab, follow):
    lab.publish(1, {A: 1.0})
    follow()
    eventually(lab.rows)
    assert 0 < lab.client.pttl(lab.keys.inflight) <= 30_000


def test_nonsense_in_the_hash_is_swept_away(lab, follow):
    lab.publish(1, {A: 1.0})
    nonsense = {"x": "nothing", "y": "99999999999999999 {}", "z": "5 {}", "w": "1 {", "total": "99999999999999 {"}
    lab.client.hset(lab.keys.inflight, mapping=nonsense)
    balancer = follow()
    eventually(lambda: balancer.status().clients == 1)
    assert len(lab.rows()) == 1
    assert balancer.status().fault == ""


def test_a_user_who_may_only_read(lab, follow):
    lab.publish(1, {A: 1.0})
    lab.client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "resetchannels", "~trimtab:*", "+get")
    balancer = follow(f"redis://reader:secret@127.0.0.1:{lab.port}", poll_seconds=0.1)
    assert balancer.best() == A
    lab.publish(2, {B: 1.0})
    eventually(lambda: seq(balancer) == 2)
    assert balancer.status().fault == ""


def test_a_wrong_password_is_told_without_the_password(lab, follow):
    lab.client.config_set("requirepass", "right")
    balancer = follow(f"redis://:hunter2@127.0.0.1:{lab.port}", wait_seconds=0.1)
    fault = eventually(lambda: balancer.status().fault)
    assert "hunter2" not in fault
    assert "\n" not in fault


@pytest.mark.parametrize("decode", [True, False])
def test_a_client_of_ones_own(lab, follow, decode):
    import redis  # noqa: PLC0415

    lab.publish(1, {A: 1.0})
    with redis.Redis(port=lab.port, decode_responses=decode) as client:
        balancer = follow(client)
        assert balancer.best() == A
        eventually(lambda: balancer.status().clients == 1)
        lab.publish(2, {B: 1.0})
        eventually(lambda: seq(balancer) == 2)
        balancer.close()
        assert client.ping(), "it is not ours to close"


def test_a_forked_child_follows_by_itself(lab, follow):
    lab.publish(1, {A: 1.0})
    balancer = follow()
    eventually(lambda: len(lab.rows()) == 1)
    held = [balancer.pick() for _ in range(3)]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(30)
            assert balancer.status().in_flight == {}
            with balancer.pick() as endpoint:
                assert endpoint == A
                os.write(write, b"1")
                eventually(lambda: seq(balancer) == 2)
                eventually(lambda: balancer.status().clients == 2)
                os.write(write, b"2")
            balancer.close()
            os.write(write, b"3")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb", buffering=0) as pipe:
        assert pipe.read(1) == b"1"
        lab.publish(2, {A: 0.5, B: 0.5})
        assert pipe.read(1) == b"2", "the child saw the change, and itself beside its parent"
        assert pipe.read(1) == b"3"
    os.waitpid(child, 0)
    assert sum(balancer.status().in_flight.values()) == len(held)
    eventually(lambda: seq(balancer) == 2)
    eventually(lambda: len(lab.rows()) == 1)


def test_a_balancer_that_nobody_uses_ends(lab):
    lab.publish(1, {A: 1.0})
    balancer = Balancer(POLICY, lab.url)
    stopped = balancer._follower.stopped
    del balancer
    gc.collect()
    assert stopped.wait(10)
    eventually(lambda: not lab.rows())


def test_close_ends_the_thread_and_picks_go_on(lab, follow):
    lab.publish(1, {A: 1.0})
    with follow() as balancer:
        stopped = balancer._follower.stopped
    assert stopped.is_set()
    assert balancer.pick().endpoint == A
    balancer.close()
