"""Faults that come after ``createPayment`` succeeds: failed and returned transfers, fees, and a late activity."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.sandbox import ORGANIZATION_ID, Sandbox, SandboxFileError
from pysequence_api.sandbox.ledger import open_ledger
from tests.sandbox.caller import Caller
from tests.sandbox.conftest import START_SECONDS, FakeClock, in_process
from tests.sandbox.platform_caller import PlatformCaller
from tests.sandbox.published import POD_DRAWER_CONTENT, TRANSFER_REFERENCE_DETAIL
from tests.sandbox.test_graphql import CREATE_AND_LOOK

pytestmark = pytest.mark.anyio
FULL_CENTS = 12_345


async def pay_with(caller: Caller, *what: Any, **more: Any) -> None:
    await caller.arm(operation="CreatePayment", what=what)
    assert (await caller.pay(**more))["ok"]


async def details(caller: Caller, transfer_id: str) -> Any:
    data = await caller.data(
        "TransferReferenceDrawerContentV2", TRANSFER_REFERENCE_DETAIL, organizationId=ORGANIZATION_ID, id=transfer_id
    )
    return data["organization"]["transferReference"]["details"]


def changes(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - cents for name, cents in before.items() if after[name] != cents}


@pytest.mark.parametrize("seconds", [1, 5, 60])
async def test_a_transfer_can_fail_later(caller: Caller, clock: FakeClock, seconds: int) -> None:
    before = await caller.balances()
    await pay_with(caller, {"kind": "fail_after_seconds", "seconds": seconds, "reason": "NO_ACCOUNT"})
    clock.now = START_SECONDS + seconds - 0.1
    (node,) = await caller.nodes(name="Rent", statuses=["PENDING" if seconds == 1 else "PROCESSING"])
    assert node["errorReason"] is None
    assert changes(before, await caller.balances()) == {"Emergency Fund": -FULL_CENTS, "Rent": FULL_CENTS}
    assert (await caller.moved())[0]["status"] == node["status"]
    clock.now = START_SECONDS + seconds
    failed = (await caller.nodes(name="Rent", statuses=["FAILED"]))[0]
    assert (failed["id"], failed["errorReason"]) == (node["id"], "NO_ACCOUNT")
    assert failed["updatedAt"] == f"2026-01-01T00:{seconds // 60:02d}:{seconds % 60:02d}.000Z"
    assert await caller.balances() == before
    (moved,) = await caller.moved()
    assert (moved["status"], moved["amount_cents"]) == ("FAILED", FULL_CENTS)


async def test_a_failed_transfer_to_an_account_shows_a_reversal(caller: Caller, clock: FakeClock) -> None:
    more = {"destination": "Everyday Checking", "destination_type": "ACCOUNT"}
    await pay_with(caller, {"kind": "fail_after_seconds", "seconds": 5}, **more)
    (moved,) = await caller.moved()
    assert (await details(caller, moved["id"]))["reversalPaymentStatus"] is None
    clock.now += 5
    shown = await details(caller, moved["id"])
    assert shown["pushPaymentStatus"]["status"] == "FAILED"
    assert shown["reversalPaymentStatus"]["status"] == "COMPLETE"


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
async def test_a_transfer_can_be_returned_after_it_was_complete(caller: Caller, clock: FakeClock, status: str) -> None:
    before = await caller.balances()
    await pay_with(caller, {"kind": "return_after_seconds", "seconds": 30, "status": status})
    (moved,) = await caller.moved()
    clock.now = START_SECONDS + 39.9
    assert (await caller.moved())[0]["status"] == "COMPLETE"
    shown = await details(caller, moved["id"])
    assert shown["pushPaymentStatus"]["completedAt"] == "2026-01-01T00:00:10.000Z"
    assert shown["reversalPaymentStatus"] is None
    clock.now = START_SECONDS + 40
    assert (await caller.moved())[0]["status"] == status
    node = (await caller.nodes(name="Rent"))[0]
    assert (node["id"], node["status"], node["errorReason"]) == (moved["id"], status, "RETURNED_BY_BANK")
    shown = await details(caller, moved["id"])
    for payment in ("pullPaymentStatus", "pushPaymentStatus"):
        assert (shown[payment]["status"], shown[payment]["completedAt"]) == ("COMPLETE", "2026-01-01T00:00:10.000Z")
    reversal = shown["reversalPaymentStatus"]
    assert (reversal["status"], reversal["completedAt"]) == ("COMPLETE", "2026-01-01T00:00:40.000Z")
    assert await caller.balances() == before


async def test_money_that_goes_back_can_be_spent_again(caller: Caller, clock: FakeClock, tmp_path: Path) -> None:
    with open_ledger(tmp_path / "sandbox.db", clock) as ledger:
        before = ledger.all_balances_cents()
    everything = before[caller.ids["Groceries"]]
    await caller.arm(operation="CreatePayment", what={"kind": "fail_after_seconds", "seconds": 60})
    assert (await caller.pay("Groceries", "Empty Envelope", amount=everything))["ok"]
    assert (await caller.pay("Empty Envelope", "Rent", amount=everything))["ok"]
    assert (await caller.pay("Groceries", "Rent", amount=1))["error"]
    clock.now += 60
    assert (await caller.pay("Groceries", "Rent", amount=everything))["ok"]
    assert (await caller.balances())["Empty Envelope"] == -everything
    assert (await caller.pay("Empty Envelope", "Rent", amount=1))["error"]
    with open_ledger(tmp_path / "sandbox.db", clock) as ledger:
        assert sum(ledger.all_balances_cents().values()) == sum(before.values())


async def test_a_fee_makes_the_amount_smaller(caller: Caller) -> None:
    before = await caller.balances()
    await caller.arm(operation="CreatePayment", what={"kind": "fee_cents", "cents": 45})
    data = await caller.data("CreatePayment", CREATE_AND_LOOK, **caller.payment())
    edges = data["forKYC"]["createPayment"]["ok"]["organization"]["transferReferences"]["edges"]
    assert edges[0]["node"]["amount"]["cents"] == FULL_CENTS - 45
    assert (await caller.nodes())[0]["amount"]["cents"] == FULL_CENTS - 45
    assert changes(before, await caller.balances()) == {"Emergency Fund": -FULL_CENTS, "Rent": FULL_CENTS - 45}
    assert (await caller.moved())[0]["amount_cents"] == FULL_CENTS


async def test_at_least_one_cent_arrives(caller: Caller) -> None:
    for amount_cents, arriving_cents in ((1, 1), (2, 1), (1_000, 1), (1_001, 1), (1_002, 2)):
        await pay_with(caller, {"kind": "fee_cents", "cents": 1_000}, amount=amount_cents)
        assert (await caller.nodes())[0]["amount"]["cents"] == arriving_cents


async def test_a_fee_is_not_returned(caller: Caller, clock: FakeClock) -> None:
    before = await caller.balances()
    await pay_with(caller, {"kind": "fee_cents", "cents": 45}, {"kind": "fail_after_seconds", "seconds": 5})
    clock.now += 5
    assert changes(before, await caller.balances()) == {"Emergency Fund": -45}


async def test_the_activity_can_be_late(caller: Caller, clock: FakeClock) -> None:
    lag = {"kind": "activity_lag_seconds", "seconds": 60}
    history = await caller.nodes()
    for operation in ("ActivityLogV2Transfers", "TransferReferenceDrawerContentV2", "PodDrawerContent"):
        await caller.arm(operation=operation, count=100, what=lag)
    await caller.pay()
    clock.now += 30
    await caller.pay()
    older, newer = await caller.moved()
    pod = {"organizationId": ORGANIZATION_ID, "id": caller.ids["Rent"]}
    for seconds, expected in ((59, []), (60, [older["id"]]), (89, [older["id"]]), (90, [newer["id"], older["id"]])):
        clock.now = START_SECONDS + seconds
        shown = [node["id"] for node in await caller.nodes()]
        assert shown[: len(expected)] == expected
        assert shown[len(expected)] == history[0]["id"]
        data = await caller.data("PodDrawerContent", POD_DRAWER_CONTENT, **pod)
        recent = [edge["node"]["id"] for edge in data["organization"]["pod"]["transferReferences"]["edges"]]
        assert [one for one in recent if one in {older["id"], newer["id"]}] == expected
    await caller.client.delete("/sandbox/faults")
    await caller.pay()
    assert (await caller.nodes())[0]["id"] == (await caller.moved())[-1]["id"]


async def test_the_response_of_the_mutation_can_be_late(caller: Caller) -> None:
    await caller.arm(operation="CreatePayment", what={"kind": "activity_lag_seconds", "seconds": 5})
    data = await caller.data("CreatePayment", CREATE_AND_LOOK, **caller.payment())
    (moved,) = await caller.moved()
    edges = data["forKYC"]["createPayment"]["ok"]["organization"]["transferReferences"]["edges"]
    assert moved["id"] not in {edge["node"]["id"] for edge in edges}
    assert (await caller.nodes())[0]["id"] == moved["id"]


async def test_later_faults_survive_a_restart(caller: Caller, clock: FakeClock, tmp_path: Path) -> None:
    before = await caller.balances()
    await pay_with(caller, {"kind": "return_after_seconds", "seconds": 5})
    clock.now += 15
    again = Sandbox(tmp_path / "sandbox.db", clock=clock)
    async with in_process(again) as client:
        other = Caller.signed_in(client, again)
        assert await other.balances() == before
        assert (await other.moved())[0]["status"] == "FAILED"


def set_back(path: Path, version: int) -> None:
    """Turn a file into one of an earlier version."""
    later = {
        2: ("is_simulation", "moves_money", "starts_processing", "readable_from_ms"),
        1: ("fee_cents", "reverses_at_ms", "reversed_status", "completes"),
    }
    connection = sqlite3.connect(path)
    for table in ("platform_key", "platform_answer"):
        connection.execute(f"DROP TABLE {table}")
    if version == 1:
        connection.execute("DROP INDEX transfer_reversal")
    for column in (name for number, names in later.items() if number >= version for name in names):
        connection.execute(f"ALTER TABLE transfer DROP COLUMN {column}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


@pytest.mark.parametrize("version", [1, 2])
async def test_a_file_of_an_earlier_version_is_upgraded(
    caller: Caller, clock: FakeClock, tmp_path: Path, version: int
) -> None:
    await caller.pay()
    moved = await caller.moved()
    path = tmp_path / "sandbox.db"
    set_back(path, version)
    for _ in range(2):
        Sandbox(path, clock=clock)
        assert await caller.moved() == moved
    await pay_with(caller, {"kind": "fail_after_seconds", "seconds": 0})
    platform = PlatformCaller(caller.client)
    await platform.transfer()
    assert [one["status"] for one in await caller.moved()] == ["PENDING", "FAILED", "PROCESSING"]


async def test_a_file_of_a_newer_version_is_not_changed(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "sandbox.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SandboxFileError):
        Sandbox(path)
