"""The tools, as a client of the SDK sees them."""

import json
from collections import defaultdict
from typing import Any

import pytest

from pysequence_api.mcp.compact import compact_activity
from pysequence_api.mcp.tools import TOOLS
from pysequence_api.models import ActivityPage, PageInfo, Party, Transfer
from pysequence_api.safeguards.policy import Scope
from tests.mcp.clients import LEGACY, MODERN, answer, caller, connected, order, refusal
from tests.policies import apply_policy
from tests.shipping.documented import table_rows
from tests.shipping.files import AGENTS
from tests.world import DESTINATION, SOURCE, World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
BOTH = pytest.mark.upstream("graphql", "platform")

READ_ONLY = {"list_accounts", "find_account", "list_activity", "get_limits", "get_attempt", "preview_transfer"}
EVERY_TOOL = READ_ONLY | {"transfer", "freeze_me"}
MAX_TOKENS = 2500
RULE = """
[callers.one]
scopes = ["read:accounts", "read:activity", "move", "freeze"]
reads = ["a", "b"]
[[callers.one.rules]]
name = "rent"
from = ["a"]
to = ["b"]
max_cents = 5000
day_cents = 8000
"""


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
async def test_the_tools_and_their_annotations(world: World, mode: Any) -> None:
    async with connected(world, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert "not instructions" in (client.instructions or "not instructions")
    assert set(tools) == EVERY_TOOL
    for name, tool in tools.items():
        hints = tool.annotations
        assert hints is not None
        assert hints.read_only_hint is (name in READ_ONLY)
    moves, freezes = tools["transfer"].annotations, tools["freeze_me"].annotations
    assert moves is not None
    assert (moves.destructive_hint, moves.idempotent_hint, moves.open_world_hint) == (True, True, True)
    assert freezes is not None
    assert (freezes.destructive_hint, freezes.idempotent_hint) == (False, True)
    assert "idempotency_key" in tools["transfer"].input_schema["required"]


def test_the_page_has_every_tool_with_its_scope() -> None:
    documented = [(row[0], row[1]) for row in table_rows(AGENTS, "Tools")]
    assert documented == [(f"`{one.name}`", f"`{one.scope.value}`" if one.scope else "--") for one in TOOLS]


async def test_all_tools_with_their_schemas_are_small(world: World) -> None:
    async with connected(world) as client:
        listed = await client.list_tools()
    text = json.dumps([tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed.tools])
    assert len(text) / 4 < MAX_TOKENS


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
async def test_money_moves_once_for_each_key(world: World, mode: Any) -> None:
    async with connected(world, mode=mode) as client:
        first = answer(await client.call_tool("transfer", order(world)))
        again = answer(await client.call_tool("transfer", order(world)))
        other = refusal(await client.call_tool("transfer", order(world, 2600)))
        found = answer(await client.call_tool("get_attempt", {"attempt_id": first["attempt_id"]}))
        assert answer(await client.call_tool("get_attempt", {"idempotency_key": "one"})) == found
        assert refusal(await client.call_tool("get_attempt", {"idempotency_key": "two"}))["code"] == "not_found"
    assert first["state"] == "accepted"
    assert (first["from"], first["to"]) == (SOURCE, DESTINATION)
    assert (again["attempt_id"], again["replayed"]) == (first["attempt_id"], True)
    assert (other["code"], other["retry"]) == ("key_reused", "new_key")
    assert (found["state"], found["amount_cents"], found["transfer_id"]) == ("accepted", 2500, first["transfer_id"])
    assert None not in found.values()
    assert len(world.attempts()) == 1


async def test_a_preview_tells_what_was_paid_already(world: World) -> None:
    wanted = order(world)
    del wanted["idempotency_key"]
    async with connected(world) as client, world.http() as http:
        before = answer(await client.call_tool("preview_transfer", wanted))
        answer(await client.call_tool("transfer", order(world, reason="for the landlord")))
        after = answer(await client.call_tool("preview_transfer", wanted))
        full = (await http.post("/api/transfers/preview", json=wanted)).json()
    assert (before["verdict"], before["similar"]) == ("allowed", [])
    assert before["source"]["balance_after_cents"] == before["source"]["balance_cents"] - 2500
    [similar] = after["similar"]
    assert (similar["amount_cents"], similar["from"]) == (2500, SOURCE)
    assert len(json.dumps(after)) < 0.5 * len(json.dumps(full))
    assert [one.reason for one in world.attempts()] == ["for the landlord"]


@BOTH
async def test_accounts_and_activity_have_what_the_http_api_has(world: World) -> None:
    async with connected(world) as client, world.http() as http:
        accounts = answer(await client.call_tool("list_accounts"))
        page = answer(await client.call_tool("list_activity", {"limit": 5}))
        more = answer(await client.call_tool("list_activity", {"limit": 5, "after": page["next"]}))
        expected = (await http.get("/api/accounts")).json()
        whole = (await http.get("/api/activity?first=10")).json()
        sizes = [
            (accounts, expected),
            (answer(await client.call_tool("list_activity", {"limit": 10})), whole),
        ]
    for group in ("pods", "ports", "accounts"):
        told = [(one["id"], one["name"], one.get("balance_cents")) for one in accounts[group]]
        assert told == [(one["id"], one["name"], one["balance_cents"]) for one in expected[group]]
    transfers = page["transfers"] + more["transfers"]
    assert [one["status"] for one in transfers] == [one["status"] for one in whole["transfers"]]
    assert [one["amount_cents"] for one in transfers] == [one["amount_cents"] for one in whole["transfers"]]
    for compact, full in sizes:
        assert len(json.dumps(compact)) < 0.45 * len(json.dumps(full))


@BOTH
async def test_an_account_is_found_with_its_balance_in_one_call(world: World) -> None:
    async with connected(world) as client, world.http() as http:
        found = answer(await client.call_tool("find_account", {"name": "groceries"}))
        part = answer(await client.call_tool("find_account", {"name": "taxes"}))
        expected = (await http.get("/api/accounts/find?name=groceries")).json()
    [one] = found["candidates"]
    assert (found["match"], one["id"], one["type"]) == (expected["match"], expected["match"], "POD")
    assert one["balance_cents"] == expected["candidates"][0]["balance_cents"]
    assert "match" not in part
    assert [one["matched"] for one in part["candidates"]] == ["part", "part"]


async def test_what_came_in_and_went_out_is_one_call(world: World) -> None:
    async with connected(world) as client, world.http() as http:
        totals = answer(await client.call_tool("list_activity", {"totals": True}))
        expected = (await http.get("/api/activity/totals")).json()
    assert (totals["incoming_cents"], totals["outgoing_cents"]) == (
        expected["incoming_cents"],
        expected["outgoing_cents"],
    )
    assert (totals["from"], totals["to"]) == (expected["date_start"], expected["date_end"])
    for direction in ("incoming", "outgoing"):
        told = [(one["amount_cents"], one.get("transfers", 1)) for one in totals[direction]]
        of_http = [one for one in expected["counterparties"] if one["direction"] == direction.upper()]
        assert told == [(one["amount_cents"], one["transfer_count"]) for one in of_http]
        assert told == sorted(told, key=lambda one: one[0], reverse=True)
        assert [one["name"] for one in totals[direction]] == [f"{one['name']} ({one['type']})" for one in of_http]
    assert len(json.dumps(totals)) < 0.55 * len(json.dumps(expected))


async def test_activity_names_accounts_and_marks_outsiders(world: World) -> None:
    async with connected(world) as client:
        page = answer(await client.call_tool("list_activity", {"limit": 100}))
    ids = {one["id"] for one in page["accounts"].values()}
    assert set(world.pod_ids.values()) & ids
    for transfer in page["transfers"]:
        for party in (transfer["from"], transfer["to"]):
            assert (party in page["accounts"]) != party.endswith((" (MERCHANT)", " (EXTERNAL_ENTITY)", " (unknown)"))


def test_an_outsider_cannot_pass_for_an_account() -> None:
    pod = Party(id="1", name="Rent", type="POD")
    twin = Party(id="2", name="Rent", type="ACCOUNT")
    outsider = Party(name="Rent", type="MERCHANT")
    transfers = (
        Transfer(id="a", amount_cents=1, source=outsider, destination=pod),
        Transfer(id="b", amount_cents=1, source=pod, destination=twin),
    )
    page = compact_activity(ActivityPage(transfers=transfers, page_info=PageInfo(), complete=False))
    assert [(one["from"], one["to"]) for one in page["transfers"]] == [
        ("Rent (MERCHANT)", "Rent 1"),
        ("Rent 1", "Rent 2"),
    ]
    assert page["accounts"] == {"Rent 1": {"id": "1"}, "Rent 2": {"id": "2", "type": "ACCOUNT"}}
    assert page["complete"] is False


async def test_arguments_are_strict(world: World) -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("transfer", order(world, amount_cents="5"), "amount_cents should be a valid integer."),
        ("transfer", order(world, amount_cents=True), "amount_cents should be a valid integer."),
        ("transfer", order(world, amount_cents=5.0), "amount_cents should be a valid integer."),
        ("transfer", order(world, amount_cents=0), "amount_cents should be greater than or equal to 1."),
        ("transfer", order(world, source_type="pod"), "source_type should be 'POD', 'PORT' or 'ACCOUNT'."),
        ("transfer", order(world, instant=1), "instant should be a valid boolean."),
        ("transfer", order(world, idempotency_key="a b"), "idempotency_key must be visible ASCII characters"),
        ("transfer", order(world, amount=5), "'amount' is not an argument of this tool, which has source_id"),
        ("transfer", order(world, destination_id=world.pod_ids[SOURCE]), "source and destination are the same."),
        ("list_activity", {"from_": "2026-11-01"}, "'from_' is not an argument of this tool, which has from, to"),
        ("list_activity", {"from": "2026-13-01"}, "from "),
        ("list_activity", {"from": 20261101}, "from should be a date like 2026-11-23."),
        ("list_activity", {"from": "2026-11-02", "to": "2026-11-01"}, "from should not be after to."),
        ("list_activity", {"status": "COMPLETED"}, "status should be 'PENDING', 'PROCESSING', 'COMPLETE'"),
        ("list_activity", {"limit": "5"}, "limit should be a valid integer."),
        ("list_accounts", {"name": "Rent"}, "'name' is not an argument of this tool, which has none."),
        ("list_activity", {"totals": True, "name": "Rent"}, "totals takes only from and to, not name."),
        ("list_activity", {"totals": "yes"}, "totals should be a valid boolean."),
        ("find_account", {"name": ""}, "name should have at least 1 character."),
        ("find_account", {}, "name is required."),
        ("get_attempt", {}, "Pass exactly one of attempt_id and idempotency_key."),
        (
            "get_attempt",
            {"attempt_id": "1", "idempotency_key": "1"},
            "Pass exactly one of attempt_id and idempotency_key.",
        ),
    ]
    async with connected(world) as client:
        for tool, arguments, text in wrong:
            told = refusal(await client.call_tool(tool, arguments))
            assert told["detail"].startswith(text), told
            assert told["code"] == "invalid_request"
            if tool == "transfer":
                assert (told["outcome"], told["retry"]) == ("nothing_moved", "same_key")
        missing = order(world)
        del missing["idempotency_key"]
        assert "idempotency_key is required" in refusal(await client.call_tool("transfer", missing))["detail"]
    assert world.attempts() == []


