"""A fast parser reads the lines of the audit trail. It must say the same as Python's own, whatever stands in a line."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from pysequence_api.records.audit import FIRST_HASH, ChainVerifier, Line, whole_characters

ODD = (
    *(b"NaN", b"-Infinity", b"-NaN", b"+1", b"01", b"-0", b"1.", b"1e999", b"1E+5", b"0." + b"9" * 4301, b"tru"),
    *(b"9" * 4300, b"-" + b"9" * 4301, b"[" * 199 + b"]" * 199, b"[" * 300 + b"]" * 300, b"[" * 3000),
    *(rb'"\ud800"', rb'"\uDC00\ud800"', rb'"\ud83d\ude00"', rb'"\u+0e9"', rb'"\x"', rb"\ud800", b"\\", b'"'),
    *(b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xff", "\u00e9".encode(), "\U0001f600".encode()),
    *(b"\x00", b"\t", b"\x0b", b"\x7f", b"\xef\xbb\xbf", b"\xc2\xa0", b",", b"{}", b"'", b"//", b" "),
    *(b'"prev":1,', b',"prev":null', b',"timestamp":[1.10]', b',"amount_cents":1.0', b',"prev":"' + b"0" * 64 + b'"'),
)
"""What parsers of JSON do not agree about."""

values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec=None)), st.just(FIRST_HASH)
)
documents = st.dictionaries(st.sampled_from([*Line.model_fields, "new"]), values | st.lists(values, max_size=2))
places = st.lists(st.tuples(st.integers(0, 400), st.sampled_from(ODD)), max_size=2)


@st.composite
def odd_lines(draw: st.DrawFn) -> bytes:
    document: Any = draw(documents)
    if draw(st.booleans()):
        document["prev"] = FIRST_HASH
    line = json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for place, odd in draw(places):
        at = place % (len(line) + 1)
        line = line[:at] + odd + line[at + draw(st.sampled_from([0, 1])) :]
    return draw(st.sampled_from([line, line, line, line[:-1], line.decode(errors="ignore").encode("utf-16")]))


def read_plainly(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


@given(odd_lines() | st.binary(max_size=20))
@example(b'{"prev":"a","prev":"' + FIRST_HASH.encode() + b'"}')
@example(rb'{"prev":"\ud800"}')
@example('{"prev":"a"}'.encode("utf-16"))
def test_a_chain_gets_the_verdict_of_the_plain_parser(line: bytes) -> None:
    verifier = ChainVerifier()
    found = verifier.finish(verifier.take(line))
    document = read_plainly(line)
    is_cut = not isinstance(document, dict)
    is_wrong = not is_cut and "prev" in document and document["prev"] != FIRST_HASH
    since = None if is_cut or is_wrong or "prev" not in document else str(document.get("timestamp"))
    assert (found.cut_short, found.intact, found.unbroken_since) == ((1,) * is_cut, not is_wrong, since)


@given(odd_lines() | st.binary(max_size=20))
@example(b'{"prev":"\\uD800"}')
@example(b'{"unreadable":"x"}')
def test_a_line_says_what_the_plain_parser_reads(line: bytes) -> None:
    found = Line.parse(line)
    document = read_plainly(line)
    try:
        expected = Line.model_validate(whole_characters(document) if b"\\ud" in line.lower() else document)
    except (ValidationError, ValueError):
        expected = Line(unreadable=line[:200].decode("utf-8", "replace"))
    # As text: NaN is not equal to itself.
    assert (repr(found), found.model_fields_set) == (repr(expected), expected.model_fields_set)
