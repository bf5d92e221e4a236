"""The limit in real queues of others: BullMQ's workers and Celery's keep to it, and follow it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bullmq import Queue, Worker
from support.redis_lab import RedisServer, free_port, until

from controller.act.actor import Actor
from controller.act.output import OutputWriter
from controller.clients.redis import connect
from controller.deadline import Deadline
from controller.errors import Denied, LostLease, TimedOut, Unreachable
from controller.model.fence import Fence
from controller.model.outcome import Result
from controller.model.plan import Plan, Publish
from controller.policy.schema import LoadPolicy
from controller.settings import Settings

pytestmark = pytest.mark.integration

SUPPORT = Path(__file__).parents[2] / "support"


def make_policy(name="svc", mode="enforce", **output):
    return LoadPolicy.model_validate(
        {
            "apiVersion": "trimtab/v1",
            "kind": "LoadPolicy",
            "metadata": {"name": name, "namespace": "models"},
            "spec": {
                "mode": mode,
                "instances": {"selector": {"service": name}},
                "signals": {"preset": "fastapi"},
                "concurrency": {"output": output},
            },
        }
    )


@pytest.fixture
def server(tmp_path):
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def settings(server):
    return Settings(redis_url=server.url, redis_timeout_seconds=1.0)


@pytest.fixture
def writer(settings):
    with contextlib.closing(connect(settings)) as redis, contextlib.closing(OutputWriter(settings, redis)) as writer:
        yield writer


def write(writer, policy, limit):
    (outcome,) = writer.write(policy, limit, valid=lambda: True, expired=lambda: False)
    return outcome


# BullMQ

BULLMQ = {"kind": "bullmq", "queue": "inference"}


def test_bullmq_workers_keep_to_the_limit_and_follow_it(server, writer):
    """One worker that would run 20 jobs at once, through a limit of 3, then of 7, then a pause."""
    policy = make_policy(**BULLMQ)

    async def scenario():
        running, most, done = 0, 0, 0

        async def handler(_job, _token):
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.05)
            running -= 1
            done += 1

        async def reach(count):
            async with asyncio.timeout(60):
                while done < count:  # noqa: ASYNC110 - as in the balancer's tests
                    await asyncio.sleep(0.01)

        queue = Queue("inference", {"connection": server.url})
        assert write(writer, policy, 3).result is Result.DONE
        assert await queue.getGlobalConcurrency() == 3
        for _ in range(30):
            await queue.add("job", {})
        worker = Worker("inference", handler, {"connection": server.url, "concurrency": 20, "drainDelay": 1})
        await reach(30)
        assert most == 3
        assert write(writer, policy, 7).result is Result.DONE
        for _ in range(40):
            await queue.add("job", {})
        await reach(70)
        assert most == 7
        write(writer, policy, 0)
        await queue.add("job", {})
        await asyncio.sleep(1.0)  # nothing may happen in this time
        assert done == 70
        write(writer, policy, 1)
        await reach(71)
        await worker.close(force=True)
        await queue.close()

    asyncio.run(scenario())


def test_bullmq_is_written_only_when_it_differs_also_when_somebody_changed_it(server, writer):
    policy = make_policy(**BULLMQ)
    first = write(writer, policy, 5)
    assert first.result is Result.DONE
    assert "is the name right?" in first.detail
    assert write(writer, policy, 5).result is Result.UNCHANGED
    with server.client(decode_responses=True) as redis:
        redis.hset("bull:inference:meta", mapping={"concurrency": "99", "opts.maxLenEvents": "10000"})
        again = write(writer, policy, 5)
        assert (again.result, again.detail) == (Result.DONE, "BullMQ: bull:inference: concurrency 99 -> 5")
        assert redis.hgetall("bull:inference:meta") == {"concurrency": "5", "opts.maxLenEvents": "10000"}


def test_bullmq_in_another_redis_with_another_prefix(tmp_path, writer):
    secret = tmp_path / "url"
    with RedisServer(tmp_path / "other") as other, other.client() as admin:
        admin.config_set("requirepass", "pw")
        secret.write_text(f"redis://:pw@127.0.0.1:{other.port}/3\n")
        policy = make_policy(**BULLMQ, prefix="mine", urlFile=str(secret))
        assert write(writer, policy, 5).result is Result.DONE
        with other.client(db=3, password="pw") as redis:
            assert redis.hget("mine:inference:meta", "concurrency") == b"5"
    with pytest.raises(Unreachable):
        write(writer, policy, 6)
    secret.unlink()
    with pytest.raises(Denied, match="urlFile"):
        write(writer, policy, 6)


def test_nothing_is_written_without_the_lead_or_the_time(server, writer):
    policy = make_policy(**BULLMQ)
    with pytest.raises(LostLease):
        writer.write(policy, 5, valid=lambda: False, expired=lambda: False)
    with pytest.raises(TimedOut):
        writer.write(policy, 5, valid=lambda: True, expired=lambda: True)
    with server.client() as redis:
        assert redis.keys("bull:*") == []


# Celery


@pytest.fixture
def worker(server, tmp_path):
    """Starts a real worker; returns its process once it answers."""
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((tmp_path / "workers.log").open("ab"))

        def start(name, *options):
            command = [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "celery_app",
                "worker",
                "-n",
                name,
                "-l",
                "WARNING",
                *options,
            ]
            quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
            environ = {**os.environ, "BROKER": server.url, "C_FORCE_ROOT": "1"}
            process = subprocess.Popen(
                [*command, *quiet], cwd=SUPPORT, env=environ, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(process.wait)
            stack.callback(kill, process)
            return process

        yield start


def kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def send(server, count, seconds=0.2):
    code = f"from celery_app import slow\nfor _ in range({count}): slow.delay({seconds})"
    subprocess.run([sys.executable, "-c", code], cwd=SUPPORT, env={**os.environ, "BROKER": server.url}, check=True)


def settle(writer, policy, limit, expected):
    """Write until the workers have as many slots as expected, as the ticks of the daemon do."""
    outcome = until(
        lambda: (now := write(writer, policy, limit)).detail.startswith(f"Celery: {expected} slots") and now,
        timeout_seconds=60,
    )
    pools = writer._pools[policy.key]
    until(lambda: write(writer, policy, limit).result is Result.UNCHANGED and not pools.changing, timeout_seconds=60)
    return outcome


def most(server, count):
    """How many tasks ran at once, once `count` more have ended."""
    with server.client() as redis:
        redis.delete("most", "done")
        send(server, count)
        until(lambda: int(redis.get("done") or 0) >= count, timeout_seconds=120)
        return int(redis.get("most"))


def test_celery_workers_keep_to_the_limit_and_follow_it(server, writer, worker):
    policy = make_policy(kind="celery", queue="celery", url=server.url, replyWithin="1s")
    worker("a@here", "-c", "4")
    doomed = worker("b@here", "-c", "4")
    until(lambda: "8 slots" in write(writer, policy, 8).detail, timeout_seconds=60)
    settle(writer, policy, 3, 3)
    assert most(server, 12) == 3
    settle(writer, policy, 6, 6)
    assert 3 < most(server, 24) <= 6
    settle(writer, policy, 0, 0)
    with server.client() as redis:
        redis.delete("done")
        send(server, 2)
        assert write(writer, policy, 0).result is Result.UNCHANGED
        assert redis.get("done") is None
        settle(writer, policy, 1, 1)
        until(lambda: int(redis.get("done") or 0) == 2)
    settle(writer, policy, 4, 4)
    kill(doomed)
    until(lambda: "a@here 2 -> 4" in write(writer, policy, 4).detail, timeout_seconds=60)
    # A pool has its new processes some time after it was asked.
    assert until(lambda: (at_once := most(server, 12)) > 2 and at_once, timeout_seconds=60) <= 4


def test_an_autoscaled_celery_worker_keeps_to_the_limit(server, writer, worker):
    policy = make_policy(kind="celery", queue="celery", url=server.url, replyWithin="1s")
    worker("scaled@here", "--autoscale=6,1")
    until(lambda: "6 slots" in write(writer, policy, 6).detail, timeout_seconds=60)
    settle(writer, policy, 2, 2)
    assert most(server, 10) <= 2


def test_no_celery_worker_is_held_and_no_broker_is_an_outage(server, writer):
    held = write(writer, make_policy(kind="celery", queue="celery", url=server.url, replyWithin="0.2s"), 5)
    assert held.result is Result.UNCHANGED
    assert "no worker answered" in held.detail
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    with pytest.raises(Unreachable, match="the broker"):
        write(writer, make_policy(kind="celery", queue="celery", url=nowhere, replyWithin="0.2s"), 5)


def test_a_celery_broker_that_hangs_is_cut_off(tmp_path, writer):
    with RedisServer(tmp_path / "hung") as hung:
        os.kill(hung.process.pid, signal.SIGSTOP)
        policy = make_policy(kind="celery", queue="celery", url=hung.url, replyWithin="0.2s")
        with pytest.raises(Unreachable, match="the broker"):
            write(writer, policy, 5)
        os.kill(hung.process.pid, signal.SIGCONT)


# In the daemon


@pytest.fixture
def actor(settings):
    with contextlib.closing(connect(settings)) as redis:
        actor = Actor(settings, kube=None, redis=redis)
        yield actor
        actor.close()


def plan(policy, limit=8, default=None):
    publish = Publish((), limit, panic=False, valid_for_seconds=60, default_limit=default)
    return policy, Plan(policy.key, 1000.0, publish)


def act(actor, *tasks, valid=lambda: True):
    outcomes = actor.act(tasks, Fence(1, valid), Deadline.after(20))
    return [(outcome.policy.rpartition("/")[2], outcome.actuator, outcome.result) for outcome in outcomes], outcomes


def test_the_limit_is_published_and_then_written_to_the_queue(server, actor):
    found, outcomes = act(actor, plan(make_policy(**BULLMQ)))
    assert found == [("svc", "publish", Result.DONE), ("svc", "output", Result.DONE)]
    assert "concurrency none -> 8" in outcomes[1].detail
    with server.client() as redis:
        assert redis.hget("bull:inference:meta", "concurrency") == b"8"
    assert act(actor, plan(make_policy(**BULLMQ)))[0][1] == ("svc", "output", Result.UNCHANGED)


def test_a_queue_that_is_down_fails_alone(actor):
    down = make_policy("down", **BULLMQ, url=f"redis://127.0.0.1:{free_port()}/0")
    found, outcomes = act(actor, plan(down), plan(make_policy("well", **BULLMQ)))
    assert found == [
        ("down", "publish", Result.DONE),
        ("down", "output", Result.FAILED),
        ("well", "publish", Result.DONE),
        ("well", "output", Result.DONE),
    ]
    assert [outcome.system for outcome in outcomes if outcome.result is Result.FAILED] == ["BullMQ"]


def test_a_replica_that_does_not_lead_and_a_policy_that_observes_write_nothing(server, actor):
    found, _ = act(actor, plan(make_policy(**BULLMQ)), valid=lambda: False)
    assert found == [("svc", "publish", Result.REFUSED), ("svc", "output", Result.REFUSED)]
    found, _ = act(actor, plan(make_policy(mode="observe", **BULLMQ)))
    assert ("svc", "output", Result.REFUSED) in found
    with server.client() as redis:
        assert redis.keys("bull:*") == []


def test_without_a_known_limit_the_queue_is_left_as_it_is(actor):
    found, _ = act(actor, plan(make_policy(**BULLMQ), limit=None))
    assert found == [("svc", "publish", Result.DONE)]


# A clean stop


def told(actor, *tasks):
    act(actor, *tasks)
    return [policy for policy, _ in tasks]


def leave(actor, policies, *, valid=lambda: True):
    return [outcome.result for outcome in actor.part(policies, Fence(1, valid), Deadline.after(20))]


@pytest.mark.parametrize(
    ("limit", "default", "stays"),
    [
        pytest.param(1, 20, 20, id="a small limit gives way to the default"),
        pytest.param(40, 20, 40, id="a larger one stays"),
        pytest.param(1, None, 1, id="no default is known"),
        pytest.param(None, 20, None, id="it was never told one"),
    ],
)
def test_on_a_stop_no_queue_is_left_below_the_default(server, actor, limit, default, stays):
    policies = told(actor, plan(make_policy(**BULLMQ), limit, default))
    found = leave(actor, policies)
    assert found == ([Result.DONE] if stays == default else [])
    with server.client() as redis:
        held = redis.hget("bull:inference:meta", "concurrency")
    assert held == (None if stays is None else str(stays).encode())


def test_on_a_stop_the_last_default_that_was_known_counts(server, actor):
    policy = make_policy(**BULLMQ)
    told(actor, plan(policy, 3, 20))
    told(actor, plan(policy, 2, None))
    assert leave(actor, [policy]) == [Result.DONE]
    with server.client() as redis:
        assert redis.hget("bull:inference:meta", "concurrency") == b"20"


def test_on_a_stop_nothing_is_written_without_the_lead_nor_for_a_policy_that_is_gone(server, actor):
    policies = told(actor, plan(make_policy(**BULLMQ), 1, 20))
    assert leave(actor, []) == []
    assert leave(actor, policies, valid=lambda: False) == [Result.REFUSED]
    with server.client() as redis:
        assert redis.hget("bull:inference:meta", "concurrency") == b"1"


def test_on_a_stop_a_queue_that_is_down_keeps_no_other_waiting(actor):
    down = make_policy("down", **BULLMQ, url=f"redis://127.0.0.1:{free_port()}/0")
    policies = told(actor, plan(down, 1, 20), plan(make_policy("well", **BULLMQ), 1, 20))
    assert leave(actor, policies) == [Result.FAILED, Result.DONE]


def test_on_a_stop_celery_workers_get_the_default(server, actor, worker):
    policy = make_policy(kind="celery", queue="celery", url=server.url, replyWithin="1s")
    worker("a@here", "-c", "4")
    until(lambda: "4 slots" in act(actor, plan(policy, 4, 4))[1][1].detail, timeout_seconds=60)
    until(lambda: act(actor, plan(policy, 2, 4))[1][1].detail == "Celery: 2 slots for a limit of 2", timeout_seconds=60)
    until(lambda: not actor._outputs._pools[policy.key].changing or act(actor, plan(policy, 2, 4)) is None)
    parted = actor.part([policy], Fence(1, lambda: True), Deadline.after(20))
    assert [outcome.detail for outcome in parted] == ["Celery: 4 slots for a limit of 4; a@here 2 -> 4"]
