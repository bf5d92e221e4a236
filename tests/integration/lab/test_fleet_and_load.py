import asyncio
import json
import sys
import time
import urllib.request

import pytest

from controller.lab.connections import Client
from controller.lab.fleet import Fleet, Make, free_network
from controller.lab.load import LEAST_IN_FLIGHT, ROUND_ROBIN, TRIMTAB, Phase, Plan
from controller.lab.ports import free_port
from controller.lab.process import LabError, Process, wait_until
from controller.lab.redis import RedisServer
from trimtab.contract import Endpoint, Keys, ranking_document

pytestmark = pytest.mark.integration
FAST = Make(slots=2, service_seconds=0.02)


@pytest.fixture
def fleet(tmp_path):
    port = free_port()
    with Fleet(tmp_path, f"{free_network(port)}.0", port, [FAST]) as fleet:
        yield fleet


def metrics(server):
    with urllib.request.urlopen(f"{server.endpoint}/metrics", timeout=5) as reply:
        lines = [line for line in reply.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def post(server, count=1, work=1.0):
    async def all_at_once():
        client = Client("/v1/completions")
        body = json.dumps({"work": work}).encode()
        try:
            return await asyncio.gather(*(client.post(server.endpoint, body) for _ in range(count)))
        finally:
            client.close()

    return asyncio.run(all_at_once())


def test_a_server_counts_what_it_serves(fleet):
    server = fleet.start("a")
    assert post(server, 6) == [200] * 6
    seen = metrics(server)
    labels = 'handler="/v1/completions",method="POST"'
    assert seen[f'http_requests_total{{{labels},status="2xx"}}'] == 6
    assert seen[f"http_request_duration_seconds_count{{{labels}}}"] == 6
    assert seen[f'http_request_duration_seconds_bucket{{{labels},le="+Inf"}}'] == 6
    assert seen['http_request_duration_highr_seconds_bucket{le="+Inf"}'] == 6
    assert seen['http_request_duration_highr_seconds_bucket{le="0.01"}'] == 0
    # 6 requests of 20 ms through 2 slots: 0.12 slot-seconds; they wait 0, 20 and 40 ms before it.
    assert seen["model_slot_busy_seconds_total"] >= 0.12
    assert seen[f"http_request_duration_seconds_sum{{{labels}}}"] >= 2 * (0.02 + 0.04 + 0.06)
    assert seen["http_requests_inprogress"] == seen["model_busy_slots_ratio"] == 0


def test_it_is_slowed_broken_and_hung_at_run_time(fleet):
    server = fleet.start("a")
    server.lab(speed=0.1)
    before = time.monotonic()
    post(server)
    assert time.monotonic() - before >= 0.2
    server.lab(speed=1.0, errors=1.0)
    assert post(server) == [500]
    server.lab(errors=0.0, hang=True)
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(Client("/predict").post(server.endpoint, b"{}"), 0.2))
    assert server.lab()["inside"] == 1
    server.lab(hang=False)
    wait_until(lambda: server.lab()["inside"] == 0, 5, "the request that hung")
    with pytest.raises(LabError, match="above 0"):
        server.lab(speed=0)


def test_a_stop_lets_requests_finish_and_its_address_is_given_to_the_next(fleet):
    first = fleet.start("a")
    assert fleet.start("a") is first
    second = fleet.start("b")
    assert first.host != second.host
    fleet.stop("a")
    assert first.process.returncode() == 0
    assert fleet.start("c").host == first.host
    assert [server.name for server in fleet.servers()] == ["c", "b"]


def test_both_sides_get_the_same_requests_and_trimtabs_follows_ranking_and_limit(fleet, tmp_path):
    one, two = fleet.start("one"), fleet.start("two")
    (tmp_path / "endpoints.json").write_text(json.dumps([one.endpoint, two.endpoint]))
    policy = "models/demo"
    with RedisServer.start(tmp_path / "redis") as redis, redis.client() as client:
        rows = [Endpoint(one.endpoint, "one", 1, 1.0, "serving"), Endpoint(two.endpoint, "two", 2, 0.0, "ejected")]
        document = ranking_document(
            policy=policy, seq=1, published_at=time.time(), valid_for=60, limit=1, panic=False, endpoints=rows
        )
        client.set(Keys(policy).ranking, document)
        client.set(Keys(policy).limit, "1")
        files = {name: str(tmp_path / "endpoints.json") for name in (ROUND_ROBIN, TRIMTAB)}
        phases = (Phase("calm", 1.0, 20.0), Phase("busy", 1.0, 60.0))
        plan = Plan(phases, contestants=files, redis_url=redis.url, policy=policy)
        plan.write(tmp_path / "plan.json")
        command = [sys.executable, "-m", "controller.lab.load", str(tmp_path / "plan.json")]
        out = tmp_path / "rows.jsonl"
        with Process.start("load", command, log=tmp_path / "load.log", stdout=out) as load:
            wait_until(lambda: client.zcard(Keys(policy).queue("model_requests").waiting) > 0, 10, "a visible queue")
            assert load.wait(15) == 0, load.last_lines()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert (rows.pop(0)["kind"], rows.pop()["kind"]) == ("start", "end")
    by_side = {side: [row for row in rows if row["side"] == side] for side in (ROUND_ROBIN, TRIMTAB)}
    due = {side: sorted((row["due"], row["phase"]) for row in of_side) for side, of_side in by_side.items()}
    assert due[ROUND_ROBIN] == due[TRIMTAB]
    assert len(rows) > 100
    turns = [row["endpoint"] for row in by_side[ROUND_ROBIN] if row["status"] == 200]
    assert abs(turns.count(one.endpoint) - turns.count(two.endpoint)) <= 2
    assert {row["endpoint"] for row in by_side[TRIMTAB] if row["status"] == 200} == {one.endpoint}
    # One at a time of 20 ms each: 60 requests/s cannot all be through, and the wait counts.
    assert max(row["waited"] for row in by_side[TRIMTAB]) > 0.02
    assert all(row["seconds"] >= row["waited"] for row in rows)


def test_a_killed_server_is_retried_elsewhere(fleet, tmp_path):
    one, two = fleet.start("one"), fleet.start("two")
    two.process.kill()
    (tmp_path / "endpoints.json").write_text(json.dumps([one.endpoint, two.endpoint]))
    files = {name: str(tmp_path / "endpoints.json") for name in (ROUND_ROBIN, LEAST_IN_FLIGHT, TRIMTAB)}
    # Nobody at the Redis address: Trimtab's side goes on with its fallback.
    url = f"redis://127.0.0.1:{free_port()}/0"
    plan = Plan((Phase("p", 1.0, 30.0),), contestants=files, redis_url=url, policy="models/demo")
    plan.write(tmp_path / "plan.json")
    command = [sys.executable, "-m", "controller.lab.load", str(tmp_path / "plan.json")]
    out = tmp_path / "rows.jsonl"
    with Process.start("load", command, log=tmp_path / "load.log", stdout=out) as load:
        assert load.wait(15) == 0, load.last_lines()
    rows = [row for row in map(json.loads, out.read_text().splitlines()) if row["kind"] == "request"]
    assert {row["side"] for row in rows} == {ROUND_ROBIN, LEAST_IN_FLIGHT, TRIMTAB}
    assert {row["endpoint"] for row in rows if row["status"] == 200} == {one.endpoint}
    assert not [row for row in rows if row["status"] != 200 and not row.get("unfinished")]
