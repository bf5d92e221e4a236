"""The reader of replies: whatever the pieces in which they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.queue import resp

values = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=100), st.just(b"\r\n$-1\r\n"))


def encode(reply):
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(encode(value) for value in reply)


class Pieces:
    """A socket that gives at most so many bytes at a time, then the end of the connection."""

    def __init__(self, data, sizes=(1_000_000,)):
        self.data, self.sizes, self.calls = data, sizes, 0

    def recv(self, most):
        size = min(most, self.sizes[self.calls % len(self.sizes)])
        self.calls += 1
        piece, self.data = self.data[:size], self.data[size:]
        return piece


@given(st.one_of(values, st.lists(values, max_size=8)), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_a_reply_is_read_as_it_was_sent_in_any_pieces(reply, sizes):
    assert resp.read(Pieces(encode(reply), sizes).recv) == reply


@given(st.lists(values, min_size=1, max_size=4), st.data())
def test_half_a_reply_is_never_taken_for_a_whole_one(reply, data):
    whole = encode(reply)
    with pytest.raises(resp.Closed):
        resp.read(Pieces(whole[: data.draw(st.integers(0, len(whole) - 1))], (7,)).recv)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"-NOSCRIPT No matching script\r\n", resp.Refusal),
        (b":1\r\n:2\r\n", resp.Malformed),
        (b"*1\r\n*1\r\n:1\r\n", resp.Malformed),
        (b"%1\r\n+a\r\n:1\r\n", resp.Malformed),
    ],
    ids=["an error", "two replies", "nested", "RESP3"],
)
def test_what_is_no_reply_of_a_script_is_refused(sent, error):
    with pytest.raises(error):
        resp.read(Pieces(sent).recv)


def test_special_forms():
    assert resp.read(Pieces(b"+OK\r\n").recv) == b"OK"
    assert resp.read(Pieces(b"*-1\r\n").recv) is None


def test_a_large_reply_is_gathered_in_few_reads():
    pieces = Pieces(encode([b"x" * 5_000_000]), (1_000_000,))
    assert resp.read(pieces.recv) == [b"x" * 5_000_000]
    assert pieces.calls <= 12