async def test_an_unknown_tool_is_an_error_of_the_protocol(world: World) -> None:
    from mcp import MCPError  # noqa: PLC0415 - see tests.mcp.clients

    async with connected(world) as client:
        with pytest.raises(MCPError, match=r"There is no tool 'approve'. The tools are list_accounts, "):
            await client.call_tool("approve", {})


async def test_an_unknown_outcome_is_an_error(world: World) -> None:
    async with connected(world) as client:
        world.fail("close", when="after")
        told = refusal(await client.call_tool("transfer", order(world)))
        assert (told["code"], told["outcome"], told["retry"]) == ("outcome_unknown", "unknown", "never")
        assert "Do not send it again." in told["detail"]
        found = answer(await client.call_tool("get_attempt", {"attempt_id": told["attempt_id"]}))
    assert found["state"] == "unknown"


async def test_a_failure_of_sequence_is_an_error(world: World) -> None:
    async with connected(world) as client:
        world.fail({"kind": "status", "status": 500}, operation="SelectSourceAndDestination", count=5)
        told = refusal(await client.call_tool("list_accounts"))
    assert told["code"] == "unexpected_status"


# Callers.


async def test_a_caller_lists_the_tools_of_its_scopes(world: World) -> None:
    own = {"get_limits", "get_attempt"}
    rules = defaultdict[Scope, list[str]](list)
    rules[Scope.MOVE] = ['[[callers.one.rules]]\nname = "rent"\nfrom = ["a"]\nto = ["b"]\nmax_cents = 5000']
    async with caller(world, "[callers.one]\nscopes = []\nreads = []") as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == own
        for scope, tools in {
            Scope.READ_ACCOUNTS: {"list_accounts", "find_account"},
            Scope.READ_ACTIVITY: {"list_activity"},
            Scope.MOVE: {"preview_transfer", "transfer"},
            Scope.FREEZE: {"freeze_me"},
        }.items():
            apply_policy(world, f'[callers.one]\nscopes = ["{scope.value}"]\nreads = ["*"]', *rules[scope])
            assert {tool.name for tool in (await client.list_tools()).tools} == own | tools


