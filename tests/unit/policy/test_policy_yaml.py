"""The strict reader: what YAML 1.1 would change silently is a fault, and nothing ever raises."""

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.policy import yaml as strict
from controller.policy.yaml import MAX_BYTES, read_documents


def values(text):
    documents, faults = read_documents(text.encode(), "f.yaml")
    assert faults == ()
    return [document.value for document in documents]


def messages(text):
    data = text if isinstance(text, bytes) else text.encode()
    return [str(fault) for fault in read_documents(data, "f.yaml")[1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: 1\nmode: off\n", "f.yaml:2: mode: YAML reads off as false", id="off"),
        pytest.param("mode: on", "YAML reads on as true; write true", id="on"),
        pytest.param("version: no", 'write false, or "no" in quotes if text is meant', id="no"),
        pytest.param("version: Yes", 'write true, or "Yes" in quotes', id="yes"),
        pytest.param("on: 1", "f.yaml:1: on: YAML reads on as true", id="bool-key"),
        pytest.param("a: 1:30", "YAML reads 1:30 as 90 (base 60)", id="sexagesimal"),
        pytest.param("a: 1:30.5", "as 90.5 (base 60)", id="sexagesimal-float"),
        pytest.param("a: 012", "YAML reads 012 as 10 (octal); write 12", id="octal"),
        pytest.param("a: -012", "as 10 (octal)", id="negative-octal"),
        pytest.param("a: 1_000", "write it without `_`", id="underscore"),
        pytest.param("a: 1_0.5", "write it without `_`", id="underscore-float"),
        pytest.param("a: 2024-01-02", 'as a date; write "2024-01-02" in quotes', id="date"),
        pytest.param("a: 2024-01-02 10:00:00", "as a date", id="datetime"),
        pytest.param("a: 1e3", "YAML reads 1e3 as text, not as a number; write 1000", id="exponent"),
        pytest.param("a: .inf", "not finite", id="infinity"),
        pytest.param("a: .nan", "not finite", id="nan"),
        pytest.param("a: 1.0e+400", "not finite", id="overflow"),
        pytest.param("a: " + "9" * 6000, "is too large", id="huge-integer"),
        pytest.param("8000: a", 'a field name must be text; write "8000" in quotes', id="number-key"),
        pytest.param("~: a", "a field name must be text", id="null-key"),
        pytest.param("[a]: b", "a field name must be text, not a list", id="list-key"),
        pytest.param("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: given twice; the first one is on line 1", id="duplicate"),
        pytest.param("a: {b: 1, b: 2}", "a.b: given twice", id="nested-duplicate"),
        pytest.param("a: !!python/object:os.system x", "is not supported", id="python-tag"),
        pytest.param("a: !mine x", "the tag !mine is not supported", id="custom-tag"),
        pytest.param("a: !!set {x: }", "the tag !!set is not supported", id="set-tag"),
        pytest.param("a: !!int '7'", "the tag !!int is not supported", id="explicit-int"),
        pytest.param("a:\n\tb: 1", "f.yaml:2: not valid YAML: a tab cannot indent YAML; use spaces", id="tab"),
        pytest.param("a: [1, 2", "not valid YAML", id="unclosed"),
        pytest.param("a: *nowhere", "not valid YAML", id="unknown-alias"),
        pytest.param('a: "\\ud800"', "half a surrogate pair", id="surrogate"),
        pytest.param("a: 1\nb: \x07", "f.yaml:2: the character U+0007 is not allowed", id="control-character"),
        pytest.param(b"a: \xff\n", "f.yaml:1: the file is not UTF-8 text (byte 0xff)", id="latin-1"),
        pytest.param("a: 1".encode("utf-16"), "UTF-16 text; save it as UTF-8", id="utf-16"),
        pytest.param(b"\x00\x01\x02\x80", "not UTF-8 text", id="binary"),
        pytest.param("[" * 100_000, "nested deeper", id="deep-flow"),
        pytest.param("".join(" " * i + "a:\n" for i in range(200)), "nested deeper", id="deep-block"),
        pytest.param("a: &a [*a]", "nested deeper", id="self-reference"),
        pytest.param("a: &a {<<: *a}", "nested deeper", id="self-merge"),
        pytest.param("<<: 3", "`<<` merges mappings only", id="merge-of-a-number"),
        pytest.param(b" " * (MAX_BYTES + 1), "larger than", id="huge"),
        pytest.param("%YAML 1." + "9" * 5000 + "\n--- a", "not valid YAML", id="absurd-version"),
        pytest.param('a: "\\UFFFFFFFF"', "not valid YAML", id="absurd-escape"),
    ],
)
def test_surprises_are_faults(text, message):
    found = messages(text)
    assert any(message in line for line in found), found
    assert all("\n" not in line for line in found)


