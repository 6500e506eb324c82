"""The Platform API, row by row as docs/upstream-platform.md has it.

Most tests call it in process, which costs a third; `tests.sandbox.test_faults` checks that both are the same.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pysequence_api.sandbox import KYC_ID, PLATFORM_KEY, PLATFORM_PATH, KeyPermissions, Sandbox
from pysequence_api.sandbox.household import ORGANIZATIONS
from pysequence_api.sandbox.ids import ORGANIZATION_ID, SECOND_ORGANIZATION_ID
from pysequence_api.sandbox.platform.errors import PlatformErrorCode
from tests.sandbox.caller import Caller
from tests.sandbox.conftest import START_SECONDS, FakeClock, in_process, over_tcp
from tests.sandbox.platform_caller import PlatformCaller, read_error

pytestmark = pytest.mark.anyio
HOUSEHOLD, STUDIO = ORGANIZATIONS
PAGE = (Path(__file__).parents[2] / "docs" / "upstream-platform.md").read_text()


def fields(start: str, end: str) -> tuple[str, ...]:
    """Return the names of fields in a part of docs/upstream-platform.md."""
    part = PAGE[PAGE.index(start) : PAGE.index(end, PAGE.index(start))]
    spans = re.findall(r"`([a-z]\w*(?: [a-z]\w*)*)`", part)
    return tuple(name for span in spans for name in span.split())


SUMMARY = fields("**Account**", "The\nfull account")
FULL = (*SUMMARY, *fields("full account also has", "balance {"), "balance")
BALANCE = tuple(PAGE[PAGE.index("balance {") + 9 : PAGE.index("}`.\nEach")].split())
TRANSFER = fields("**Transfer**", "The error codes")
CODES = {
    (int(status), code)
    for status, codes in re.findall(r"^\| ([0-9]{3}) \| (.*) \|$", PAGE, re.MULTILINE)
    for code in re.findall(r"`([A-Z_]+)`", codes)
}
DAY_SECONDS = 86_400


@pytest.fixture
async def platform(sandbox: Sandbox) -> AsyncIterator[PlatformCaller]:
    """Return a client in process, with a key that may do everything as often as it wants."""
    async with in_process(sandbox) as client:
        yield PlatformCaller(client, unlimited(sandbox))


@pytest.fixture
async def tcp_platform(sandbox: Sandbox, base_url: str) -> AsyncIterator[PlatformCaller]:
    """Return the same client over TCP."""
    async with over_tcp(base_url) as client:
        yield PlatformCaller(client, unlimited(sandbox))


def unlimited(sandbox: Sandbox) -> str:
    return sandbox.issue_platform_key(KeyPermissions(requests_per_minute=1_000_000))


@pytest.fixture
def graphql(platform: PlatformCaller, sandbox: Sandbox) -> Caller:
    """Return a client of the GraphQL interface of the same sandbox."""
    return Caller.signed_in(platform.client, sandbox)


def iso(seconds: float) -> str:
    """Return a time after the start of the clock as RFC 3339."""
    return f"2026-01-01T00:00:{seconds:06.3f}Z"


# The envelope


async def test_every_answer_has_an_envelope_and_a_new_request_id(platform: PlatformCaller) -> None:
    bodies = [(await platform.send("GET", "/accounts")).json() for _ in range(2)]
    ids = [body["requestId"] for body in bodies]
    assert all(re.fullmatch("req-[0-9]+", one) for one in ids)
    assert len(set(ids)) == 2


async def test_an_unknown_path_or_method_is_404_in_plain_text(tcp_platform: PlatformCaller) -> None:
    for method, path in (
        ("GET", ""),
        ("GET", "/"),
        ("GET", "/nothing"),
        ("GET", "/accounts/"),
        ("GET", "/accounts/a/b"),
        ("POST", "/accounts"),
        ("DELETE", "/transfers/a"),
        ("PUT", "/transfers"),
        ("OPTIONS", "/transfers"),
    ):
        response = await tcp_platform.send(method, path)
        seen = response.status_code, response.headers["content-type"], response.text
        assert seen == (404, "text/plain; charset=utf-8", "Not Found"), (method, path)


async def test_pages_to_the_end(platform: PlatformCaller) -> None:
    seen: list[str] = []
    for page in (1, 2, 3):
        data = await platform.get("/accounts", page=page)
        assert data["pagination"] == {"page": page, "pageSize": 10, "hasNextPage": page < 3}
        seen += [one["id"] for one in data["items"]]
    assert sorted(seen) == sorted(holder.id for holder in HOUSEHOLD.holders)
    past = await platform.get("/accounts", page=4)
    assert past == {"items": [], "pagination": {"page": 4, "pageSize": 10, "hasNextPage": False}}
    everything = await platform.get("/accounts", pageSize=len(seen))
    assert not everything["pagination"]["hasNextPage"]


async def test_pages_of_transfers(platform: PlatformCaller, graphql: Caller) -> None:
    params = {"accountIds[]": list(platform.ids.values()), "pageSize": 100}
    seen, page, more = [], 1, True
    while more:
        data = await platform.get("/transfers", page=page, **params)
        seen += [one["id"] for one in data["items"]]
        page, more = page + 1, data["pagination"]["hasNextPage"]
    shown, after, more = [], "", True
    while more:
        activity = await graphql.activity(after=after)
        shown += [edge["node"]["id"] for edge in activity["edges"]]
        after, more = activity["pageInfo"]["endCursor"], activity["pageInfo"]["hasNextPage"]
    assert seen == shown
    assert len(seen) > 200


async def test_invalid_parameters_of_accounts(platform: PlatformCaller) -> None:
    for query in (
        "page=0",
        "page=x",
        "page=1.5",
        "page=1&page=2",
        "pageSize=0",
        "pageSize=101",
        "pageSize=",
        "type=PODS",
        "state=DELETED",
        "pagesize=5",
    ):
        assert await platform.error("GET", f"/accounts?{query}") == (400, "INVALID_PARAMETERS"), query


# Accounts


async def test_a_list_shows_accounts_without_balances(platform: PlatformCaller) -> None:
    found = await platform.items("/accounts", pageSize=100)
    assert all(tuple(one) == SUMMARY for one in found)
    by_name = {one["name"]: one for one in found}
    assert by_name["Harbor Card Payoff"]["linkedAccount"] == {
        "id": platform.ids["Harbor Rewards Card"],
        "name": "Harbor Rewards Card",
    }
    types = {name: (one["type"], one["externalAccountType"]) for name, one in by_name.items()}
    assert types["Rent"] == ("POD", None)
    assert types["Salary"] == ("INCOME_SOURCE", None)
    assert types["Everyday Checking"] == ("EXTERNAL_ACCOUNT", "DEPOSITORY")
    assert types["Harbor Rewards Card"] == types["Car Loan"] == ("EXTERNAL_ACCOUNT", "LIABILITY")
    ends = {name: (one["canBeSource"], one["canBeDestination"]) for name, one in by_name.items()}
    assert ends["Rent"] == ends["Everyday Checking"] == (True, True)
    assert ends["Landlord"] == (False, True)
    assert ends["Joint Account (pending)"] == (False, False)


async def test_accounts_of_one_type(platform: PlatformCaller) -> None:
    for kind, expected in (
        ("POD", HOUSEHOLD.pods),
        ("INCOME_SOURCE", HOUSEHOLD.ports),
        ("EXTERNAL_ACCOUNT", HOUSEHOLD.accounts),
    ):
        found = await platform.items("/accounts", type=kind, pageSize=100)
        assert [one["name"] for one in found] == [one.name for one in expected]


async def test_one_account_has_numbers_and_a_balance(platform: PlatformCaller) -> None:
    for name, numbers, balance in (
        ("Emergency Fund", ("084106768", "980041700001", 20_000_000), (18_500_000, 18_500_000, None)),
        ("Salary", ("084106768", "980053300001", None), (523_117, 523_117, None)),
        ("Everyday Checking", ("071000013", "000123454821", None), (1_284_033, 1_284_033, None)),
        ("Harbor Rewards Card", (None, None, None), (214_857, None, None)),
        ("Old Credit Union", ("291378046", "7710042", None), (None, None, "DISCONNECTED_ACCOUNT")),
        ("Landlord", ("021000021", "004417730", None), (None, None, None)),
    ):
        account = await platform.get(f"/accounts/{platform.ids[name]}")
        assert tuple(account) == FULL
        assert (account["routingNumber"], account["bankAccountNumber"], account["savingsTargetInCents"]) == numbers
        shown = account["balance"]
        assert tuple(shown) == BALANCE
        assert (shown["balanceInCents"], shown["availableBalanceInCents"], shown["error"]) == balance


async def test_every_account_of_the_list_can_be_read(platform: PlatformCaller) -> None:
    for summary in await platform.items("/accounts", pageSize=100):
        account = await platform.get(f"/accounts/{summary['id']}")
        assert {name: account[name] for name in SUMMARY} == summary
        assert account["balance"] is None or tuple(account["balance"]) == BALANCE
    assert (await platform.get(f"/accounts/{platform.ids['Joint Account (pending)']}"))["balance"] is None


async def test_a_loan_has_its_details_and_banks_report_on_banking_days(
    platform: PlatformCaller, clock: FakeClock
) -> None:
    loan = (await platform.get(f"/accounts/{platform.ids['Car Loan']}"))["balance"]
    assert loan == {
        "balanceInCents": 1_421_900,
        "availableBalanceInCents": None,
        "lastStatementBalanceInCents": 1_452_310,
        "lastStatementDate": "2026-01-02",
        "nextPaymentMinimumInCents": 38_900,
        "nextPaymentDueDate": "2026-02-01",
        "balanceLastUpdatedAt": "2025-12-31T11:00:00.000Z",
        "error": None,
        "interestRatePercentage": 5.4,
        "originalLoanAmountInCents": 2_450_000,
    }
    clock.now += 4 * DAY_SECONDS  # a Monday, at midnight
    checking = (await platform.get(f"/accounts/{platform.ids['Everyday Checking']}"))["balance"]
    assert checking["balanceLastUpdatedAt"] == "2026-01-02T11:00:00.000Z"
    pod = (await platform.get(f"/accounts/{platform.ids['Rent']}"))["balance"]
    assert pod["balanceLastUpdatedAt"] == "2026-01-05T00:00:00.000Z"


async def test_an_unknown_account_is_404(platform: PlatformCaller) -> None:
    for account_id in ("nothing", STUDIO.pods[0].id):
        for path in (f"/accounts/{account_id}", f"/accounts/{account_id}/transfers"):
            assert await platform.error("GET", path) == (404, "ACCOUNT_NOT_FOUND")
        assert await platform.error("GET", f"/transfers?accountIds[]={account_id}") == (404, "ACCOUNT_NOT_FOUND")


# Lists of transfers


async def existing_ids(platform: PlatformCaller) -> dict[str, str]:
    """Return ids of things that exist, to be filled into a path."""
    rule = (await rules(platform))["Salary to Rent"]
    (run, *_) = await platform.items(executions(rule), pageSize=1)
    transfer_id = (await platform.transfer())["id"]
    return {"rent": platform.ids["Rent"], "transfer": transfer_id, "rule": rule["id"], "run": run["id"]}


def sent(platform: PlatformCaller, path: str) -> dict[str, Any]:
    """Return what a POST sends."""
    body = platform.order() if path == "/transfers" else {"simulation": True}
    return {"json": body, "headers": {"idempotency-key": "k"}}


async def all_transfers(platform: PlatformCaller, *names: str, **params: Any) -> list[Any]:
    ids = [platform.ids[name] for name in names or platform.ids]
    return await platform.items("/transfers", **{"accountIds[]": ids, "pageSize": 100, **params})


async def test_a_transfer_has_all_fields(platform: PlatformCaller) -> None:
    found = await all_transfers(platform)
    assert all(tuple(one) == TRANSFER for one in found)
    for one in found:
        for party in (one["source"], one["destination"]):
            assert list(party) == ["id", "name", "type", "isDeleted"]
            assert (party["id"] is None) == (party["type"] == "EXTERNAL_ENTITY")
        assert (one["completedAt"] is not None) == (one["status"] == "COMPLETE")
    assert [one["createdAt"] for one in found] == sorted((one["createdAt"] for one in found), reverse=True)


async def test_filters_divide_the_transfers(platform: PlatformCaller) -> None:
    async def every(**params: Any) -> list[Any]:
        found: list[Any] = []
        while len(found) % 100 == 0:
            page = await all_transfers(platform, page=1 + len(found) // 100, **params)
            if not page:
                break
            found += page
        return found

    everything = await every()
    for name, values in (
        ("direction", ("MONEY_IN", "MONEY_OUT", "INTERNAL")),
        ("status", ("PENDING_APPROVAL", "PROCESSING", "PENDING", "COMPLETE", "INCOMPLETE", "ERROR", "CANCELLED")),
        (
            "origin",
            ("DIRECT_DEPOSIT", "CHECK_DEPOSIT", "CASHBACK", "USER_PULL", "RULE", "USER", "EXTERNAL_PULL", "UNKNOWN"),
        ),
    ):
        by_value = {value: await every(**{name: value}) for value in values}
        for value, found in by_value.items():
            assert found == [one for one in everything if one[name] == value]
        assert sum(map(len, by_value.values())) == len(everything) > 200
        error = await platform.error("GET", f"/accounts/{platform.ids['Rent']}/transfers?{name}=OTHER")
        assert error == (400, "INVALID_PARAMETERS")


async def test_filters_together(platform: PlatformCaller) -> None:
    assert await all_transfers(platform, origin="EXTERNAL_PULL", direction="MONEY_IN") == []
    found = await all_transfers(platform, origin="RULE", direction="MONEY_OUT", status="COMPLETE")
    assert found
    assert {(one["origin"], one["direction"], one["status"]) for one in found} == {("RULE", "MONEY_OUT", "COMPLETE")}


async def test_the_time_filters_include_both_ends(platform: PlatformCaller, clock: FakeClock) -> None:
    for _ in range(3):
        await platform.transfer()
        clock.now += 1
    for start, end, count in ((0, 2, 3), (1, 1, 1), (1.001, 2, 1), (3, 4, 0)):
        assert len(await all_transfers(platform, **{"from": iso(start), "to": iso(end)})) == count
    assert len(await all_transfers(platform, **{"from": "2026-01-01T01:00:01+01:00"})) == 2
    for wrong in ("2026-01-01", "2026-01-01T00:00:00", "1767225600", "yesterday"):
        rent = platform.ids["Rent"]
        expected = (400, "INVALID_PARAMETERS")
        assert await platform.error("GET", f"/transfers?accountIds[]={rent}", params={"from": wrong}) == expected


async def test_account_ids_are_required(platform: PlatformCaller) -> None:
    for query in ("", "?accountIds=x", "?accountId=x", "?pageSize=5"):
        assert await platform.error("GET", f"/transfers{query}") == (400, "INVALID_PARAMETERS")


async def test_the_accounts_of_a_list_are_either_end(platform: PlatformCaller) -> None:
    rent, landlord = platform.ids["Rent"], platform.ids["Landlord"]
    found = await all_transfers(platform, "Rent", "Landlord")
    assert found
    assert all({one["source"]["id"], one["destination"]["id"]} & {rent, landlord} for one in found)


async def test_the_role_of_an_account(platform: PlatformCaller) -> None:
    rent = platform.ids["Rent"]
    path = f"/accounts/{rent}/transfers"
    either = await platform.items(path, pageSize=100)
    assert either == await platform.items(path, pageSize=100, accountRole="either")
    source = await platform.items(path, pageSize=100, accountRole="source")
    destination = await platform.items(path, pageSize=100, accountRole="destination")
    assert source
    assert destination
    assert source == [one for one in either if one["source"]["id"] == rent]
    assert destination == [one for one in either if one["destination"]["id"] == rent]
    assert len(source) + len(destination) == len(either)
    assert await platform.error("GET", f"{path}?accountRole=both") == (400, "INVALID_PARAMETERS")
    assert (await platform.error("GET", f"/transfers?accountIds[]={rent}&accountRole=source"))[0] == 400


async def test_an_unknown_transfer_is_404(platform: PlatformCaller, graphql: Caller) -> None:
    assert await platform.error("GET", "/transfers/nothing") == (404, "TRANSFER_NOT_FOUND")
    studio = await platform.with_key(organization_id=SECOND_ORGANIZATION_ID)
    (one, *_) = await studio.items(f"/accounts/{STUDIO.pods[0].id}/transfers")
    assert (await studio.get(f"/transfers/{one['id']}")) == one
    assert await platform.error("GET", f"/transfers/{one['id']}") == (404, "TRANSFER_NOT_FOUND")


# A transfer


async def test_a_transfer_moves_money(platform: PlatformCaller, clock: FakeClock) -> None:
    before = await platform.balance("Emergency Fund"), await platform.balance("Rent")
    made = await platform.transfer(description="Rent Jan 1")
    assert tuple(made) == TRANSFER
    expected = {
        "amountInCents": 12_345,
        "direction": "INTERNAL",
        "origin": "USER",
        "status": "PROCESSING",
        "executionMode": "LIVE",
        "ruleId": None,
        "ruleExecutionId": None,
        "errorCode": None,
        "createdAt": iso(0),
        "completedAt": None,
    }
    assert {name: made[name] for name in expected} == expected
    assert made["source"] == {
        "id": platform.ids["Emergency Fund"],
        "name": "Emergency Fund",
        "type": "POD",
        "isDeleted": False,
    }
    assert (await platform.balance("Emergency Fund"), await platform.balance("Rent")) == (
        before[0] - 12_345,
        before[1] + 12_345,
    )
    assert await platform.get(f"/transfers/{made['id']}") == made
    assert (await all_transfers(platform))[0] == made
    clock.now += 10
    done = await platform.get(f"/transfers/{made['id']}")
    assert done == {**made, "status": "COMPLETE", "completedAt": iso(10)}
    assert [one["id"] for one in await platform.moved()] == [made["id"]]


async def test_a_body_that_is_not_valid(platform: PlatformCaller) -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"amountInCents": 99},
        {"amountInCents": 0},
        {"amountInCents": -100},
        {"amountInCents": "12345"},
        {"amountInCents": 100.5},
        {"amountInCents": None},
        {"description": "12345678901"},
        {"description": "a-b"},
        {"description": "é"},
        {"description": "line\n"},
        {"description": 5},
        {"simulation": "true"},
        {"sourceAccountId": ""},
        {"sourceAccountId": 5},
        {"isInstantTransfer": True},
        {"kycId": KYC_ID},
    )
    for change in changes:
        assert await platform.refusal(**change) == (400, "INVALID_PARAMETERS"), change
    for content in (b"", b"{", b"[]", b"null", b'"text"', b"\xff", b"[" * 5000):
        error = await platform.error("POST", "/transfers", content=content, headers={"idempotency-key": "k"})
        assert error == (400, "INVALID_PARAMETERS"), content
    assert await platform.moved() == []


async def test_the_least_that_can_be_sent(platform: PlatformCaller) -> None:
    for more in ({"amountInCents": 100}, {"description": "A1 b2 C3 d"}, {"description": None}, {"simulation": False}):
        await platform.transfer(**more)


async def test_accounts_between_which_nothing_can_move(platform: PlatformCaller) -> None:
    for parties, expected in (
        (("nothing", "Rent"), "TRANSFER_SOURCE_NOT_FOUND"),
        (("Rent", "nothing"), "TRANSFER_DESTINATION_NOT_FOUND"),
        ((STUDIO.pods[0].id, "Rent"), "TRANSFER_SOURCE_NOT_FOUND"),
        (("Rent", STUDIO.pods[0].id), "TRANSFER_DESTINATION_NOT_FOUND"),
        (("Rent", "Rent"), "INVALID_PARAMETERS"),
        (("Landlord", "Rent"), "INVALID_PARAMETERS"),
        (("Rent", "Joint Account (pending)"), "INVALID_PARAMETERS"),
        (("Everyday Checking", "High-Yield Savings"), "INVALID_PARAMETERS"),
    ):
        assert await platform.refusal(*parties) == (400, expected), parties
    assert await platform.moved() == []


async def test_a_transfer_without_funds_is_accepted_and_fails(platform: PlatformCaller, clock: FakeClock) -> None:
    before = await platform.balance("Café ☕"), await platform.balance("Rent")
    made = await platform.transfer("Café ☕", "Rent", amountInCents=4_216)
    assert (made["status"], made["errorCode"]) == ("PROCESSING", None)
    clock.now += 2
    failed = await platform.get(f"/transfers/{made['id']}")
    assert (failed["status"], failed["errorCode"], failed["completedAt"]) == ("ERROR", "INSUFFICIENT_FUNDS", None)
    assert (await platform.balance("Café ☕"), await platform.balance("Rent")) == before
    assert await platform.moved() == []


async def test_a_simulation_moves_nothing(platform: PlatformCaller, graphql: Caller, clock: FakeClock) -> None:
    shown = await graphql.nodes()
    before = await platform.balance("Rent")
    made = await platform.transfer(simulation=True)
    assert (made["executionMode"], made["status"]) == ("SIMULATION", "PROCESSING")
    assert await platform.balance("Rent") == before
    assert await platform.moved() == []
    assert await graphql.nodes() == shown
    assert await platform.get(f"/transfers/{made['id']}") == made
    live = await all_transfers(platform)
    assert made not in live
    assert await all_transfers(platform, executionMode="LIVE") == live
    assert await all_transfers(platform, executionMode="SIMULATION") == [made]
    assert (await all_transfers(platform, executionMode="ALL"))[0] == made
    poor = await platform.transfer("Empty Envelope", "Rent", simulation=True)
    clock.now += 2
    assert (await platform.get(f"/transfers/{poor['id']}"))["errorCode"] == "INSUFFICIENT_FUNDS"


# Rules


def executions(rule: Any) -> str:
    return f"/rules/{rule['id']}/executions"


async def rules(platform: PlatformCaller) -> dict[str, Any]:
    """Return all rules by name."""
    return {one["name"]: one for one in await platform.items("/rules", pageSize=100)}


async def trigger(platform: PlatformCaller, name: str, key: str = "k", **body: Any) -> httpx.Response:
    rule = (await rules(platform))[name]
    headers = {"idempotency-key": key}
    return await platform.send("POST", f"/rules/{rule['id']}/trigger", json=body, headers=headers)


async def test_the_rules_are_those_of_the_activity(platform: PlatformCaller) -> None:
    found = await rules(platform)
    for name, rule in found.items():
        assert await platform.get(f"/rules/{rule['id']}") == rule
        runs = await platform.items(executions(rule), pageSize=2)
        assert runs
        for run in runs:
            assert await platform.get(f"{executions(rule)}/{run['id']}") == run
            (made,) = await all_transfers(platform, rule_execution_id=run["id"], executionMode="ALL")
            assert (made["ruleId"], made["ruleExecutionId"], made["origin"]) == (rule["id"], run["id"], "RULE")
            assert name == f"{made['source']['name']} to {made['destination']['name']}"
    first = await platform.get("/rules", pageSize=3)
    assert first["pagination"] == {"page": 1, "pageSize": 3, "hasNextPage": True}
    assert [one["isActive"] for one in found.values()].count(False) == 1


async def test_a_triggered_rule_moves_money(platform: PlatformCaller, graphql: Caller, clock: FakeClock) -> None:
    before = await platform.balance("Rent")
    response = await trigger(platform, "Salary to Rent")
    assert response.status_code == 202
    run_id = response.json()["data"]["executionId"]
    assert response.json()["data"] == {"executionId": run_id}
    assert await platform.balance("Rent") == before + 90_000
    (made,) = await all_transfers(platform, rule_execution_id=run_id)
    assert [one["id"] for one in await platform.moved()] == [made["id"]]
    assert (await graphql.nodes())[0]["activityType"] == "RULE"
    clock.now += 10
    rule = (await rules(platform))["Salary to Rent"]
    run = await platform.get(f"{executions(rule)}/{run_id}")
    assert (run["status"], run["completedAt"]) == ("COMPLETE", iso(10))
    assert (await trigger(platform, "Salary to Rent")).text == response.text
    other = await trigger(platform, "Salary to Rent", executeAmount=5_000)
    assert read_error(other) == (400, "IDEMPOTENCY_KEY_MISMATCH")
    assert (await trigger(platform, "Salary to Rent", key="other", executeAmount=5_000)).status_code == 202
    assert [one["amount_cents"] for one in await platform.moved()] == [90_000, 5_000]


async def test_a_simulated_execution_moves_nothing(platform: PlatformCaller, graphql: Caller) -> None:
    shown = await graphql.nodes()
    response = await trigger(platform, "Salary to Rent", simulation=True)
    run_id = response.json()["data"]["executionId"]
    assert await platform.moved() == []
    assert await graphql.nodes() == shown
    (made,) = await all_transfers(platform, rule_execution_id=run_id, executionMode="SIMULATION")
    assert made["executionMode"] == "SIMULATION"
    rule = (await rules(platform))["Salary to Rent"]
    assert (await platform.items(executions(rule)))[0]["executionMode"] == "SIMULATION"


async def test_an_execution_can_fail(platform: PlatformCaller, clock: FakeClock) -> None:
    for amount_cents, reason in ((99, "TRANSFER_AMOUNT_LESS_THAN_ONE_DOLLAR"), (10**9, "INSUFFICIENT_FUNDS")):
        response = await trigger(platform, "Salary to Rent", key=reason[:36], executeAmount=amount_cents)
        clock.now += 2
        (made,) = await all_transfers(platform, rule_execution_id=response.json()["data"]["executionId"])
        assert (made["status"], made["errorCode"]) == ("ERROR", reason)
    assert await platform.moved() == []


async def test_a_rule_that_cannot_run(platform: PlatformCaller) -> None:
    for name, code in (
        ("Salary to Taxes 2025", "RULE_DEACTIVATED"),
        ("Ski Trip to Vacation / Travel", "INVALID_RULE"),
    ):
        assert read_error(await trigger(platform, name)) == (403, code)
    assert await platform.moved() == []


async def test_the_same_key_of_a_trigger_in_flight_is_409(platform: PlatformCaller) -> None:
    await platform.arm(operation="PlatformTriggerRule", what={"kind": "delay", "seconds": 0.3})
    async with asyncio.TaskGroup() as group:
        first = group.create_task(trigger(platform, "Salary to Rent"))
        await asyncio.sleep(0.15)
        again = await trigger(platform, "Salary to Rent")
        assert read_error(again) == (409, "RULE_EXECUTION_IN_PROGRESS")
    assert first.result().status_code == 202
    assert len(await platform.moved()) == 1


async def test_rules_and_executions_that_do_not_exist(platform: PlatformCaller) -> None:
    key = {"idempotency-key": "k"}
    for method, path in (("GET", ""), ("GET", "/executions"), ("GET", "/executions/x"), ("POST", "/trigger")):
        assert await platform.error(method, f"/rules/nothing{path}", headers=key) == (404, "RULE_NOT_FOUND")
    found = await rules(platform)
    rent, groceries = found["Salary to Rent"], found["Salary to Groceries"]
    (run, *_) = await platform.items(executions(rent))
    made = await platform.transfer()
    for path in (f"{executions(groceries)}/{run['id']}", f"{executions(rent)}/{made['id']}", f"{executions(rent)}/x"):
        assert await platform.error("GET", path) == (404, "RULE_EXECUTION_NOT_FOUND")
    assert await all_transfers(platform, rule_execution_id=made["id"], executionMode="ALL") == []
    for body in (b"[]", b'{"simulation": 1}', b'{"executeAmount": 0}', b'{"amount": 5}'):
        path = f"/rules/{rent['id']}/trigger"
        expected = (400, "INVALID_PARAMETERS")
        assert await platform.error("POST", path, content=body, headers=key) == expected


async def test_a_deleted_pod(platform: PlatformCaller, graphql: Caller) -> None:
    active = await platform.items("/accounts", pageSize=100)
    assert await platform.items("/accounts", pageSize=100, state="ACTIVE") == active
    *others, deleted = await platform.items("/accounts", pageSize=100, state="ALL")
    assert all(one["deletedAt"] is None for one in others)
    assert {one["id"] for one in others} == {one["id"] for one in active}
    assert (deleted["name"], deleted["canBeSource"], deleted["canBeDestination"]) == ("Ski Trip", False, False)
    assert deleted["deletedAt"].startswith("2025-02-10T")
    assert (await platform.get(f"/accounts/{deleted['id']}"))["balance"]["balanceInCents"] == 0
    found = await platform.items(f"/accounts/{deleted['id']}/transfers")
    assert len(found) == 4
    assert all(one["source"]["isDeleted"] and not one["destination"]["isDeleted"] for one in found)
    assert all(one["createdAt"] < deleted["deletedAt"] for one in found)
    assert await platform.refusal(deleted["id"], "Rent") == (400, "TRANSFER_SOURCE_NOT_FOUND")
    assert await platform.refusal("Rent", deleted["id"]) == (400, "TRANSFER_DESTINATION_NOT_FOUND")
    assert "Ski Trip" not in graphql.ids


# Idempotency


async def test_an_idempotency_key_is_required_and_has_a_form(tcp_platform: PlatformCaller) -> None:
    for key in (None, "", "x" * 37, "a b", "ä", "a,b", "a\tb"):
        headers = {} if key is None else {"idempotency-key": key.encode()}
        error = await tcp_platform.error("POST", "/transfers", json=tcp_platform.order(), headers=headers)
        assert error == (400, "INVALID_PARAMETERS"), key
    assert await tcp_platform.moved() == []


async def test_the_same_key_and_body_get_the_original_answer(platform: PlatformCaller, clock: FakeClock) -> None:
    for key in ("k", "AZaz09._:/|-", "x" * 36):
        first = await platform.post(key=key)
        clock.now += 11
        again = await platform.post(key=key)
        assert (again.status_code, again.text) == (201, first.text)
    reordered = dict(reversed(platform.order().items()))
    again = await platform.send("POST", "/transfers", json=reordered, headers={"idempotency-key": "x" * 36})
    assert again.text == first.text
    assert len(await platform.moved()) == 3


async def test_the_same_key_with_another_body_is_400(platform: PlatformCaller) -> None:
    await platform.transfer(key="k")
    for change in ({"amountInCents": 12_346}, {"description": "a"}, {"simulation": True}, {"amountInCents": 1}):
        assert await platform.refusal(key="k", **change) == (400, "IDEMPOTENCY_KEY_MISMATCH")
    assert len(await platform.moved()) == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_same_key_in_flight_is_409(platform: PlatformCaller, when: str) -> None:
    what = {"kind": "delay", "seconds": 0.3}
    await platform.arm(operation="PlatformCreateTransfer", when=when, what=what)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(platform.post(key="k"))
        await asyncio.sleep(0.1)
        assert await platform.refusal(key="k") == (409, "TRANSFER_IN_PROGRESS")
        assert await platform.refusal(key="k", amountInCents=500) == (400, "IDEMPOTENCY_KEY_MISMATCH")
        other = await platform.transfer(key="other")
    assert (await platform.post(key="k")).text == first.result().text
    assert {one["id"] for one in await platform.moved()} == {first.result().json()["data"]["id"], other["id"]}


async def test_many_at_once_move_once(platform: PlatformCaller) -> None:
    async with asyncio.TaskGroup() as group:
        sent = [group.create_task(platform.post(key="k")) for _ in range(20)]
    statuses = {task.result().status_code for task in sent}
    assert 201 in statuses
    assert statuses <= {201, 409}
    assert len({task.result().text for task in sent if task.result().status_code == 201}) == 1
    assert len(await platform.moved()) == 1


async def test_two_processes_on_one_file_move_once(platform: PlatformCaller, tmp_path: Path, clock: FakeClock) -> None:
    again = Sandbox(tmp_path / "sandbox.db", clock=clock)
    async with in_process(again) as client:
        other = PlatformCaller(client, platform.key)
        async with asyncio.TaskGroup() as group:
            sent = [group.create_task(one.post(key=f"k{n}")) for n in range(10) for one in (platform, other)]
    pairs = zip(sent[::2], sent[1::2], strict=True)
    assert all(first.result().text == second.result().text for first, second in pairs)
    assert len(await platform.moved()) == 10


async def test_a_key_is_kept_for_24_hours(platform: PlatformCaller, clock: FakeClock) -> None:
    first = await platform.transfer(key="k")
    clock.now += DAY_SECONDS - 0.001
    assert (await platform.transfer(key="k"))["id"] == first["id"]
    clock.now += 0.001
    assert (await platform.transfer(key="k", amountInCents=500))["id"] != first["id"]


async def test_a_refused_request_does_not_use_up_its_key(platform: PlatformCaller) -> None:
    assert await platform.refusal(key="k", amountInCents=99) == (400, "INVALID_PARAMETERS")
    await platform.transfer(key="k")


async def test_keys_of_two_api_keys_are_different(platform: PlatformCaller) -> None:
    first = await platform.transfer(key="k")
    other = await platform.with_key()
    assert (await other.transfer(key="k"))["id"] != first["id"]


async def test_a_simulation_has_a_key_too(platform: PlatformCaller) -> None:
    first = await platform.transfer(key="k", simulation=True)
    assert await platform.transfer(key="k", simulation=True) == first
    assert await platform.refusal(key="k") == (400, "IDEMPOTENCY_KEY_MISMATCH")


async def test_a_lost_answer_can_be_asked_for_again(tcp_platform: PlatformCaller) -> None:
    kinds: tuple[Any, ...] = ("close", "half_body", "garbage", "html", {"kind": "status", "status": 500})
    for number, kind in enumerate(kinds, start=1):
        key = f"k{number}"
        await tcp_platform.arm(operation="PlatformCreateTransfer", when="after", what=kind)
        with contextlib.suppress(httpx.RemoteProtocolError):
            assert not (await tcp_platform.post(key=key)).text.startswith('{"data": {"id"')
        *_, moved = await tcp_platform.moved()
        assert (await tcp_platform.transfer(key=key))["id"] == moved["id"], kind
        assert len(await tcp_platform.moved()) == number, kind


async def test_answers_survive_a_restart(platform: PlatformCaller, tmp_path: Path, clock: FakeClock) -> None:
    first = await platform.post(key="k")
    again = Sandbox(tmp_path / "sandbox.db", clock=clock)
    async with in_process(again) as client:
        other = PlatformCaller(client, platform.key)
        assert (await other.post(key="k")).text == first.text
        assert len(await other.moved()) == 1


# Keys


def stored(directory: Path) -> bytes:
    """Return the contents of the files of the sandbox."""
    return b"".join(path.read_bytes() for path in directory.glob("sandbox.db*"))


async def test_without_a_valid_key_it_is_401(platform: PlatformCaller) -> None:
    for header in (None, "", "Bearer", "Bearer sk_unknown", "sk_sandbox", "Basic c2s6"):
        headers = {} if header is None else {"authorization": header}
        for method, path in (("GET", "/accounts"), ("GET", "/transfers/x"), ("POST", "/transfers")):
            response = await platform.client.request(method, PLATFORM_PATH + path, headers=headers)
            assert read_error(response) == (401, "UNAUTHORIZED"), (header, method, path)


async def test_an_access_token_of_the_web_application_is_not_a_key(platform: PlatformCaller, graphql: Caller) -> None:
    platform.key = graphql.access_token
    assert await platform.error("GET", "/accounts") == (401, "UNAUTHORIZED")
    graphql.access_token = PLATFORM_KEY
    assert (await graphql.send_payment()).status_code == 401


async def test_each_call_needs_its_permission(platform: PlatformCaller) -> None:
    existing = await existing_ids(platform)
    for permission, method, pattern in (
        ("READ_ACCOUNTS", "GET", "/accounts"),
        ("READ_ACCOUNTS", "GET", "/accounts/{rent}"),
        ("READ_TRANSFERS", "GET", "/accounts/{rent}/transfers"),
        ("READ_TRANSFERS", "GET", "/transfers?accountIds[]={rent}"),
        ("READ_TRANSFERS", "GET", "/transfers/{transfer}"),
        ("MANUAL_TRANSFER", "POST", "/transfers"),
        ("READ_RULES", "GET", "/rules"),
        ("READ_RULES", "GET", "/rules/{rule}"),
        ("READ_RULES", "GET", "/rules/{rule}/executions"),
        ("READ_RULES", "GET", "/rules/{rule}/executions/{run}"),
        ("TRIGGER_RULES", "POST", "/rules/{rule}/trigger"),
    ):
        path = pattern.format(**existing)
        options = sent(platform, path) if method == "POST" else {}
        only = await platform.with_key(permissions=[permission])
        assert (await only.send(method, path, **options)).is_success, path
        others = set(KeyPermissions().permissions) - {permission}
        without = await platform.with_key(permissions=sorted(others))
        assert await without.error(method, path, **options) == (403, "ACCESS_DENIED"), path


async def test_a_key_for_some_accounts(platform: PlatformCaller) -> None:
    rent, groceries, fund = (platform.ids[name] for name in ("Rent", "Groceries", "Emergency Fund"))
    some = await platform.with_key(account_ids=[rent, groceries])
    assert {one["id"] for one in await some.items("/accounts")} == {rent, groceries}
    assert (await some.get(f"/accounts/{rent}"))["id"] == rent
    denied = (403, "ACCESS_DENIED")
    assert await some.error("GET", f"/accounts/{fund}") == denied
    assert await some.error("GET", f"/accounts/{fund}/transfers") == denied
    assert await some.error("GET", f"/transfers?accountIds[]={rent}&accountIds[]={fund}") == denied
    assert await some.refusal("Emergency Fund", "Rent") == denied
    assert await some.refusal("Rent", "Emergency Fund") == denied
    inside, outside = await some.transfer("Rent", "Groceries"), await platform.transfer("Emergency Fund", "Taxes 2025")
    half = await platform.transfer("Emergency Fund", "Rent")
    assert await some.get(f"/transfers/{inside['id']}") == inside
    assert await some.get(f"/transfers/{half['id']}") == half
    assert await some.error("GET", f"/transfers/{outside['id']}") == denied


async def test_manual_transfers_between_listed_accounts(platform: PlatformCaller) -> None:
    rent, groceries, fund = (platform.ids[name] for name in ("Rent", "Groceries", "Emergency Fund"))
    key = await platform.with_key(
        manual_transfers=[
            {"source": rent, "target": groceries},
            {"source": fund, "target": rent, "max_amount": 5_000},
        ]
    )
    await key.transfer("Rent", "Groceries", amountInCents=50_000)
    await key.transfer("Emergency Fund", "Rent", amountInCents=5_000)
    assert await key.refusal("Emergency Fund", "Rent", amountInCents=5_001) == (403, "MAXIMUM_AMOUNT_EXCEEDED")
    assert await key.refusal("Emergency Fund", "Rent", amountInCents=5_001, simulation=True) == (
        403,
        "MAXIMUM_AMOUNT_EXCEEDED",
    )
    assert await key.refusal("Groceries", "Rent") == (403, "ACCESS_DENIED")
    none = await platform.with_key(manual_transfers=[])
    assert await none.refusal() == (403, "ACCESS_DENIED")
    assert len(await platform.moved()) == 2


async def test_keys_survive_a_restart_and_only_hashes_are_stored(
    platform: PlatformCaller, sandbox: Sandbox, tmp_path: Path, clock: FakeClock
) -> None:
    key = sandbox.issue_platform_key(KeyPermissions(account_ids=frozenset([platform.ids["Rent"]])))
    assert key.startswith("sk_")
    again = Sandbox(tmp_path / "sandbox.db", clock=clock)
    async with in_process(again) as client:
        assert len(await PlatformCaller(client, key=key).items("/accounts")) == 1
    assert key.encode() not in stored(tmp_path)
    assert key.removeprefix("sk_").encode() not in stored(tmp_path)


async def test_a_control_route_that_is_asked_for_too_much(platform: PlatformCaller) -> None:
    for wrong in (
        {"permissions": ["EVERYTHING"]},
        {"requests_per_minute": 0},
        {"surprise": 1},
        {"organization_id": "x"},
    ):
        assert (await platform.client.post("/sandbox/platform-keys", json=wrong)).status_code == 422


# The rate limit


async def test_a_key_may_make_100_requests_a_minute(platform: PlatformCaller, clock: FakeClock) -> None:
    key = await platform.with_key()
    for _ in range(100):
        assert (await key.send("GET", "/accounts?pageSize=1")).status_code == 200
    response = await key.send("GET", "/accounts")
    assert read_error(response) == (429, "RATE_LIMIT_EXCEEDED")
    assert response.headers["retry-after"] == "1"
    assert await key.refusal() == (429, "RATE_LIMIT_EXCEEDED")
    assert await platform.moved() == []
    clock.now += 0.59
    assert (await key.send("GET", "/accounts")).status_code == 429
    clock.now += 0.02
    assert (await key.send("GET", "/accounts")).status_code == 200
    assert (await key.send("GET", "/accounts")).status_code == 429


async def test_retry_after_is_in_seconds(platform: PlatformCaller, clock: FakeClock) -> None:
    key = await platform.with_key(requests_per_minute=2)
    for _ in range(2):
        statuses = [(await key.send("GET", "/accounts")).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert (await key.send("GET", "/accounts")).headers["retry-after"] == "30"
        clock.now += 3600  # it saves up no more than a minute's
    other = await platform.with_key(requests_per_minute=2)
    assert (await other.send("GET", "/accounts")).status_code == 200


# One ledger, two interfaces


async def test_a_transfer_of_one_interface_is_in_the_other(
    platform: PlatformCaller, graphql: Caller, clock: FakeClock
) -> None:
    assert (await graphql.pay("Emergency Fund", "Rent", achDescription="From GraphQL"))["ok"]
    made = await platform.transfer("Rent", "Groceries", description="Platform")
    nodes = {node["id"]: node for node in await graphql.nodes()}
    first, second = await platform.moved()
    shown = {one["id"]: one for one in await all_transfers(platform)}
    assert (nodes[made["id"]]["status"], nodes[made["id"]]["activityType"]) == ("PROCESSING", "ONE_TIME_TRANSFER")
    assert nodes[made["id"]]["description"] == "Platform"
    assert second["id"] == made["id"]
    assert (shown[first["id"]]["status"], shown[first["id"]]["origin"]) == ("PENDING", "USER")
    clock.now += 2
    assert (await platform.get(f"/transfers/{first['id']}"))["status"] == "PROCESSING"
    clock.now += 8
    assert {(await platform.get(f"/transfers/{one['id']}"))["status"] for one in (first, second)} == {"COMPLETE"}
    assert {node["status"] for node in (await graphql.nodes())[:2]} == {"COMPLETE"}
    balances = await graphql.balances()
    for name in ("Emergency Fund", "Rent", "Groceries", "Everyday Checking", "Harbor Rewards Card", "Salary"):
        assert await platform.balance(name) == balances[name]


async def test_the_words_of_both_interfaces(platform: PlatformCaller, graphql: Caller) -> None:
    words: dict[str, set[tuple[str, str]]] = {"status": set(), "direction": set(), "origin": set()}
    found = {one["id"]: one for page in range(1, 4) for one in await all_transfers(platform, page=page)}
    for node in await graphql.nodes(first=100):
        one = found[node["id"]]
        words["status"].add((node["status"], one["status"]))
        words["direction"].add((node["direction"], one["direction"]))
        words["origin"].add((node["activityType"], one["origin"]))
        assert (node["amount"]["cents"], node["createdAt"], node["errorReason"]) == (
            one["amountInCents"],
            one["createdAt"],
            one["errorCode"],
        )
    assert words["status"] >= {("COMPLETE", "COMPLETE"), ("FAILED", "ERROR"), ("CANCELLED", "CANCELLED")}
    assert len(words["status"]) == len({word for word, _ in words["status"]})
    assert words["direction"] == {("INCOMING", "MONEY_IN"), ("OUTGOING", "MONEY_OUT"), ("INTERNAL", "INTERNAL")}
    assert words["origin"] == {
        ("ONE_TIME_TRANSFER", "USER"),
        ("RULE", "RULE"),
        ("DIRECT_DEPOSIT", "DIRECT_DEPOSIT"),
        ("ACH", "EXTERNAL_PULL"),
        ("ACH", "UNKNOWN"),
    }


# Faults and the journal


def test_the_codes_are_those_of_the_page() -> None:
    assert {code for _, code in CODES} == set(PlatformErrorCode)


async def test_a_transfer_can_be_refused_with_any_code(platform: PlatformCaller) -> None:
    for status, code in sorted(CODES):
        what = {"kind": "refuse", "code": code, "message": "Nope"}
        await platform.arm(operation="PlatformCreateTransfer", what=what)
        assert await platform.refusal() == (status, code)
    assert await platform.moved() == []


async def test_each_operation_has_a_name_for_faults(platform: PlatformCaller) -> None:
    existing = await existing_ids(platform)
    limited = {"kind": "status", "status": 429, "code": "RATE_LIMIT_EXCEEDED", "headers": {"Retry-After": "7"}}
    for operation, method, pattern in (
        ("PlatformAccounts", "GET", "/accounts"),
        ("PlatformAccount", "GET", "/accounts/{rent}"),
        ("PlatformAccountTransfers", "GET", "/accounts/{rent}/transfers"),
        ("PlatformTransfers", "GET", "/transfers?accountIds[]={rent}"),
        ("PlatformTransfer", "GET", "/transfers/{transfer}"),
        ("PlatformCreateTransfer", "POST", "/transfers"),
        ("PlatformRules", "GET", "/rules"),
        ("PlatformRule", "GET", "/rules/{rule}"),
        ("PlatformRuleExecutions", "GET", "/rules/{rule}/executions"),
        ("PlatformRuleExecution", "GET", "/rules/{rule}/executions/{run}"),
        ("PlatformTriggerRule", "POST", "/rules/{rule}/trigger"),
    ):
        path = pattern.format(**existing)
        options = sent(platform, path) if method == "POST" else {}
        what = {"kind": "status", "status": 500, "code": "UNEXPECTED_ERROR"}
        await platform.arm(operation=operation, what=what)
        assert await platform.error(method, path, **options) == (500, "UNEXPECTED_ERROR")
        await platform.arm(operation=operation, what=limited)
        assert (await platform.send(method, path, **options)).headers["retry-after"] == "7"
        await platform.arm(operation=operation, what={"kind": "status", "status": 503, "body": "busy"})
        assert (await platform.send(method, path, **options)).text == "busy"
        await platform.arm(operation=operation, what="close")
        with pytest.raises(httpx.RemoteProtocolError):
            await platform.send(method, path, **options)
        requests = (await platform.client.get("/sandbox/requests")).json()["requests"]
        assert {one["operation"] for one in requests[-4:]} == {operation}
    assert len(await platform.moved()) == 1


async def test_a_new_transfer_can_be_404_at_first(platform: PlatformCaller, graphql: Caller, clock: FakeClock) -> None:
    await platform.arm(operation="PlatformCreateTransfer", what={"kind": "not_found_seconds", "seconds": 5})
    made = await platform.transfer()
    assert await platform.error("GET", f"/transfers/{made['id']}") == (404, "TRANSFER_NOT_FOUND")
    assert (await all_transfers(platform))[0] == made
    assert (await graphql.nodes())[0]["id"] == made["id"]
    clock.now += 5
    assert (await platform.get(f"/transfers/{made['id']}"))["id"] == made["id"]


async def test_each_read_can_be_late(platform: PlatformCaller, clock: FakeClock) -> None:
    made = await platform.transfer()
    for seconds, is_shown in ((59, False), (60, True)):
        clock.now = START_SECONDS + seconds
        for operation in ("PlatformTransfer", "PlatformTransfers", "PlatformAccountTransfers"):
            await platform.arm(operation=operation, what={"kind": "activity_lag_seconds", "seconds": 60})
        response = await platform.send("GET", f"/transfers/{made['id']}")
        assert response.status_code == (200 if is_shown else 404)
        for found in (
            await all_transfers(platform, "Rent"),
            await platform.items(f"/accounts/{platform.ids['Rent']}/transfers"),
        ):
            assert (made["id"] in {one["id"] for one in found}) == is_shown


async def test_an_invisible_transfer(platform: PlatformCaller, graphql: Caller, clock: FakeClock) -> None:
    await platform.arm(operation="PlatformCreateTransfer", what={"kind": "invisible_seconds", "seconds": 5})
    made = await platform.transfer()
    assert await platform.error("GET", f"/transfers/{made['id']}") == (404, "TRANSFER_NOT_FOUND")
    assert (await all_transfers(platform))[0]["id"] != made["id"]
    assert (await graphql.nodes())[0]["id"] != made["id"]
    assert len(await platform.moved()) == 1
    clock.now += 5
    assert (await all_transfers(platform))[0]["id"] == made["id"]


async def test_a_transfer_that_fails_or_is_returned(platform: PlatformCaller, clock: FakeClock) -> None:
    before = await platform.balance("Rent")
    for what, seconds, expected in (
        ({"kind": "fail_after_seconds", "seconds": 5, "reason": "PAYMENT_FAILED"}, 5, ("ERROR", "PAYMENT_FAILED")),
        ({"kind": "return_after_seconds", "seconds": 5}, 15, ("ERROR", "RETURNED_BY_BANK")),
        ({"kind": "return_after_seconds", "seconds": 5, "status": "CANCELLED"}, 15, ("CANCELLED", "RETURNED_BY_BANK")),
    ):
        await platform.arm(operation="PlatformCreateTransfer", what=what)
        made = await platform.transfer()
        assert made["errorCode"] is None
        assert await platform.balance("Rent") == before + 12_345
        clock.now += seconds
        after = await platform.get(f"/transfers/{made['id']}")
        assert (after["status"], after["errorCode"]) == expected
        assert await platform.balance("Rent") == before


async def test_a_fee(platform: PlatformCaller) -> None:
    await platform.arm(operation="PlatformCreateTransfer", what={"kind": "fee_cents", "cents": 45})
    made = await platform.transfer()
    assert made["amountInCents"] == 12_300
    assert (await platform.moved())[0]["amount_cents"] == 12_345


async def test_nulls_and_values_below_data(platform: PlatformCaller) -> None:
    await platform.arm(operation="PlatformAccounts", what={"kind": "nulls", "paths": ["items.*.name"]})
    assert {one["name"] for one in await platform.items("/accounts")} == {None}
    what = {"kind": "values", "paths": ["status"], "value": "NEW_WORD"}
    await platform.arm(operation="PlatformCreateTransfer", when="after", what=what)
    assert (await platform.transfer())["status"] == "NEW_WORD"


async def test_faults_that_make_no_sense(platform: PlatformCaller) -> None:
    faults: tuple[tuple[str, Any], ...] = (
        ("PlatformCreateTransfer", "hide_new_transfer"),
        ("PlatformTransfers", "refuse"),
        ("CreatePayment", {"kind": "not_found_seconds", "seconds": 1}),
        ("PlatformAccounts", {"kind": "activity_lag_seconds", "seconds": 1}),
        ("PlatformNothing", "close"),
    )
    for operation, kind in faults:
        response = await platform.client.post("/sandbox/faults", json={"operation": operation, "what": kind})
        assert response.status_code == 422, (operation, kind)


async def test_the_journal_shows_the_request_without_its_key(platform: PlatformCaller) -> None:
    headers = {"idempotency-key": "attempt-1", "x-called-reason": "agent 01J"}
    await platform.client.delete("/sandbox/requests")
    await platform.send("POST", "/transfers", json=platform.order(), headers=headers)
    await all_transfers(platform, "Rent", "Groceries", status="COMPLETE")
    response = await platform.client.get("/sandbox/requests")
    create, read = response.json()["requests"]
    assert (create["operation"], create["variables"], create["status"]) == (
        "PlatformCreateTransfer",
        platform.order(),
        201,
    )
    assert {name: create["headers"][name] for name in headers} == headers
    assert (read["method"], read["path"]) == ("GET", f"{PLATFORM_PATH}/transfers")
    assert read["variables"] == {
        "accountIds[]": [platform.ids["Rent"], platform.ids["Groceries"]],
        "pageSize": "100",
        "status": "COMPLETE",
    }
    assert platform.key not in response.text
    assert ORGANIZATION_ID not in response.text