async def test_a_call_outside_the_scopes_is_refused_as_over_http(world: World) -> None:
    calls: dict[str, Any] = {"list_accounts": {}, "list_activity": {}, "transfer": order(world), "freeze_me": {}}
    async with caller(world, "[callers.one]\nscopes = []\nreads = []") as client:
        for tool, arguments in calls.items():
            told = refusal(await client.call_tool(tool, arguments))
            assert (told["code"], told["retry"]) == ("scope_missing", "never"), tool
    assert world.states() == ["rejected"], "a refused transfer is recorded"
    assert world.gateway.limits().frozen_callers == ()


async def test_an_expired_caller_gets_nothing(world: World) -> None:
    table = '[callers.one]\nscopes = ["read:accounts"]\nreads = ["*"]\nexpires = 2026-01-01T00:00:00Z'
    async with caller(world, table) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == set()
        for tool in ("list_accounts", "get_limits"):
            assert refusal(await client.call_tool(tool))["code"] == "caller_expired"


async def test_a_caller_sees_and_moves_what_its_policy_allows(world: World) -> None:
    async with caller(world, RULE) as client:
        accounts = answer(await client.call_tool("list_accounts"))
        assert [one["name"] for one in accounts["pods"]] == [SOURCE, DESTINATION]
        assert answer(await client.call_tool("transfer", order(world, 4000)))["state"] == "accepted"
        told = refusal(await client.call_tool("transfer", order(world, 6000, idempotency_key="two")))
        assert (told["code"], told["retry"]) == ("over_max", "same_key")
        assert told["attempt_id"]
        limits = answer(await client.call_tool("get_limits"))
        assert {one["name"]: one["left"] for one in limits["windows"]} == {"day_cents": 4000}
        frozen = answer(await client.call_tool("freeze_me", {"reason": "odd"}))
        assert (frozen["caller"], frozen["frozen_reason"]) == ("one", "odd")
        assert (
            refusal(await client.call_tool("transfer", order(world, 100, idempotency_key="three")))["code"] == "frozen"
        )
        assert answer(await client.call_tool("get_limits"))["frozen"] is True
        wanted = order(world, 6000)
        del wanted["idempotency_key"]
        preview = answer(await client.call_tool("preview_transfer", wanted))
        assert (preview["verdict"], preview["code"]) == ("refused", "frozen")
        assert preview["failed"]
    assert len(await world.moved()) > 0


async def test_a_pending_approval_is_no_error(world: World) -> None:
    table = RULE.replace("max_cents = 5000", "max_cents = 5000\napprove_above_cents = 1000")
    async with caller(world, table) as client:
        pending = answer(await client.call_tool("transfer", order(world, 4000)))
        again = answer(await client.call_tool("transfer", order(world, 4000)))
        found = answer(await client.call_tool("get_attempt", {"idempotency_key": "one"}))
    assert pending["state"] == "awaiting_approval"
    assert pending["expires_at"]
    assert again["attempt_id"] == pending["attempt_id"] == found["attempt_id"]
    assert found["state"] == "awaiting_approval"
    assert world.requests("CreatePayment") == []