def test_a_laugh_a_thousandfold_is_cut_short():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert "more than 20000 values" in messages("\n".join(lines))[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("# only a comment\n", [], id="comment"),
        pytest.param("---\n---\n", [], id="empty-documents"),
        pytest.param("a: 1\n---\nb: 2\n", [{"a": 1}, {"b": 2}], id="two-documents"),
        pytest.param("\ufeffa: 1", [{"a": 1}], id="byte-order-mark"),
        pytest.param("a: true\nb: False\nc: ~\nd:\n", [{"a": True, "b": False, "c": None, "d": None}], id="words"),
        pytest.param(
            "a: 0\nb: -7\nc: 0x1F\nd: 1.5\ne: 1.5e+3", [{"a": 0, "b": -7, "c": 31, "d": 1.5, "e": 1500.0}], id="numbers"
        ),
        pytest.param("a: 'on'\nb: \"012\"\nc: !!str 012", [{"a": "on", "b": "012", "c": "012"}], id="quoted"),
        pytest.param("a: 500ms\nb: 1%\nc: 08", [{"a": "500ms", "b": "1%", "c": "08"}], id="plain-text"),
        pytest.param(
            "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", [{"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}], id="merge"
        ),
        pytest.param(
            "a: &x {p: 1}\nb: {<<: [*x, {p: 5, r: 6}]}", [{"a": {"p": 1}, "b": {"p": 1, "r": 6}}], id="merge-list"
        ),
    ],
)
def test_plain_values_are_read(text, expected):
    assert values(text) == expected


def test_lines_follow_fields_items_and_merges():
    (document,), _ = read_documents(b"a:\n  b: 1\n  c:\n    - x\n    - y\nd: &m\n  e: 2\nf:\n  <<: *m\n", "f.yaml")
    assert document.line_of(("a", "b")) == 2
    assert document.line_of(("a", "c", 1)) == 5
    assert document.line_of(("a", "missing", "deeper")) == 1
    assert document.line_of(("f", "e")) == 7
    assert document.line_of(("nowhere",)) == 1


def test_nothing_behind_a_colon_is_told_from_null():
    (document,), _ = read_documents(b"a:\nb: null\n", "f.yaml")
    assert document.empty == {("a",)}


def test_earlier_documents_survive_a_broken_one():
    documents, faults = read_documents(b"a: 1\n---\nb: [\n", "f.yaml")
    assert [document.value for document in documents] == [{"a": 1}]
    assert len(faults) == 1


yaml_like = st.text(
    alphabet=st.sampled_from(string.ascii_letters[:6] + string.digits[:4] + "-:,.[]{}#&*!|>'\"%@` \n\t<?~=_\\"),
    max_size=200,
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")),
        yaml_like.map(str.encode),
    )
)
@example(b"? ")
@example(b"!<tag:yaml.org,2002:int> x")
@example(b"a: !!float")
@example(b"=: =")
@example(b'"\\x"')
def test_nothing_raises(data):
    documents, faults = read_documents(data, "f.yaml")
    for fault in faults:
        assert fault.line >= 1
        assert "\n" not in str(fault)
        str(fault).encode()
    assert isinstance(documents, tuple)


def test_dotted_paths_stay_on_one_line():
    assert strict.dotted(("spec", "between", 0)) == "spec.between[0]"
    assert strict.dotted(("a\nb",)) == "a\\nb"
