"""What an answer with a status of 300 and above says: the cause is told, and what is certain stays a closed list."""

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.errors import (
    BrowserRequiredError,
    GraphQLError,
    InvalidDocumentError,
    MovedError,
    NotAuthorizedError,
    SequenceError,
    SignInError,
    SignInRefusedError,
    UnexpectedStatusError,
)
from pysequence_api.sequence import transport
from pysequence_api.sequence.transport import MAX_ERROR_BODY_BYTES
from tests.sequence.conftest import TIMEOUT_SECONDS, ClientWorld, order_of, transfer
from tests.sequence.test_transport import SHORT_DEADLINE_SECONDS, Peer, answer, client_of, failure, failures, peer, says

pytestmark = pytest.mark.anyio

INVALID = {"errors": [{"message": 'Cannot query field "kycs" on type "Organization".'}]}
CHALLENGE = "<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>"


def graphql(status: int, body: Any) -> dict[str, Any]:
    return {"kind": "status", "status": status, "body": body}


STATUSES: dict[str, tuple[dict[str, Any], type[SequenceError], str]] = {
    "changed interface": (graphql(400, INVALID), InvalidDocumentError, "kycs"),
    "changed interface, by code": (
        graphql(400, {"errors": [{"message": "m", "extensions": {"code": "GRAPHQL_VALIDATION_FAILED"}}], "data": None}),
        InvalidDocumentError,
        "interface has changed",
    ),
    "another GraphQL error": (graphql(400, {"errors": [{"message": "Blocked as CSRF"}]}), GraphQLError, "CSRF"),
    "one of two errors": (
        graphql(400, {"errors": [*INVALID["errors"], {"message": "Something failed"}]}),
        GraphQLError,
        "failed",
    ),
    "an error with a path": (
        graphql(400, {"errors": [INVALID["errors"][0] | {"path": ["forKYC"]}]}),
        GraphQLError,
        "kycs",
    ),
    "422": (graphql(422, INVALID), GraphQLError, "kycs"),
    "400 with data": (graphql(400, INVALID | {"data": {"forKYC": None}}), UnexpectedStatusError, "400"),
    "500 with an invalid document": (graphql(500, INVALID), UnexpectedStatusError, "500"),
    "400 with text": (graphql(400, 'Cannot query field "kycs"'), UnexpectedStatusError, "400"),
    "400 with a list": (graphql(400, []), UnexpectedStatusError, "400"),
    "403": (graphql(403, {"error": "Forbidden"}), UnexpectedStatusError, "403"),
    "bot wall": ({"kind": "html", "status": 403, "body": CHALLENGE}, BrowserRequiredError, "browser"),
    "outage page": ({"kind": "html", "status": 503, "body": CHALLENGE}, UnexpectedStatusError, "503"),
    "moved": ({"kind": "redirect", "status": 301}, MovedError, "host elsewhere.invalid"),
    "moved with credentials": (
        {"kind": "redirect", "location": "https://user:secret-password@new.example:8443/x?token=secret-token"},
        MovedError,
        "host new.example",
    ),
    "moved on the same host": ({"kind": "redirect", "location": "/secret-path"}, MovedError, "same host"),
    "moved to nonsense": ({"kind": "redirect", "location": "https://<b>secret-markup</b>/"}, MovedError, "same host"),
    "moved to half an address": ({"kind": "redirect", "location": "https://[secret"}, MovedError, "same host"),
}


async def test_a_status_tells_its_cause(world: ClientWorld) -> None:
    client = world.client()
    for name, (effect, expected, phrase) in STATUSES.items():
        world.fail_once(effect, operation="ActivitySummary")
        with pytest.raises(SequenceError) as caught:
            await client.activity_summary()
        assert type(caught.value) is expected, name
        assert phrase in str(caught.value), name
        assert "secret" not in caught.value.detail, name
        assert "<" not in caught.value.detail, name
        # Only what may be over by itself is worth another try.
        assert ("later" in caught.value.detail) == (effect.get("status", 0) >= 500), name
        assert len(world.requests()) == 1, name


@pytest.mark.parametrize("when", ["before", "after"])
async def test_only_an_invalid_document_is_certain(world: ClientWorld, when: str) -> None:
    client = world.client()
    for name, (effect, expected, _) in STATUSES.items():
        world.fail_once(effect, when=when)
        with pytest.raises(SequenceError) as caught:
            await transfer(client, order_of())
        assert type(caught.value) is expected, name
        assert caught.value.nothing_moved == (expected is InvalidDocumentError), name
        assert "ry again" not in str(caught.value), name
        assert len(world.requests("CreatePayment")) == 1, name


