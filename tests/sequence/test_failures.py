"""Every way a request can fail, and whether money moved: one table, in this process and over TCP."""

import logging
import time
from typing import Any

import anyio
import pytest

from pysequence_api.errors import (
    ConnectionLostError,
    GraphQLError,
    MovedError,
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
from pysequence_api.sequence import transport
from pysequence_api.sequence.graphql import client as graphql
from tests.sequence.conftest import TIMEOUT_SECONDS, ClientWorld, order_of, transfer

pytestmark = pytest.mark.anyio

DEADLINE_SECONDS = 0.4
SMALL_LIMIT_BYTES = 1024**2
"""For answers. What they really are limited to, `test_transport` sends."""
Failure = tuple[dict[str, Any], type[SequenceError]]

FAILURES: dict[str, Failure] = {
    "status 400": ({"kind": "status", "status": 400}, UnexpectedStatusError),
    "status 403": ({"kind": "status", "status": 403}, UnexpectedStatusError),
    "status 500": ({"kind": "status", "status": 500}, UnexpectedStatusError),
    "status 504": ({"kind": "status", "status": 504}, UnexpectedStatusError),
    "HTML with 502": ({"kind": "html"}, UnexpectedStatusError),
    "HTML with 200": ({"kind": "html", "status": 200}, UnreadableAnswerError),
    "redirect": ({"kind": "redirect"}, MovedError),
    "GraphQL error": ({"kind": "graphql_error"}, GraphQLError),
    "closed": ({"kind": "close"}, ConnectionLostError),
    "half a body": ({"kind": "half_body"}, ConnectionLostError),
    "broken JSON": ({"kind": "garbage"}, UnreadableAnswerError),
    "empty body": ({"kind": "garbage", "body": ""}, UnreadableAnswerError),
    "not UTF-8": ({"kind": "garbage", "body": '"\x00"'}, UnreadableAnswerError),
    "a list": ({"kind": "garbage", "body": "[]"}, UnreadableAnswerError),
    "no data": ({"kind": "garbage", "body": "{}"}, UnreadableAnswerError),
    "data a list": ({"kind": "garbage", "body": '{"data": []}'}, UnreadableAnswerError),
    "errors an object": ({"kind": "garbage", "body": '{"data": null, "errors": {}}'}, UnreadableAnswerError),
    "errors of nothing": ({"kind": "garbage", "body": '{"data": null, "errors": [null, 5, {}]}'}, GraphQLError),
    "deep JSON": ({"kind": "garbage", "body": "[" * 100_000 + "]" * 100_000}, UnreadableAnswerError),
    "NaN": ({"kind": "garbage", "body": '{"data": {"activitySummary": NaN}}'}, UnreadableAnswerError),
    "a huge number": ({"kind": "garbage", "body": '{"data": ' + "9" * 5000 + "}"}, UnreadableAnswerError),
    "huge body": ({"kind": "huge_body", "size_bytes": SMALL_LIMIT_BYTES + 1}, UnreadableAnswerError),
    "too slow": ({"kind": "delay", "seconds": 0.5}, TimedOutError),
}


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", SMALL_LIMIT_BYTES)


async def test_read_fails(any_world: ClientWorld) -> None:
    patient, impatient = any_world.client(), any_world.client(request_timeout_seconds=DEADLINE_SECONDS)
    for name, (effect, expected) in FAILURES.items():
        client = impatient if name == "too slow" else patient
        any_world.fail_once(effect, operation="ActivitySummary")
        with pytest.raises(SequenceError) as caught:
            await client.activity_summary()
        assert type(caught.value) is expected, name
        check_message(caught.value)
        assert len(any_world.requests()) == 1, name
        await client.activity_summary()  # the next one works


@pytest.mark.parametrize(
    ("any_world", "when"),
    [("world", "before"), ("tcp_world", "before"), ("tcp_world", "after")],
    indirect=["any_world"],
)
async def test_transfer_fails(any_world: ClientWorld, when: str) -> None:
    patient, impatient = any_world.client(), any_world.client(request_timeout_seconds=DEADLINE_SECONDS)
    for name, (effect, expected) in FAILURES.items():
        client = impatient if name == "too slow" else patient
        before = len(await any_world.moved())
        any_world.fail_once(effect, when=when)
        with pytest.raises(SequenceError) as caught:
            await transfer(client, order_of())
        assert type(caught.value) is expected, name
        assert not caught.value.nothing_moved, name
        check_message(caught.value)
        assert len(any_world.requests("CreatePayment")) == 1, name
        if effect["kind"] not in {"delay", "huge_body"}:  # these run in their own time
            assert len(await any_world.moved()) - before == (when == "after"), name
    assert name == "too slow", "it goes on meanwhile, so it is the last"


@pytest.mark.parametrize(("status", "expected", "requests"), [(401, NotAuthorizedError, 2), (429, RateLimitedError, 1)])
async def test_a_rejected_transfer_moved_nothing(
    any_world: ClientWorld, status: int, expected: type[SequenceError], requests: int
) -> None:
    client = any_world.client(access_token=None)
    any_world.cache_tokens()
    order = order_of()
    any_world.fail({"kind": "status", "status": status, "headers": {"Retry-After": "7"}}, count=2)
    with pytest.raises(expected) as caught:
        await transfer(client, order)
    assert caught.value.nothing_moved
    assert caught.value.retry_after_seconds == (7 if status == 429 else None)
    assert len(any_world.requests("CreatePayment")) == requests
    assert await any_world.moved() == []


async def test_a_refusal_repeats_the_reason_of_sequence(any_world: ClientWorld) -> None:
    client = any_world.client()
    order = order_of()
    any_world.fail({"kind": "refuse", "message": "Account 000123456789\nhas no funds"})
    with pytest.raises(RefusedError, match="Account ••••6789 has no funds") as caught:
        await transfer(client, order)
    assert caught.value.nothing_moved
    assert await any_world.moved() == []


async def test_401_renews_the_token_and_sends_again(any_world: ClientWorld) -> None:
    any_world.cache_tokens()
    client = any_world.client(access_token=None)
    order = order_of()
    any_world.fail({"kind": "status", "status": 401}, operation="*")
    await client.activity_summary()
    assert len(any_world.requests("ActivitySummary")) == 2
    any_world.fail({"kind": "status", "status": 401})
    await transfer(client, order)
    assert len(any_world.requests("CreatePayment")) == 2
    assert len(await any_world.moved()) == 1
    assert len(any_world.requests("oauth/token")) == 2


async def test_a_transfer_is_not_sent_again_after_a_slow_sign_in(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lookup after a crash relies on this: two deadlines after it was announced, a transfer can no longer be sent."""
    world.cache_tokens()
    client = world.client(access_token=None)
    order = order_of()
    world.fail({"kind": "status", "status": 401})
    slow = TIMEOUT_SECONDS + 1  # how long getting a new token takes
    monkeypatch.setattr(graphql, "steady_seconds", lambda: time.monotonic() + slow * len(world.requests("oauth/token")))
    with pytest.raises(NotAuthorizedError) as caught:
        await transfer(client, order)
    assert caught.value.nothing_moved
    assert len(world.requests("CreatePayment")) == 1
    await transfer(client, order)
    assert len(world.requests("oauth/token")) == 1


ANSWERS: list[tuple[str, type[SequenceError] | None]] = [
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
]


async def test_which_answers_are_accepted_or_refused(world: ClientWorld) -> None:
    client = world.client()
    for body, expected in ANSWERS:
        world.fail({"kind": "garbage", "body": body})
        if expected is None:
            receipt = await transfer(client, order_of())
            assert (receipt.organization_id, receipt.transfers) == (None, ()), body
        else:
            with pytest.raises(SequenceError) as caught:
                await transfer(client, order_of())
            assert type(caught.value) is expected, body


async def test_ok_counts_even_with_errors(world: ClientWorld) -> None:
    client = world.client()
    order = order_of()
    world.fail({"kind": "graphql_error", "keep_data": True}, when="after")
    receipt = await transfer(client, order)
    newest = max(receipt.transfers, key=lambda one: str(one.created_at))
    assert [newest.id] == [one["id"] for one in await world.moved()]
    world.fail("hide_new_transfer")
    receipt = await transfer(client, order)
    assert receipt.organization_id == ORGANIZATION_ID
    assert (await world.moved())[-1]["id"] not in {one.id for one in receipt.transfers}


async def test_a_cancelled_transfer_may_still_move_money(any_world: ClientWorld) -> None:
    client = any_world.client()
    order = order_of()
    any_world.fail({"kind": "delay", "seconds": 0.2})
    async with anyio.create_task_group() as tasks:

        async def send() -> None:
            await transfer(client, order)
            raise AssertionError("it should be cancelled")

        tasks.start_soon(send)
        with anyio.fail_after(5):
            while not any_world.requests("CreatePayment"):  # noqa: ASYNC110 - the journal has no event
                await anyio.sleep(0.005)
        tasks.cancel_scope.cancel()
    with anyio.fail_after(5):
        while not await any_world.moved():  # noqa: ASYNC110 - the ledger has no event
            await anyio.sleep(0.01)


async def test_no_secret_is_in_an_error_or_a_log_line(
    any_world: ClientWorld, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="pysequence_api")  # the command line changes it
    tokens = any_world.sandbox.issue_tokens()
    client = any_world.client(access_token=tokens.access_token)
    echo = f"Token {tokens.access_token} is bad; Authorization: Bearer abc.def-123; card 4111 1111 1111 1234"
    any_world.fail({"kind": "graphql_error", "message": echo}, operation="ActivitySummary")
    with pytest.raises(GraphQLError) as caught:
        await client.activity_summary()
    text = f"{caught.value} {caught.value!r} {client!r} {caplog.text}"
    for secret in (tokens.access_token, "abc.def-123", "4111"):
        assert secret not in text
    assert "1234" in str(caught.value)
    assert "ActivitySummary: HTTP 200 in" in caplog.text


async def test_a_closed_client_sends_nothing(any_world: ClientWorld) -> None:
    client = any_world.client()
    await client.aclose()
    with pytest.raises(NotSentError):
        await client.activity_summary()


def check_message(error: SequenceError) -> None:
    text = str(error)
    assert "\n" not in text
    assert "<" not in text
    assert len(text) < 400
