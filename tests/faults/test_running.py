"""The daemon while its users change their minds, mistype, or stop it."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import redis
import yaml
from fault_world import INTERVAL, PODS, is_settled
from support.daemon import Daemon, trimtab
from support.eventually import eventually

from controller.lab.proxy import Answer, FaultProxy, Hang
from controller.lab.redis import RedisServer

pytestmark = [pytest.mark.fault, pytest.mark.cluster]


@pytest.fixture
def settled(world):
    eventually(lambda: is_settled(world), 40)
    world.main.await_ticks(1)
    return world


@pytest.fixture
def plain_only(world, tmp_path):
    """A folder with the policy `plain` alone."""
    folder = tmp_path / "plain"
    folder.mkdir()
    shutil.copy(world.policies / "plain.yaml", folder)
    return folder


def alone(world, folder, number, **flags):
    """Flags of a daemon that shares nothing with the main one: another folder, another database of Redis."""
    database = f"redis://{world.redis_proxy.address}/{number}"
    return world.flags(**{"policies": folder, "redis_url": database, **flags})


# Policies that change


def test_rubbish_in_a_policy_changes_nothing_and_its_repair_is_taken_up_at_the_next_tick(settled):
    w, daemon, log = settled, settled.main, settled.main.mark()
    before, published = w.numbers(w.chat), w.seq(w.chat)
    (w.policies / "chat.yaml").write_text("spec: [")
    try:
        rejected = eventually(lambda: daemon.lines("policies rejected", log), 5)
        daemon.await_ticks(3)
        assert all("chat.yaml:" in fault for fault in rejected[0]["faults"])
        assert len(daemon.lines("policies rejected", log)) == 1
        assert daemon.metrics()["trimtab_policy_load_success"] == 0
        assert w.seq(w.chat) >= published + 3
        assert w.numbers(w.chat)[0] == before[0]
        assert w.numbers(w.chat)[1] == pytest.approx(before[1], rel=0.02)
    finally:
        asked, ticks = w.ask_for_more(), daemon.ticks()
    eventually(lambda: w.hpa()[1] == asked, 10, 0.02)
    assert daemon.ticks() - ticks <= 2
    assert daemon.metrics()["trimtab_policy_load_success"] == 1
    assert daemon.lines("tick missed", log) == []
    assert "Traceback" not in daemon.text()


def test_policies_that_vanish_all_at_once_stay_in_force(settled):
    w, daemon, log = settled, settled.main, settled.main.mark()
    kept = {path: path.read_text() for path in w.policies.iterdir()}
    for path in kept:
        path.unlink()
    try:
        eventually(lambda: daemon.lines("policies rejected", log), 5)
        published = w.seq(w.chat), w.seq(w.plain)
        daemon.await_ticks(2)
        assert w.seq(w.chat) > published[0]
        assert w.seq(w.plain) > published[1]
    finally:
        for path, text in kept.items():
            path.write_text(text)
    eventually(lambda: daemon.metrics()["trimtab_policy_load_success"] == 1, 5)
    assert daemon.lines("bug") == []


def test_a_query_that_prometheus_refuses_is_one_line_and_the_other_policies_go_on(settled):
    w, daemon, log = settled, settled.main, settled.main.mark()
    odd = yaml.safe_load((w.policies / "plain.yaml").read_text())
    odd["metadata"]["name"] = "odd"
    odd["spec"]["signals"]["cpu"] = {"query": "max by ($by) (lab_cpu{$selector}) +"}
    odd["spec"]["concurrency"]["queue"] = "odd"
    path = w.policies / "odd.yaml"
    path.write_text(yaml.safe_dump(odd))
    try:
        (problem,) = eventually(lambda: daemon.lines("problem", log), 10)
        published = w.seq(w.chat), w.seq(w.plain)
        daemon.await_ticks(3)
        assert len(daemon.lines("problem", log)) == 1
        assert problem["policy"] == f"{w.namespace}/odd"
        assert "signal cpu" in problem["message"]
        assert w.seq(w.chat) > published[0]
        assert w.seq(w.plain) > published[1]
        assert w.numbers(w.chat)[0] == 15
        assert daemon.metrics()['trimtab_dependency_up{system="Prometheus"}'] == 1
    finally:
        path.unlink()
    eventually(lambda: daemon.lines("recovered", log), 10)


# Credentials


def problems_of(done):
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return [r["message"] for r in records if r["event"] == "problem"]


def once(flags):
    done = trimtab("run", "--once", "--log-format=json", *flags)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 1
    return problems_of(done)


def test_prometheus_that_denies_is_one_line(world, plain_only):
    with FaultProxy(world.prometheus.host, world.prometheus.port) as proxy:
        proxy.behave(Answer(401, b"Unauthorized\n", {"Content-Type": "text/plain"}))
        (line,) = once(alone(world, plain_only, 1, prometheus_url=f"http://{proxy.address}"))
    assert line.startswith("Prometheus: http://127.0.0.1:")
    assert "401" in line


@pytest.mark.parametrize(
    ("password", "says"),
    [("", "--redis-password-file"), ("wrong", "invalid username-password pair")],
    ids=["none", "wrong"],
)
def test_redis_that_denies_is_one_line_without_the_password(world, plain_only, tmp_path, password, says):
    with RedisServer.start(tmp_path / "redis", password="right") as server:
        flags = alone(world, plain_only, 0, redis_url=server.url)
        if password:
            (tmp_path / "password").write_text(password)
            flags.append(f"--redis-password-file={tmp_path / 'password'}")
        (line,) = once(flags)
    assert line.startswith("Redis: ")
    assert says in line
    assert "right" not in line


@pytest.mark.parametrize(("token", "says"), [("wrong", "401"), (None, "403")], ids=["wrong-token", "no-rights"])
def test_kubernetes_that_denies_is_one_line(world, tmp_path, token, says):
    folder = tmp_path / "chat"
    folder.mkdir()
    shutil.copy(world.policies / "chat.yaml", folder)
    config = world.kubeconfig(token) if token else world.cluster.kubeconfig_for(world.namespace, "default")
    (line,) = once(alone(world, folder, 1, kubeconfig=config))
    assert line.startswith("Kubernetes: ")
    assert says in line


# Starting and stopping


def test_policies_without_kubernetes_do_not_wait_for_it(world, plain_only, tmp_path):
    config = yaml.safe_load(world.kubeconfig().read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    flags = alone(world, plain_only, 2, kubeconfig=tmp_path / "kubeconfig")
    with Daemon(tmp_path, *flags) as daemon:
        eventually(lambda: daemon.get("/readyz")[0] == 200, 10)
        assert daemon.lines("problem") == []


def test_readiness_waits_for_a_system_in_use_and_then_sticks(world, plain_only, tmp_path):
    with FaultProxy(world.prometheus.host, world.prometheus.port) as proxy:
        proxy.behave(Hang())
        flags = alone(world, plain_only, 2, prometheus_url=f"http://{proxy.address}")
        with Daemon(tmp_path, *flags) as daemon:
            daemon.await_ticks(2)
            code, text = daemon.get("/readyz")
            assert (code, "Prometheus" in text) == (503, True)
            assert daemon.get("/healthz")[0] == 200
            proxy.heal()
            eventually(lambda: daemon.get("/readyz")[0] == 200, 10)
            proxy.behave(Hang())
            daemon.await_ticks(2)
            assert daemon.get("/readyz")[0] == 200


@pytest.mark.parametrize("hangs", [False, True], ids=["healthy", "prometheus-hangs"])
def test_a_stop_takes_no_longer_than_a_tick(world, plain_only, tmp_path, hangs):
    with FaultProxy(world.prometheus.host, world.prometheus.port) as proxy:
        if hangs:
            proxy.behave(Hang())
        flags = alone(world, plain_only, 3, prometheus_url=f"http://{proxy.address}")
        with Daemon(tmp_path, *flags) as daemon:
            daemon.await_ticks(2)
            daemon.process.signal(signal.SIGTERM)
            assert daemon.process.wait(INTERVAL + 2) == 0  # the interpreter needs a moment to leave, on a busy machine
            assert [r["event"] for r in daemon.lines()][-2:] == ["stopping", "stopped"]
            assert daemon.errors.read_text() == ""


def test_a_stop_leaves_a_queue_that_lets_no_limit_expire_at_the_default(world, plain_only, tmp_path):
    told = yaml.safe_load((plain_only / "plain.yaml").read_text())
    told["spec"]["concurrency"] |= {"output": {"kind": "bullmq", "queue": "inference"}}
    (plain_only / "plain.yaml").write_text(yaml.safe_dump(told))
    look = redis.Redis(world.redis.host, world.redis.port, db=6, decode_responses=True)
    look.set(f"trimtab:{{{world.plain}}}:limit", 1)  # what stands is small, as after an overload
    with Daemon(tmp_path, *alone(world, plain_only, 6)) as daemon:
        lowest = eventually(lambda: look.hget("bull:inference:meta", "concurrency"), 10, 0.02)
        assert int(lowest) < 5 * PODS
        daemon.process.signal(signal.SIGTERM)
        assert daemon.process.wait(INTERVAL + 7) == 0
        assert look.hget("bull:inference:meta", "concurrency") == str(5 * PODS)
        assert [line["result"] for line in daemon.lines("parting")] == ["done"]
        assert daemon.errors.read_text() == ""


def test_a_stop_during_the_start_is_clean_too(world, plain_only, tmp_path):
    with Daemon(tmp_path, *alone(world, plain_only, 3), wait=False) as daemon:
        eventually(lambda: _catches(daemon.process.pid, signal.SIGTERM), 10, 0.002)
        daemon.process.signal(signal.SIGTERM)
        assert daemon.process.wait(5) == 0
        assert daemon.errors.read_text() == ""


def _catches(pid, number):
    found = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:")]
    return bool(int(found[0].split()[1], 16) >> (number - 1) & 1)


# Two replicas


def test_only_one_replica_acts_and_the_other_takes_over_when_it_is_killed(world, plain_only, tmp_path):
    look = redis.Redis(world.redis.host, world.redis.port, db=5, decode_responses=True)
    fence = f"trimtab:{{{world.plain}}}:fence"
    flags = [*alone(world, plain_only, 5), "--leader-election", f"--lease-namespace={world.namespace}"]
    done = 'trimtab_actions_total{actuator="publish",result="done"}'
    with Daemon(tmp_path, *flags, "--identity=one", name="one") as one:
        eventually(lambda: one.metrics()["trimtab_leader"] == 1, 20)
        with Daemon(tmp_path, *flags, "--identity=two", name="two") as two:
            one.await_ticks(3)
            two.await_ticks(2)
            assert two.metrics()["trimtab_leader"] == 0
            assert two.metrics()[done] == 0
            before = look.hgetall(fence)
            one.process.kill()
            eventually(lambda: two.metrics()["trimtab_leader"] == 1, 40)
            eventually(lambda: two.metrics()[done] >= 1, 10)
            after = look.hgetall(fence)
            assert int(after["epoch"]) > int(before["epoch"])
            assert int(after["seq"]) > int(before["seq"])
            assert two.lines("tick missed") == []
            assert "Traceback" not in one.text() + two.text()
    look.close()


# Commands that only look


def redis_dump(world):
    def value(key):
        kind = world.look.type(key)
        read = {
            "string": lambda: world.look.get(key),
            "hash": lambda: world.look.hgetall(key),
            "zset": lambda: world.look.zrange(key, 0, -1, withscores=True),
        }[kind]
        return kind, read(), world.look.ttl(key) > 0

    return {key: value(key) for key in world.look.keys("*")}


def kubernetes_dump(world):
    hpas = world.api.get(world.paths.hpas)["items"]
    for hpa in hpas:  # the HPA controller's own part
        del hpa["status"], hpa["metadata"]["resourceVersion"]
        hpa["metadata"]["managedFields"] = [f for f in hpa["metadata"]["managedFields"] if "subresource" not in f]
    leases = [
        (x["metadata"]["name"], x["metadata"]["resourceVersion"]) for x in world.api.get(world.paths.leases)["items"]
    ]
    events = world.api.get(world.paths.events)["items"]
    ours = [
        (e["metadata"]["name"], e["metadata"]["resourceVersion"]) for e in events if e["reason"].startswith("Trimtab")
    ]
    return hpas, sorted(leases), sorted(ours)


@pytest.fixture
def still(settled):
    """The world with the daemon stopped in its tracks, and one change waiting. What it published outlives the test."""
    settled.main.process.pause()
    for key in settled.look.keys("*"):
        if settled.look.ttl(key) != -1:
            settled.look.expire(key, 600)
    settled.ask_for_more()
    yield settled
    settled.main.process.resume()


@pytest.mark.parametrize("command", ["plan", "plan -o json", "run --once --dry-run --log-format=json", "status"])
def test_looking_changes_nothing(still, command):
    before = redis_dump(still), kubernetes_dump(still)
    done = trimtab(*command.split(), *still.flags())
    assert (done.returncode, done.stderr) == (0, "")
    assert (redis_dump(still), kubernetes_dump(still)) == before
    assert before[0]
    old, new = still.most - 1, still.most
    if command == "plan":
        assert f"{old} -> {new}" in done.stdout
        assert f"below the policy's floor {new}" in done.stdout
    if command == "plan -o json":
        changes = {p["policy"]: p["changes"] for p in json.loads(done.stdout)["plans"]}
        (change,) = [c for c in changes[still.chat] if c["field"] == "maxReplicas"]
        assert (change["before"], change["after"], bool(change["reason"])) == (old, new, True)
    if command.startswith("run"):
        (decision,) = [
            r
            for r in map(json.loads, done.stdout.splitlines())
            if r["event"] == "decision" and r["policy"] == still.chat
        ]
        assert decision["applied"] is False
    if command == "status":
        assert still.chat in done.stdout
        assert f"3-{old} replicas, now 3" in done.stdout


def test_status_as_json(settled):
    done = trimtab("status", "-o", "json", *settled.flags())
    state = {p["policy"]: p for p in json.loads(done.stdout)["policies"]}
    assert (done.returncode, done.stderr) == (0, "")
    assert state[settled.chat]["limit"] == 15
    assert state[settled.chat]["hpa"]["min_replicas"] == 3
    assert len(state[settled.plain]["ranking"]["endpoints"]) == 3
    assert state[settled.plain]["hpa"] is None