BODY = json.dumps(INVALID).encode()
BAD_REQUEST = "400 Bad Request"


ENDS: list[tuple[Peer, type[SequenceError]]] = [
    (says(answer(BODY, status=BAD_REQUEST)), InvalidDocumentError),
    # A body that did not come whole may have said something else at its end.
    (says(answer(BODY, status=BAD_REQUEST, length=len(BODY) + 1)), UnexpectedStatusError),
    (says(answer(BODY, status=BAD_REQUEST, length=10**6), then="hang"), UnexpectedStatusError),
    (says(answer(BODY + b" " * MAX_ERROR_BODY_BYTES, status=BAD_REQUEST)), UnexpectedStatusError),
    (says(answer(BODY, "content-encoding: gzip", status=BAD_REQUEST)), UnexpectedStatusError),
    (says(answer(b"", status=BAD_REQUEST, length=10**6), then="drip"), UnexpectedStatusError),
    (says(answer(CHALLENGE.encode(), status="403 Forbidden", length=10**6), then="hang"), BrowserRequiredError),
    (says(answer(b"", "location: //new.example/", status="308 Moved", length=10**6), then="hang"), MovedError),
    (says(answer(b"", status="502 Bad Gateway", length=10**6), then="reset"), UnexpectedStatusError),
    (says(answer(b" ", status="502 Bad Gateway", length=10**9), *[bytes(10**6)] * 100), UnexpectedStatusError),
]


async def test_the_status_counts_however_its_body_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "ERROR_BODY_SECONDS", 0.3)
    started = time.monotonic()
    for read, sent, expected in await failures(tmp_path, ENDS):
        assert type(read) is type(sent) is expected
        assert sent.nothing_moved == (expected is InvalidDocumentError)
    assert time.monotonic() - started < TIMEOUT_SECONDS


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    followed: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        followed.append(await reader.read(1))

    async with peer(listen) as elsewhere:
        moved = answer(b"", f"location: http://{elsewhere}/", status="307 Temporary Redirect")
        async with peer(says(moved)) as address:
            read, sent = await failure(address, tmp_path)
    assert type(read) is type(sent) is MovedError
    assert followed == []


async def test_a_body_within_the_deadline(tmp_path: Path) -> None:
    """A deadline that is shorter than the time for such a body does not hide the status."""
    slow = says(answer(b"", status="500 Oops", length=10**6), then="hang")
    async with (
        peer(slow) as address,
        client_of(address, tmp_path, deadline_seconds=SHORT_DEADLINE_SECONDS) as client,
    ):
        with pytest.raises(UnexpectedStatusError):
            await client.activity_summary()


async def test_no_token_in_what_a_body_says(any_world: ClientWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = any_world.sandbox.issue_tokens().access_token
    client = any_world.client(access_token=token)
    any_world.fail(graphql(400, {"errors": [{"message": f"bad {token}"}]}), operation="ActivitySummary")
    with pytest.raises(GraphQLError) as caught:
        await client.activity_summary()
    assert token not in f"{caught.value!r} {caplog.text}"


REFRESHES: list[tuple[dict[str, Any], bool]] = [
    (graphql(403, {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}), True),
    (graphql(401, {}), True),
    ({"kind": "html", "status": 403, "body": CHALLENGE}, False),
    ({"kind": "redirect", "status": 301}, False),
    (graphql(500, {}), False),
]


async def test_a_refresh_is_refused_only_by_the_sign_in_service(world: ClientWorld) -> None:
    for fault, is_refused in REFRESHES:
        before = world.cache_tokens(lifetime_seconds=0)
        world.fail(fault, operation="oauth/token")
        with pytest.raises(SignInError) as caught:
            await world.client(access_token=None).activity_summary()
        assert isinstance(caught.value, SignInRefusedError) == is_refused, fault
        assert ("later" in caught.value.detail) == (fault.get("status") == 500), fault
        assert world.files.read_json(".tokens.json") == before, fault


def test_no_error_of_an_unknown_outcome_advises_to_try_again() -> None:
    """Whoever makes the message of an unknown outcome takes the text; the advice is for reads."""
    kinds = [SequenceError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    assert {UnexpectedStatusError, MovedError, NotAuthorizedError} <= set(kinds)
    for kind in kinds:
        error = kind("What happened.")
        assert str(error) == "What happened."
        assert error.detail == f"What happened. {error.advice}".strip()
        if not error.nothing_moved:
            assert "ry again" not in error.advice
