"""Whatever stands in files, answers and arguments: parsers return a value, or raise their documented exception.

For hours: ``pytest tests/hardening/test_fuzz.py --hypothesis-profile=long``.
"""

import base64
import json
import re
import string
import tempfile
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pysequence_api.cli.audit import read_when
from pysequence_api.clock import from_micros, read_time, to_micros
from pysequence_api.env_files import files_read, quoted_value
from pysequence_api.errors import InvalidRequestError, NotFoundError, SequenceError, SettingsError
from pysequence_api.money import format_cents, parse_dollars
from pysequence_api.records.audit import ChainVerifier, Line
from pysequence_api.sequence.graphql.answers import Answer, read_answer
from pysequence_api.sequence.graphql.documents import DOCUMENTS
from pysequence_api.sequence.graphql.parsing import (
    read_accounts,
    read_activity,
    read_payment,
    read_pod_detail,
    read_summary,
    read_transfer_detail,
)
from pysequence_api.sequence.sign_in.codes import read_codes
from pysequence_api.sequence.sign_in.token_cache import TokenCache, expiry_of, is_sendable, issue_of
from pysequence_api.sequence.transport import HttpAnswer
from pysequence_api.settings import Settings
from pysequence_api.text import mask_number, plain_text

IS_LONG = settings().max_examples > settings.get_profile("suite").max_examples
EXAMPLES = settings(max_examples=settings().max_examples if IS_LONG else 25)
"""A few new ones in each run."""
NAMES = sorted({name for document in DOCUMENTS.values() for name in re.findall(r"\b[a-z]\w+", str(document))})
"""The fields of Sequence's answers, and more words."""
READERS: tuple[Callable[[Answer], object], ...] = (
    lambda answer: read_accounts(answer, None),
    lambda answer: read_accounts(answer, "o"),
    lambda answer: read_activity(answer, "o"),
    read_payment,
    lambda answer: read_pod_detail(answer, "o", "p"),
    read_summary,
    lambda answer: read_transfer_detail(answer, "o", "t"),
)

any_text = st.text(st.characters(codec=None))  # also halves of characters, which JSON can hold
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    any_text,
    st.sampled_from(
        ["2026-11-23", "2026-11-23T10:00:00Z", "0001-01-01T00:00:00+14:00", "POD", "COMPLETE", "not found"]
    ),
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | any_text, inner, max_size=6),
    max_leaves=30,
)


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


@EXAMPLES
@given(st.text() | st.from_regex(r"\$?[0-9,]{1,15}(\.[0-9]{0,3})?", fullmatch=True))
@example("$1,00")
@example("\u0665.\u0660\u0660")  # digits of another script
@example("1e5")
@example("$" + "9" * 13)
def test_amounts(text: str) -> None:
    try:
        cents = parse_dollars(text)
    except ValueError:
        return
    assert 0 <= cents < 10**15
    assert parse_dollars(format_cents(cents)) == cents
    assert set(text.strip()) <= set("$0123456789,.")


@EXAMPLES
@given(st.integers(0, 10**14 - 1))
def test_every_amount_is_read_as_it_is_written(cents: int) -> None:
    assert parse_dollars(format_cents(cents)) == cents


@EXAMPLES
@given(any_text | st.datetimes(timezones=st.timezones() | st.none()).map(datetime.isoformat))
def test_times(text: str) -> None:
    time = read_time(text)
    if time is not None:
        assert time.tzinfo is UTC
        assert from_micros(to_micros(time)) == time
    for end_of_day in (False, True):
        try:
            assert read_when(text, end_of_day=end_of_day).tzinfo is not None
        except InvalidRequestError:
            continue


@EXAMPLES
@given(any_text)
@example("9999-12-31")
@example("9" * 5000 + "d")
def test_times_that_a_person_types(text: str) -> None:
    try:
        read_when(text, end_of_day=True)
    except InvalidRequestError:
        return


def jwt_of(claims: bytes) -> str:
    parts = (b'{"alg":"HS256","typ":"JWT"}', claims, b"signature")
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


claims = st.dictionaries(st.sampled_from(["exp", "iat", "nbf", "aud", "sub"]), json_values)


