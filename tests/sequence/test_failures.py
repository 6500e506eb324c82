"""Every way to fail, with the truth about the money beside it: in process and over TCP by the same table."""

import logging
import time
from typing import Any

import anyio
import pytest

from pysequence_api.errors import (
    ConnectionLostError,
    GraphQLError,
    NotAuthorizedError,
    NotSentError,
    RateLimitedError,
    RefusedError,
    SequenceError,
    TimedOutError,
    UnexpectedStatusError,
    UnreadableAnswerError,
)
from pysequence_api.sandbox import ORGANIZATION_ID
from pysequence_api.sequence.graphql import client as graphql
from pysequence_api.sequence.transport import MAX_ANSWER_BYTES
from tests.sequence.conftest import TIMEOUT_SECONDS, House, order_of, transfer

pytestmark = pytest.mark.anyio

DEADLINE_SECONDS = 0.15
Failure = tuple[dict[str, Any], type[SequenceError]]

FAILURES: dict[str, Failure] = {
    "status 400": ({"kind": "status", "status": 400}, UnexpectedStatusError),
    "status 403": ({"kind": "status", "status": 403}, UnexpectedStatusError),
    "status 500": ({"kind": "status", "status": 500}, UnexpectedStatusError),
    "status 504": ({"kind": "status", "status": 504}, UnexpectedStatusError),
    "HTML with 502": ({"kind": "html"}, UnexpectedStatusError),
    "HTML with 200": ({"kind": "html", "status": 200}, UnreadableAnswerError),
    "redirect": ({"kind": "redirect"}, UnexpectedStatusError),
    "GraphQL error": ({"kind": "graphql_error"}, GraphQLError),
    "closed": ({"kind": "close"}, ConnectionLostError),
    "half a body": ({"kind": "half_body"}, ConnectionLostError),
    "broken JSON": ({"kind": "garbage"}, UnreadableAnswerError),
    "no JSON": ({"kind": "garbage", "body": ""}, UnreadableAnswerError),
    "not UTF-8": ({"kind": "garbage", "body": '"\x00"'}, UnreadableAnswerError),
    "a list": ({"kind": "garbage", "body": "[]"}, UnreadableAnswerError),
    "no data": ({"kind": "garbage", "body": "{}"}, UnreadableAnswerError),
    "data a list": ({"kind": "garbage", "body": '{"data": []}'}, UnreadableAnswerError),
    "errors an object": ({"kind": "garbage", "body": '{"data": null, "errors": {}}'}, UnreadableAnswerError),
    "errors of nothing": ({"kind": "garbage", "body": '{"data": null, "errors": [null, 5, {}]}'}, GraphQLError),
    "deep JSON": ({"kind": "garbage", "body": "[" * 100_000 + "]" * 100_000}, UnreadableAnswerError),
    "NaN": ({"kind": "garbage", "body": '{"data": {"activitySummary": NaN}}'}, UnreadableAnswerError),
    "a huge number": ({"kind": "garbage", "body": '{"data": ' + "9" * 5000 + "}"}, UnreadableAnswerError),
    "huge body": ({"kind": "huge_body", "size_bytes": MAX_ANSWER_BYTES + 1}, UnreadableAnswerError),
    "too slow": ({"kind": "delay", "seconds": 0.5}, TimedOutError),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_read_fails(any_house: House, name: str) -> None:
    effect, expected = FAILURES[name]
    client = any_house.client(request_timeout_seconds=DEADLINE_SECONDS if name == "too slow" else 5)
    any_house.arm("ActivitySummary", effect)
    with pytest.raises(SequenceError) as caught:
        await client.activity_summary()
    assert type(caught.value) is expected
    check_message(caught.value)
    assert len(any_house.requests()) == 1
    await client.activity_summary()  # and is over


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", FAILURES)
async def test_transfer_fails(any_house: House, name: str, when: str) -> None:
    effect, expected = FAILURES[name]
    order = order_of()
    client = any_house.client(request_timeout_seconds=DEADLINE_SECONDS if name == "too slow" else 5)
    any_house.arm("CreatePayment", effect, when=when)
    with pytest.raises(SequenceError) as caught:
        await transfer(client, order)
    assert type(caught.value) is expected
    assert not caught.value.nothing_moved
    check_message(caught.value)
    assert len(any_house.requests("CreatePayment")) == 1
    runs = when == "after" or effect["kind"] == "huge_body"
    if effect["kind"] not in {"delay", "huge_body"}:
        assert len(await any_house.moved()) == runs


@pytest.mark.parametrize(("status", "expected", "requests"), [(401, NotAuthorizedError, 2), (429, RateLimitedError, 1)])
async def test_transfer_that_certainly_did_nothing(
    any_house: House, status: int, expected: type[SequenceError], requests: int
) -> None:
    client = any_house.client(access_token=None)
    any_house.write_cache()
    order = order_of()
    any_house.arm("CreatePayment", {"kind": "status", "status": status, "headers": {"Retry-After": "7"}}, count=2)
    with pytest.raises(expected) as caught:
        await transfer(client, order)
    assert caught.value.nothing_moved
    assert caught.value.retry_after_seconds == (7 if status == 429 else None)
    assert len(any_house.requests("CreatePayment")) == requests
    assert await any_house.moved() == []


async def test_refused_in_sequences_words(any_house: House) -> None:
    client = any_house.client()
    order = order_of()
    any_house.arm("CreatePayment", {"kind": "refuse", "message": "Account 000123456789\nhas no funds"})
    with pytest.raises(RefusedError, match="Account ••••6789 has no funds") as caught:
        await transfer(client, order)
    assert caught.value.nothing_moved
    assert await any_house.moved() == []


async def test_401_renews_the_token_and_sends_again(any_house: House) -> None:
    any_house.write_cache()
    client = any_house.client(access_token=None)
    order = order_of()
    any_house.arm("*", {"kind": "status", "status": 401})
    await client.activity_summary()
    assert len(any_house.requests("ActivitySummary")) == 2
    any_house.arm("CreatePayment", {"kind": "status", "status": 401})
    await transfer(client, order)
    assert len(any_house.requests("CreatePayment")) == 2
    assert len(await any_house.moved()) == 1
    assert len(any_house.requests("oauth/token")) == 2


async def test_after_a_long_sign_in_a_transfer_is_not_sent_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not executed is what is not there twice the deadline after the announcement: by then, nothing may be sent."""
    house.write_cache()
    client = house.client(access_token=None)
    order = order_of()
    house.arm("CreatePayment", {"kind": "status", "status": 401})
    slow = TIMEOUT_SECONDS + 1  # is what a new token takes
    monkeypatch.setattr(graphql, "steady_seconds", lambda: time.monotonic() + slow * len(house.requests("oauth/token")))
    with pytest.raises(NotAuthorizedError, match="too long") as caught:
        await transfer(client, order)
    assert caught.value.nothing_moved
    assert len(house.requests("CreatePayment")) == 1
    await transfer(client, order)
    assert len(house.requests("oauth/token")) == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"data": {"forKYC": {"createPayment": {"ok": {}, "error": null}}}}', None),
        ('{"data": {"forKYC": {"createPayment": {"ok": {"organization": 5}, "error": null}}}}', None),
        ('{"data": {"forKYC": {"createPayment": {"ok": {"organization": {"id": 7}}}}}}', None),
        ('{"data": {"forKYC": {"createPayment": {"ok": {}}}}, "errors": [{"message": "x"}]}', None),
        ('{"data": {"forKYC": {"createPayment": {"ok": null, "error": {"message": "no"}}}}}', RefusedError),
        ('{"data": {"forKYC": {"createPayment": {"ok": null, "error": {}}}}}', RefusedError),
        ('{"data": {"forKYC": {"createPayment": {"ok": null, "error": "no"}}}}', UnreadableAnswerError),
        ('{"data": {"forKYC": {"createPayment": {"error": {"message": "no"}}}}}', UnreadableAnswerError),
        ('{"data": {"forKYC": {"createPayment": {"ok": {}, "error": {"message": "no"}}}}}', UnreadableAnswerError),
        ('{"data": {"forKYC": {"createPayment": {"ok": true, "error": null}}}}', UnreadableAnswerError),
        ('{"data": {"forKYC": {"createPayment": {"ok": null, "error": null}}}}', UnreadableAnswerError),
        ('{"data": {"forKYC": {"createPayment": null}}}', UnreadableAnswerError),
        ('{"data": {"forKYC": []}}', UnreadableAnswerError),
        ('{"data": null}', UnreadableAnswerError),
        (
            '{"data": {"forKYC": {"createPayment": {"ok": null, "error": {"message": "no"}}}}, "errors": [{}]}',
            GraphQLError,
        ),
    ],
)
async def test_what_counts_as_taken_and_as_refused(
    house: House, body: str, expected: type[SequenceError] | None
) -> None:
    client = house.client()
    order = order_of()
    house.arm("CreatePayment", {"kind": "garbage", "body": body})
    if expected is None:
        receipt = await transfer(client, order)
        assert (receipt.organization_id, receipt.transfers) == (None, ())
    else:
        with pytest.raises(SequenceError) as caught:
            await transfer(client, order)
        assert type(caught.value) is expected


async def test_ok_stays_ok_beside_errors(house: House) -> None:
    client = house.client()
    order = order_of()
    house.arm("CreatePayment", {"kind": "graphql_error", "keep_data": True}, when="after")
    receipt = await transfer(client, order)
    newest = max(receipt.transfers, key=lambda one: str(one.created_at))
    assert [newest.id] == [one["id"] for one in await house.moved()]
    house.arm("CreatePayment", "hide_new_transfer")
    receipt = await transfer(client, order)
    assert receipt.organization_id == ORGANIZATION_ID
    assert (await house.moved())[-1]["id"] not in {one.id for one in receipt.transfers}


async def test_a_cancelled_transfer_moves_what_it_had_sent(any_house: House) -> None:
    client = any_house.client()
    order = order_of()
    any_house.arm("CreatePayment", {"kind": "delay", "seconds": 0.2})
    async with anyio.create_task_group() as tasks:

        async def send() -> None:
            await transfer(client, order)
            raise AssertionError("it was cancelled")

        tasks.start_soon(send)
        with anyio.fail_after(5):
            while not any_house.requests("CreatePayment"):  # noqa: ASYNC110 - the journal has no event
                await anyio.sleep(0.005)
        tasks.cancel_scope.cancel()
    with anyio.fail_after(5):
        while not await any_house.moved():  # noqa: ASYNC110 - nor has the ledger
            await anyio.sleep(0.01)


async def test_secrets_stay_secret(
    any_house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = any_house.sandbox.issue_tokens()
    client = any_house.client(access_token=tokens.access_token)
    echo = f"Token {tokens.access_token} is bad; Authorization: Bearer abc.def-123; card 4111 1111 1111 1234"
    any_house.arm("ActivitySummary", {"kind": "graphql_error", "message": echo})
    with pytest.raises(GraphQLError) as caught:
        await client.activity_summary()
    text = f"{caught.value} {caught.value!r} {client!r} {caplog.text}"
    for secret in (tokens.access_token, "abc.def-123", "4111"):
        assert secret not in text
    assert "1234" in str(caught.value)
    assert "ActivitySummary: HTTP 200 in" in caplog.text


async def test_use_after_closing_is_never_sent(any_house: House) -> None:
    client = any_house.client()
    await client.aclose()
    with pytest.raises(NotSentError):
        await client.activity_summary()


def check_message(error: SequenceError) -> None:
    text = str(error)
    assert "\n" not in text
    assert "<" not in text
    assert len(text) < 400
