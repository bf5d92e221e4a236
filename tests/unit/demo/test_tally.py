import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.demo.tally import Change, Spread, Tail, Tally, percentile, spread
from controller.lab.load import ROUND_ROBIN, TRIMTAB

FINITE = st.floats(0, 1e6)


@given(st.lists(FINITE, min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_the_smallest_value_that_its_share_does_not_exceed(values, share):
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values)


def test_nothing_has_no_percentiles():
    assert spread([]) == Spread(0, None, None, None)


def row(**fields):
    usual = {"side": TRIMTAB, "phase": "steady", "due": 1.0, "seconds": 0.1, "status": 200, "endpoint": "http://a"}
    return {"kind": "request", "late": 0.001, "waited": 0.0, **usual, **fields}


def test_requests_are_told_apart_by_side_phase_and_time():
    tally = Tally()
    for one in (
        row(seconds=0.1, due=1.0),
        row(seconds=0.3, due=9.0),
        row(side=ROUND_ROBIN, seconds=5.0),
        row(phase="warm-up", seconds=7.0),
        row(phase="double", status=500),
        row(phase="double", status=0, unfinished=True, endpoint=None),
        {"kind": "start", "at": 100.0},
        {"kind": "end", "cpu": 0.2},
    ):
        tally.take_row(one)
    assert tally.spread(TRIMTAB, ["steady"]) == Spread(2, 0.1, 0.3, 0.3)
    assert tally.spread(TRIMTAB, ["steady"], since=5.0).count == 1
    assert tally.spread(ROUND_ROBIN, ["steady"]).p99 == 5.0
    assert (tally.failed(TRIMTAB, ["double"]), tally.unfinished(TRIMTAB), tally.unfinished(ROUND_ROBIN)) == (1, 1, 0)
    assert (tally.load_cpu, tally.began_at) == (0.2, 100.0)
    assert [tally.since_start(at) for at in (103.21, 99.0, 0.0)] == [3.2, -1.0, None]
    count, mean = tally.at("http://a", since=5.0)
    assert (count, mean) == (1, 0.3)


def test_decisions_are_read_from_the_log_and_the_rest_is_passed_over():
    tally = Tally()
    change = {"field": "limit", "before": 32, "after": 25, "reason": "p95 is over"}
    tally.take_record({"event": "started"})
    tally.take_record({"event": "decision", "ts": "2026-01-01T00:00:00Z", "changes": []})
    tally.take_record({"event": "decision", "ts": "2026-01-01T00:00:10Z", "changes": [change]})
    tally.take_record({"event": "decision", "changes": [change]})
    assert tally.changes == [
        Change(1767225610.0, "limit", 32, 25, "p95 is over"),
        Change(0.0, "limit", 32, 25, "p95 is over"),
    ]


@pytest.mark.parametrize(
    ("field", "before", "after", "limit", "bounds"),
    [
        pytest.param("limit", 32, 25, True, False, id="limit"),
        pytest.param("limit", None, 32, False, False, id="first limit"),
        pytest.param("minReplicas", 4, 6, False, True, id="min"),
        pytest.param("maxReplicas", 4, 6, False, True, id="max"),
        pytest.param("maxReplicas", None, 4, False, False, id="created"),
        pytest.param("weight limit", 0.1, 0.2, False, False, id="a pod named so"),
    ],
)
def test_what_counts_as_a_move(field, before, after, limit, bounds):
    change = Change(0.0, field, before, after, "why")
    assert (change.moves_limit, change.moves_bounds) == (limit, bounds)


def test_a_tail_reads_each_whole_line_once(tmp_path):
    path = tmp_path / "rows"
    tail = Tail(path)
    assert tail.read() == []
    path.write_text('{"a": 1}\nno json\n[1]\n{"a":')
    assert tail.read() == [{"a": 1}]
    with path.open("a") as file:
        file.write(" 2}\n" + json.dumps({"a": 3}) + "\n")
    assert tail.read() == [{"a": 2}, {"a": 3}]
    assert tail.read() == []