@EXAMPLES
@given(any_text | st.builds(jwt_of, st.binary() | claims.map(encoded)))
@example(jwt_of(b'{"exp":' + b"[" * 100_000))
@example(jwt_of(b'{"exp":' + b"9" * 5000 + b"}"))
@example(jwt_of(b'{"exp":1e999}'))
@example(jwt_of(b'{"exp":NaN}'))
def test_tokens(token: str) -> None:
    for read in (expiry_of, issue_of):
        time = read(token)
        assert time is None or datetime.fromtimestamp(time, UTC)
    assert is_sendable(token) in {True, False}


@EXAMPLES
@given(
    st.binary()
    | json_values.map(encoded)
    | st.fixed_dictionaries({"access_token": any_text, "expires_at": scalars, "refresh_token": scalars}).map(encoded)
)
def test_the_token_cache(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        cache = TokenCache(Path(name))
        cache.path.write_bytes(content)
        tokens = cache.read()
        assert tokens is None or is_sendable(tokens.access_token)


@EXAMPLES
@given(any_text | st.builds("otpauth://totp/x?secret={}&digits={}&period={}".format, any_text, scalars, scalars))
@example("otpauth://totp/x?secret=ABCDEFGHIJKLMNOP&digits=" + "9" * 5000)
@example("otpauth://totp/x?secret=ABCDEFGHIJKLMNOP&period=" + "9" * 400)
def test_one_time_codes(text: str) -> None:
    message = ""
    try:
        read_codes(text)
    except SettingsError as error:
        message = str(error)
    assert len(text) < 8 or text not in message


@EXAMPLES
@given(st.integers(100, 599), st.binary() | json_values.map(encoded) | json_values.map(lambda v: encoded({"data": v})))
@example(200, b'{"data":' + b"[" * 100_000)
@example(200, b'{"data":{"activitySummary":{"totalIncomingFundsInCents":{"cents":' + b"9" * 5000 + b"}}}}")
def test_answers_of_sequence(status: int, body: bytes) -> None:
    for read in READERS:
        message = ""
        try:
            answer = read_answer("Operation", HttpAnswer(status, body, None, None), "a-secret-token")
            read(answer.unread())
        except (SequenceError, NotFoundError) as error:
            message = str(error)
        assert "\n" not in message


@EXAMPLES
@given(any_text, any_text)
@example("a\u202eb\u200d\x9b\ud800\u2028", "")  # one of each kind
def test_text_from_outside(text: str, secret: str) -> None:
    line = plain_text(text, secrets=[secret])
    line.encode()
    assert not {unicodedata.category(character) for character in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert mask_number(text)


@EXAMPLES
@given(st.text() | st.text(string.printable + "$é").map("SEQUENCE_PASSWORD={}\nSEQUENCE_EMAIL=a\n".format))
def test_files_with_settings(content: str) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        path = Path(name) / "env"
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        path.chmod(0o600)
        patch.setenv("SEQUENCE_ENV_FILE", str(path))
        try:
            files_read()
            Settings.load()
        except SettingsError:
            return


@EXAMPLES
@given(st.text(st.characters(exclude_characters="\0\r\n", codec="utf-8")))
def test_a_value_that_is_written_is_read_back(value: str) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        path = Path(name) / "env"
        path.write_text(f"SEQUENCE_PASSWORD={quoted_value(value)}\n", encoding="utf-8", newline="")
        path.chmod(0o600)
        patch.setenv("SEQUENCE_ENV_FILE", str(path))
        values = [file.values for file in files_read() if file.path == path]
        assert values == [{"SEQUENCE_PASSWORD": value}]


@EXAMPLES
@given(
    st.binary()
    | json_values.map(encoded)
    | st.dictionaries(st.sampled_from([*Line.model_fields, "new"]), json_values).map(encoded)
)
@example(b"[" * 100_000)
@example(b'{"amount_cents":' + b"9" * 5000 + b"}")
@example(b'{"prev":"\\uD800"}')
def test_lines_of_the_audit_trail(line: bytes) -> None:
    parsed = Line.parse(line)
    json.dumps(parsed.as_json(), ensure_ascii=False).encode()
    verifier = ChainVerifier()
    verifier.take(line, parsed)
    verifier.finish()
