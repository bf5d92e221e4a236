import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.contract import Endpoint, InvalidDocument, Ranking, parse_ranking, ranking_document

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
endpoints = st.builds(
    Endpoint,
    endpoint=st.text(),
    instance=st.text(),
    rank=st.integers(1, 10_000),
    weight=st.floats(0, 1),
    state=st.sampled_from(["serving", "warming", "stale", "ejected"]),
    age=numbers,
    latency=numbers,
    cpu=numbers,
    memory=numbers,
    why=st.text(),
)
rankings = st.builds(
    Ranking,
    policy=st.text(),
    seq=st.integers(0, 2**53),
    published_at=st.floats(0, 1e12),
    valid_for=st.floats(0, 1e6),
    limit=st.none() | st.integers(0, 100_000),
    panic=st.booleans(),
    endpoints=st.lists(endpoints, max_size=5).map(tuple),
)


def document_of(ranking):
    return ranking_document(**{name: getattr(ranking, name) for name in Ranking.__slots__})


@given(rankings)
def test_what_is_written_is_what_is_read(ranking):
    text = document_of(ranking)
    assert parse_ranking(text) == parse_ranking(text.encode()) == ranking
    assert document_of(parse_ranking(text)) == text


def test_the_document_has_the_published_shape():
    row = Endpoint("http://10.0.0.7:8000", "model-7d9", 1, 0.31, "serving", 3.2, 0.121, 0.55, 0.4, "capacity 42.1/s")
    text = ranking_document(
        policy="models/model-service",
        seq=1842,
        published_at=1790000000.0,
        valid_for=60,
        limit=40,
        panic=False,
        endpoints=[row],
    )
    assert text == (
        '{"v":1,"policy":"models/model-service","seq":1842,"published_at":1790000000.0,"valid_for":60,"limit":40,'
        '"panic":false,"endpoints":[{"endpoint":"http://10.0.0.7:8000","instance":"model-7d9","rank":1,"weight":0.31,'
        '"state":"serving","age":3.2,"latency":0.121,"cpu":0.55,"memory":0.4,"why":"capacity 42.1/s"}]}'
    )


GOOD = json.loads(
    ranking_document(
        policy="a/b",
        seq=1,
        published_at=1.0,
        valid_for=60.0,
        limit=None,
        panic=False,
        endpoints=[Endpoint("http://x", "x", 1, 1.0, "serving")],
    )
)


def test_unknown_fields_are_for_newer_readers():
    newer = {**GOOD, "shiny": 1, "endpoints": [{**GOOD["endpoints"][0], "zone": "b"}]}
    assert parse_ranking(json.dumps(newer)) == parse_ranking(json.dumps(GOOD))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        (json.dumps({**GOOD, "v": 2}), "version 2 is not 1"),
        (json.dumps({**GOOD, "v": None}), "version None"),
        (json.dumps({**GOOD, "seq": "1"}), "seq is no finite number"),
        (json.dumps({**GOOD, "seq": True}), "seq is no finite number"),
        (json.dumps({**GOOD, "valid_for": float("inf")}), "valid_for is no finite number"),
        (json.dumps({**GOOD, "endpoints": None}), "endpoints is no list"),
        (json.dumps({**GOOD, "endpoints": ["x"]}), "an endpoint is no object"),
        (json.dumps({**GOOD, "endpoints": [{**GOOD["endpoints"][0], "weight": -1}]}), "weight -1 is negative"),
        (json.dumps({**GOOD, "endpoints": [{**GOOD["endpoints"][0], "weight": float("nan")}]}), "weight is no finite"),
        (json.dumps({**GOOD, "endpoints": [{**GOOD["endpoints"][0], "endpoint": None}]}), "endpoint is no text"),
    ],
)
def test_what_is_no_document_says_why(text, words):
    with pytest.raises(InvalidDocument, match=words):
        parse_ranking(text)


def test_a_number_that_is_none_is_never_written():
    with pytest.raises(ValueError, match="JSON compliant"):
        document_of(Ranking("a/b", 1, float("nan"), 60.0, None, False, ()))
