"""Creating a transfer: what is sent, every error and whether it is certain, and what is refused before."""

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pysequence_api.errors import (
    ConnectionLostError,
    InProgressError,
    InvalidRequestError,
    KeyMismatchError,
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
from pysequence_api.models import AccountType
from pysequence_api.sandbox import KYC_ID, KeyPermissions, ManualTransfer
from pysequence_api.sequence.client import Upstream
from tests.sequence.platform_world import (
    CREATE,
    ORGANIZATION,
    UNLIMITED,
    PlatformWorld,
    account_id,
    create,
    platform_order,
    pod_id,
)
from tests.world import DESTINATION, SOURCE

pytestmark = pytest.mark.anyio
ATTEMPT = "0b51f1b5-5f3c-4a9e-9a3c-7d7e0f1a2b3c"


def error(status: int, code: str, **headers: str) -> dict[str, Any]:
    """Return a fault that answers with an error in its envelope."""
    return {"kind": "status", "status": status, "code": code, "message": "because", "headers": headers}


async def test_what_is_sent(platform: PlatformWorld) -> None:
    client = platform.client()
    order = platform_order(2_500, description="Rent 11")
    prepared = await client.prepare_transfer(order, attempt_id=ATTEMPT, caller="default")
    assert platform.requests() == []
    receipt = await prepared.send()
    [entry] = platform.requests()
    assert entry.operation == CREATE
    assert entry.variables == {
        "sourceAccountId": pod_id(SOURCE),
        "destinationAccountId": pod_id(DESTINATION),
        "amountInCents": 2_500,
        "description": "Rent 11",
        "simulation": False,
    }
    assert entry.headers["idempotency-key"] == ATTEMPT
    assert entry.headers["connection"] == "close"
    assert ATTEMPT in entry.headers["x-called-reason"]
    assert "default" in entry.headers["x-called-reason"]
    transfer = receipt.transfer
    assert transfer is not None
    assert receipt.organization_id == ORGANIZATION
    assert (transfer.source.id, transfer.destination.id, transfer.amount_cents) == (
        order.source_id,
        order.destination_id,
        2_500,
    )
    assert (transfer.status, transfer.upstream_status) == ("PROCESSING", "PROCESSING")
    assert (transfer.activity_type, transfer.upstream_activity_type) == ("ONE_TIME_TRANSFER", "USER")
    [moved] = await platform.moved()
    assert moved["id"] == transfer.id


async def test_the_same_attempt_moves_once(platform: PlatformWorld) -> None:
    client, order = platform.client(), platform_order()
    first = await create(client, order, attempt_id=ATTEMPT)
    again = await create(client, order, attempt_id=ATTEMPT)
    assert first.transfer is not None
    assert again.transfer is not None
    assert first.transfer.id == again.transfer.id
    assert len(await platform.moved()) == 1


async def test_capabilities(platform: PlatformWorld) -> None:
    capabilities = platform.client().capabilities
    assert capabilities.upstream is Upstream.PLATFORM
    assert (capabilities.resend, capabilities.kyc, capabilities.sign_in) == (True, False, False)


async def test_the_check_comes_right_before_the_first_byte(platform: PlatformWorld) -> None:
    client = platform.client()
    prepared = await client.prepare_transfer(platform_order(), attempt_id="a", caller="default")

    async def refuse() -> None:
        assert platform.requests() == []
        raise InvalidRequestError("frozen meanwhile")

    with pytest.raises(InvalidRequestError, match="frozen meanwhile"):
        await prepared.send(refuse)
    assert platform.requests() == []
    checked: list[bool] = []

    async def agree() -> None:
        checked.append(True)

    assert (await prepared.send(agree)).transfer is not None
    assert checked == [True]


ERRORS: list[tuple[Any, type[SequenceError], bool]] = [
    (error(400, "INVALID_PARAMETERS"), RefusedError, True),
    (error(400, "TRANSFER_SOURCE_NOT_FOUND"), RefusedError, True),
    (error(400, "TRANSFER_DESTINATION_NOT_FOUND"), RefusedError, True),
    (error(400, "IDEMPOTENCY_KEY_MISMATCH"), KeyMismatchError, False),
    (error(400, "SOMETHING_NEW"), UnexpectedStatusError, False),
    (error(400, "ACCESS_DENIED"), UnexpectedStatusError, False),
    ({"kind": "status", "status": 400, "body": "Bad Request"}, UnexpectedStatusError, False),
    (
        {"kind": "status", "status": 400, "body": {"data": {"id": "x"}, "error": {"code": "INVALID_PARAMETERS"}}},
        UnexpectedStatusError,
        False,
    ),
    (error(401, "UNAUTHORIZED"), NotAuthorizedError, True),
    (error(403, "ACCESS_DENIED"), RefusedError, True),
    (error(403, "MAXIMUM_AMOUNT_EXCEEDED"), RefusedError, True),
    (error(403, "RULE_DEACTIVATED"), UnexpectedStatusError, False),
    ({"kind": "status", "status": 403, "body": "Forbidden"}, UnexpectedStatusError, False),
    (error(404, "ACCOUNT_NOT_FOUND"), RefusedError, True),
    ({"kind": "status", "status": 404, "body": "Not Found"}, RefusedError, True),
    (
        {"kind": "status", "status": 404, "body": "<!doctype html><html>"},
        UnexpectedStatusError,
        False,
    ),
    (error(409, "TRANSFER_IN_PROGRESS"), InProgressError, False),
    (error(429, "RATE_LIMIT_EXCEEDED"), RateLimitedError, True),
    (error(500, "UNEXPECTED_ERROR"), UnexpectedStatusError, False),
    (error(502, "INVALID_PARAMETERS"), UnexpectedStatusError, False),
    ({"kind": "redirect"}, MovedError, False),
    ("html", UnexpectedStatusError, False),
    ({"kind": "garbage", "body": "<html>"}, UnreadableAnswerError, False),
    ("half_body", ConnectionLostError, False),
    ({"kind": "garbage", "body": "{}"}, UnreadableAnswerError, False),
    ({"kind": "garbage", "body": '{"data": {"id": "x"}}'}, UnreadableAnswerError, False),
    ({"kind": "garbage", "body": '{"data": []}'}, UnreadableAnswerError, False),
    ("close", ConnectionLostError, False),
]


async def test_every_error(platform: PlatformWorld) -> None:
    client = platform.client()
    for fault, expected, certain in ERRORS:
        platform.sandbox.journal.clear()
        platform.fail(fault)
        with pytest.raises(SequenceError) as caught:
            await create(client)
        assert type(caught.value) is expected, fault
        assert caught.value.nothing_moved is certain, fault
        assert len(platform.requests()) == 1, fault
        code = fault.get("code") if isinstance(fault, dict) else None
        if expected is RefusedError and code:
            assert code in str(caught.value)


async def test_a_late_answer_is_not_certain(platform: PlatformWorld) -> None:
    client = platform.client(request_timeout_seconds=0.3)
    platform.fail({"kind": "delay", "seconds": 1}, when="after")
    with pytest.raises(TimedOutError) as caught:
        await create(client)
    assert not caught.value.nothing_moved
    await anyio.lowlevel.checkpoint()
    assert len(await platform.moved()) == 1


async def test_a_connection_never_made_is_certain(platform: PlatformWorld) -> None:
    client = platform.client(platform_url="http://127.0.0.1:9/platform/v1")
    with pytest.raises(NotSentError) as caught:
        await create(client)
    assert caught.value.nothing_moved


async def test_an_answer_about_another_amount_is_not_certain(platform: PlatformWorld) -> None:
    platform.fail({"kind": "fee_cents", "cents": 25})
    with pytest.raises(UnreadableAnswerError) as caught:
        await create(platform.client())
    assert not caught.value.nothing_moved


async def test_a_key_cannot_be_renewed(platform: PlatformWorld) -> None:
    client = platform.client()
    prepared = await client.prepare_transfer(platform_order(), attempt_id="a", caller="default")
    with pytest.raises(NotAuthorizedError) as caught:
        await prepared.renew()
    assert "new key" in caught.value.advice
    assert platform.requests() == []


async def test_a_wrong_key_says_what_to_do_and_is_never_shown(
    platform: PlatformWorld, caplog: pytest.LogCaptureFixture
) -> None:
    key = "sk_this-is-a-wrong-key"
    client = platform.client(platform_key=key)
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", logger="pysequence_api")  # the command line changes it
    for attempt in (create(client), client.accounts(), client.transfer_detail(ORGANIZATION, "x")):
        with pytest.raises(NotAuthorizedError) as caught:
            await attempt
        assert "SEQUENCE_PLATFORM_KEY" in caught.value.advice
        assert key not in caught.value.detail
    assert key not in caplog.text
    assert all(key not in repr(entry) for entry in platform.requests())


async def test_a_key_that_is_echoed_is_removed(platform: PlatformWorld) -> None:
    key = platform.settings.platform_key
    assert key is not None
    message = f"bad key {key.get_secret_value()}"
    platform.fail({"kind": "status", "status": 400, "code": "INVALID_PARAMETERS", "message": message})
    with pytest.raises(RefusedError) as caught:
        await create(platform.client())
    assert key.get_secret_value() not in str(caught.value)


async def test_retry_after_holds_back_the_next_request(platform: PlatformWorld) -> None:
    client = platform.client()
    platform.fail(error(429, "RATE_LIMIT_EXCEEDED", **{"Retry-After": "1"}))
    with pytest.raises(RateLimitedError) as caught:
        await create(client)
    assert caught.value.retry_after_seconds == 1
    await create(platform.client())  # as another process
    first, second = platform.requests()
    assert first.answered_monotonic_seconds is not None
    assert second.arrived_monotonic_seconds - first.answered_monotonic_seconds >= 0.9


UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"instant": True}, "instant"),
    ({"kyc_id": KYC_ID}, "kyc_id"),
    ({"description": "12345678901"}, "description"),
    ({"description": "Rent-11"}, "description"),
    ({"description": "Miete für"}, "description"),
    ({"description": "a\n"}, "description"),
    ({"amount_cents": 99}, "100 cents"),
]


async def test_what_it_cannot_do_is_refused(platform: PlatformWorld) -> None:
    client = platform.client()
    for more, word in UNSUPPORTED:
        with pytest.raises(InvalidRequestError, match=word):
            client.check_order(platform_order(**more))
    client.check_order(platform_order(100, description="Rent 2026x"))
    assert platform.requests() == []


async def test_the_permissions_of_a_key(platform: PlatformWorld) -> None:
    allowed = ManualTransfer(source=pod_id(SOURCE), target=pod_id(DESTINATION), max_amount=5_000)
    client = platform.client(KeyPermissions(manual_transfers=(allowed,), requests_per_minute=UNLIMITED))
    assert (await create(client, platform_order(5_000))).transfer is not None
    with pytest.raises(RefusedError, match="MAXIMUM_AMOUNT_EXCEEDED"):
        await create(client, platform_order(5_001))
    elsewhere = platform_order(
        1_000, destination_id=account_id("Everyday Checking"), destination_type=AccountType.ACCOUNT
    )
    with pytest.raises(RefusedError, match="ACCESS_DENIED"):
        await create(client, elsewhere)


async def test_a_running_attempt_is_in_progress(platform: PlatformWorld) -> None:
    client, order = platform.client(), platform_order()
    platform.fail({"kind": "delay", "seconds": 0.5})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: create(client, order, attempt_id="same"))
        while not platform.requests(CREATE):  # noqa: ASYNC110 - the journal has no event
            await anyio.sleep(0.005)
        with pytest.raises(InProgressError):
            await create(client, order, attempt_id="same")
    with pytest.raises(KeyMismatchError):
        await create(client, attempt_id="same")
    assert len(await platform.moved()) == 1
