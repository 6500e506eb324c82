"""Faults: each looks the same in process as over TCP, and moves money only if it says so."""

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from pysequence_api.sandbox import CLIENT_ID, Sandbox, application
from tests.sandbox.caller import Caller
from tests.sandbox.conftest import START_SECONDS, FakeClock
from tests.sandbox.published import ACTIVITY_SUMMARY, SELECT_SOURCE_AND_DESTINATION
from tests.sandbox.test_graphql import CREATE_AND_LOOK

pytestmark = pytest.mark.anyio
GRAPHQL_ERROR = {"kind": "graphql_error", "message": "Nope"}
LIMITED = {"kind": "status", "status": 429, "body": {"error": "slow"}, "headers": {"Retry-After": "7"}}
REPLACING: list[tuple[Any, Any]] = [
    ({"kind": "status", "status": 504}, (504, "application/json", '{"error": "Gateway Timeout"}')),
    ({"kind": "status", "status": 503, "body": "busy"}, (503, "text/plain; charset=utf-8", "busy")),
    (LIMITED, (429, "application/json", '{"error": "slow"}')),
    ("html", (502, "text/html; charset=utf-8", "<!DOCTYPE html>")),
    ({"kind": "html", "status": 200, "body": "<p>"}, (200, "text/html; charset=utf-8", "<p>")),
    (GRAPHQL_ERROR, (200, "application/json", '{"errors": [{"message": "Nope"}], "data": null}')),
    ("garbage", (200, "application/json", '{"data": {"organization": ')),
    ("redirect", (307, "text/plain; charset=utf-8", "")),
    ("close", (httpx.RemoteProtocolError, "Server disconnected without sending a response.")),
    ("half_body", (httpx.RemoteProtocolError, "peer closed connection without sending complete message body")),
]


async def outcome(caller: Caller, **options: Any) -> Any:
    """Send a payment and return the response or exception, in a form that can be compared."""
    try:
        response = await caller.send_payment(**options)
    except httpx.HTTPError as error:
        return type(error), str(error)
    return response.status_code, response.headers["content-type"], response.text


@pytest.mark.parametrize("when", ["before", "after"])
async def test_replaced_responses(caller: Caller, tcp_caller: Caller, when: str) -> None:
    moved = 0
    for what, expected in REPLACING:
        for one in (caller, tcp_caller):
            await one.arm(operation="CreatePayment", when=when, what=what)
            seen = await outcome(one)
            assert seen[:-1] == expected[:-1], what
            assert seen[-1].startswith(expected[-1]), what
            moved += when == "after"
            assert len(await one.moved()) == moved, what
    assert (await caller.pay())["ok"], "no fault is armed any more"


async def test_broken_connections_raise_the_same_exceptions(caller: Caller, tcp_caller: Caller) -> None:
    for kind in ("close", "half_body"):
        await caller.arm(operation="CreatePayment", count=2, when="before", what=kind)
        in_process, over_tcp = await outcome(caller), await outcome(tcp_caller)
        assert in_process == over_tcp
    assert (await tcp_caller.pay())["ok"], "the client is still usable"


async def test_headers_arrive_before_half_of_the_body(caller: Caller, tcp_caller: Caller) -> None:
    for one in (caller, tcp_caller):
        await one.arm(operation="*", when="after", what="half_body")
        request = one.client.build_request(
            "POST",
            "/api/graphql",
            json={"query": ACTIVITY_SUMMARY, "operationName": "ActivitySummary"},
            headers={"authorization": f"Bearer {one.access_token}"},
        )
        response = await one.client.send(request, stream=True)
        assert response.status_code == 200
        parts = response.aiter_raw()
        assert len(await anext(parts)) == int(response.headers["content-length"]) // 2
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
            await anext(parts)
        await response.aclose()


async def test_extra_headers(caller: Caller, tcp_caller: Caller) -> None:
    for one in (caller, tcp_caller):
        await one.arm(operation="CreatePayment", what=LIMITED)
        assert (await one.send_payment()).headers["retry-after"] == "7"
        await one.arm(operation="CreatePayment", what={"kind": "redirect", "location": "https://other.invalid/"})
        assert (await one.send_payment()).headers["location"] == "https://other.invalid/"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_operation_runs_if_the_client_disconnects(caller: Caller, tcp_caller: Caller, when: str) -> None:
    for count, one in enumerate((caller, tcp_caller), start=1):
        await one.arm(operation="CreatePayment", when=when, what={"kind": "delay", "seconds": 0.2})
        assert (await outcome(one, timeout=0.05)) == (httpx.ReadTimeout, "")
        await one.wait_until_moved(count)


async def test_the_operation_runs_if_the_client_is_cancelled(caller: Caller) -> None:
    await caller.arm(operation="CreatePayment", what={"kind": "delay", "seconds": 0.1})
    with anyio.move_on_after(0.03) as scope:
        await caller.send_payment(timeout=None)
    assert scope.cancelled_caught
    assert await caller.moved() == []
    await caller.wait_until_moved(1)


async def test_a_delay_delays(caller: Caller) -> None:
    await caller.arm(operation="CreatePayment", what=[{"kind": "delay", "seconds": 0.1}, "html"])
    started_at = anyio.current_time()
    assert (await outcome(caller))[0] == 502
    assert anyio.current_time() - started_at >= 0.1


async def test_errors_with_data(caller: Caller) -> None:
    await caller.arm(operation="CreatePayment", when="after", what={**GRAPHQL_ERROR, "keep_data": True})
    body = (await caller.send_payment()).json()
    assert body["errors"] == [{"message": "Nope"}]
    assert body["data"]["forKYC"]["createPayment"]["ok"]


async def test_nulls_and_missing_fields(caller: Caller) -> None:
    paths = [
        "me.memberships.*.organization.pods.0.metadata",
        "me.memberships.0.organization.accounts",
        "me.memberships.1.organization.ports.*.metadata.balance",
        "me.no.such.path",
    ]
    for missing in (False, True):
        what = {"kind": "nulls", "paths": paths, "missing": missing}
        await caller.arm(operation="SelectSourceAndDestination", what=what)
        data = await caller.data("SelectSourceAndDestination", SELECT_SOURCE_AND_DESTINATION)
        first, second = (membership["organization"] for membership in data["me"]["memberships"])
        assert first["pods"][1]["metadata"]
        assert first["ports"][0]["metadata"]["balance"]
        for parent, key in (
            (first, "accounts"),
            (first["pods"][0], "metadata"),
            (second["pods"][0], "metadata"),
            (second["ports"][0]["metadata"], "balance"),
        ):
            assert (key not in parent) if missing else (parent[key] is None)


async def test_values_of_the_wrong_type(caller: Caller) -> None:
    paths = ["me.memberships.0.organization.pods.1.name", "me.memberships.0.organization.ports.*.id"]
    what = {"kind": "values", "paths": paths, "value": {"not": ["a", "text"]}}
    await caller.arm(operation="SelectSourceAndDestination", what=what)
    data = await caller.data("SelectSourceAndDestination", SELECT_SOURCE_AND_DESTINATION)
    organization = data["me"]["memberships"][0]["organization"]
    assert organization["pods"][0]["name"]
    assert organization["pods"][1]["name"] == {"not": ["a", "text"]}
    assert {str(port["id"]) for port in organization["ports"]} == {"{'not': ['a', 'text']}"}


async def test_missing_list_entries(caller: Caller) -> None:
    what = {"kind": "nulls", "paths": ["me.memberships.*"], "missing": True}
    await caller.arm(operation="SelectSourceAndDestination", what=what)
    data = await caller.data("SelectSourceAndDestination", SELECT_SOURCE_AND_DESTINATION)
    assert data["me"]["memberships"] == []


async def test_dates(caller: Caller, tcp_caller: Caller) -> None:
    for one in (caller, tcp_caller):
        await one.arm(operation="CreatePayment", what="no_date")
        assert "date" not in (await one.send_payment()).headers
        wrong = [{"kind": "date_offset_seconds", "seconds": -300}, {"kind": "status", "status": 500}]
        await one.arm(operation="CreatePayment", what=wrong)
        response = await one.send_payment()
        assert (response.status_code, response.headers["date"]) == (500, "Wed, 31 Dec 2025 23:55:00 GMT")
        assert "date" in (await one.send_payment()).headers


async def test_huge_bodies(caller: Caller, tcp_caller: Caller) -> None:
    for one in (caller, tcp_caller):
        await one.arm(operation="CreatePayment", when="after", what={"kind": "huge_body", "size_bytes": 3_000_000})
        response = await one.send_payment()
        assert len(response.content) == 3_000_000
        assert response.json()["data"]["forKYC"]["createPayment"]["ok"]


async def test_a_huge_body_need_not_be_read(caller: Caller, tcp_caller: Caller) -> None:
    for one in (caller, tcp_caller):
        await one.arm(operation="*", what={"kind": "huge_body", "size_bytes": 1_000_000_000})
        async with one.client.stream("POST", "/oauth/token", json={}) as response:
            assert response.headers["content-length"] == "1000000000"
            async for _ in response.aiter_raw():
                break
        assert (await one.client.get("/sandbox/faults")).json() == {"armed": []}


async def test_refusals(caller: Caller) -> None:
    await caller.arm(operation="CreatePayment", what={"kind": "refuse", "message": "Account is frozen"})
    result = await caller.pay()
    assert (result["ok"], result["error"]["message"]) == (None, "Account is frozen")
    assert await caller.moved() == []


async def test_a_hidden_transfer_is_in_the_activity_only(caller: Caller) -> None:
    await caller.arm(operation="CreatePayment", what="hide_new_transfer")
    data = await caller.data("CreatePayment", CREATE_AND_LOOK, **caller.payment())
    edges = data["forKYC"]["createPayment"]["ok"]["organization"]["transferReferences"]["edges"]
    (moved,) = await caller.moved()
    assert len(edges) == 10
    assert moved["id"] not in {edge["node"]["id"] for edge in edges}
    assert (await caller.nodes())[0]["id"] == moved["id"]


async def test_an_invisible_transfer_appears_later(caller: Caller, clock: FakeClock) -> None:
    await caller.arm(
        operation="CreatePayment", when="after", what=[{"kind": "invisible_seconds", "seconds": 5}, "close"]
    )
    assert (await outcome(caller))[0] is httpx.RemoteProtocolError
    (moved,) = await caller.moved()
    clock.now = START_SECONDS + 4.9
    assert (await caller.nodes())[0]["id"] != moved["id"]
    clock.now = START_SECONDS + 5
    newest = (await caller.nodes())[0]
    assert (newest["id"], newest["createdAt"]) == (moved["id"], "2026-01-01T00:00:00.000Z")


async def test_faults_are_taken_in_order(caller: Caller) -> None:
    for status in (500, 501):
        await caller.arm(operation="CreatePayment", count=2, what={"kind": "status", "status": status})
    await caller.arm(operation="oauth/token", what={"kind": "status", "status": 503})
    await caller.data("ActivitySummary", ACTIVITY_SUMMARY)
    seen = [(await caller.send_payment()).status_code for _ in range(3)]
    assert seen == [500, 500, 501]
    armed = (await caller.client.get("/sandbox/faults")).json()["armed"]
    assert [(one["operation"], one["count"]) for one in armed] == [("CreatePayment", 1), ("oauth/token", 1)]
    entries = (await caller.client.get("/sandbox/requests")).json()["requests"]
    assert [one["fault"] for one in entries] == [[], ["status"], ["status"], ["status"]]
    body = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": caller.refresh_token}
    assert (await caller.client.post("/oauth/token", json=body)).status_code == 503
    assert (await caller.client.post("/oauth/token", json=body)).status_code == 200
    assert (await caller.client.delete("/sandbox/faults")).json() == {"armed": []}
    assert (await caller.send_payment()).status_code == 200


async def test_the_journal_shows_that_no_response_was_sent(caller: Caller) -> None:
    await caller.arm(operation="CreatePayment", when="after", what="close")
    await outcome(caller)
    (entry,) = (await caller.client.get("/sandbox/requests")).json()["requests"]
    assert (entry["status"], entry["delivery"], entry["fault"]) == (None, "nothing", ["close"])


INVALID: list[tuple[Any, str]] = [
    ({"operation": "CreatPayment", "what": "close"}, "operation"),
    ({"operation": "*", "what": "explode"}, "explode"),
    ({"operation": "*"}, "what"),
    ({"operation": "*", "what": []}, "at least 1"),
    ({"operation": "*", "what": "close", "count": 0}, "count"),
    ({"operation": "*", "what": "close", "when": "during"}, "when"),
    ({"operation": "*", "what": "close", "where": "here"}, "where"),
    ({"operation": "*", "what": {"kind": "status", "status": 200}}, "greater than or equal to 400"),
    ({"operation": "*", "what": ["close", "html"]}, "only one of these"),
    ({"operation": "*", "what": ["no_date", "no_date"]}, "twice"),
    ({"operation": "*", "what": "refuse"}, "CreatePayment, PlatformCreateTransfer, PlatformTriggerRule only"),
    ({"operation": "ActivitySummary", "what": {"kind": "fee_cents", "cents": 1}}, "CreatePayment, Platform"),
    ({"operation": "CreatePayment", "what": {"kind": "fee_cents", "cents": 0}}, "cents"),
    ({"operation": "CreatePayment", "what": "fail_after_seconds"}, "seconds"),
    (
        {
            "operation": "CreatePayment",
            "what": [
                {"kind": "fail_after_seconds", "seconds": 5},
                {"kind": "return_after_seconds", "seconds": 5},
            ],
        },
        "only one of these",
    ),
    ({"operation": "oauth/token", "what": {"kind": "activity_lag_seconds", "seconds": 5}}, "operations only"),
    ({"operation": "*", "what": {"kind": "graphql_error", "keep_data": True}}, "keep_data"),
    ({"operation": "*", "what": {"kind": "html", "status": 204}}, "no body"),
    ({"operation": "*", "what": {"kind": "delay", "seconds": 1e9}}, "seconds"),
    (5, "an object"),
]


async def test_invalid_faults_are_rejected(caller: Caller) -> None:
    for fault, reason in INVALID:
        response = await caller.client.post("/sandbox/faults", json=[{"operation": "*", "what": "html"}, fault])
        assert response.status_code == 422, fault
        assert reason in response.text, fault
    assert (await caller.client.get("/sandbox/faults")).json() == {"armed": []}


async def test_unreadable_faults(caller: Caller) -> None:
    assert (await caller.client.post("/sandbox/faults", content=b"{")).status_code == 422
    assert (await caller.client.post("/sandbox/faults", content=b"\xff")).status_code == 422


async def events(caller: Caller, what: Any) -> list[str]:
    seen: list[str] = []

    async def trace(name: str, info: Any) -> None:
        seen.append(name)

    if what:
        await caller.arm(operation="CreatePayment", what=what)
    await caller.client.delete("/sandbox/requests", headers={"connection": "close"})
    await outcome(caller, extensions={"trace": trace})
    return [name for name in seen if "start_tls" not in name]


async def test_trace_events_are_those_of_httpcore(caller: Caller, tcp_caller: Caller) -> None:
    for what in (None, "html", "close", "half_body"):
        in_process, over_tcp = await events(caller, what), await events(tcp_caller, what)
        assert in_process == over_tcp, what
        assert in_process[:3] == [
            "connection.connect_tcp.started",
            "connection.connect_tcp.complete",
            "http11.send_request_headers.started",
        ]


async def test_an_exception_of_a_trace_stops_the_request(caller: Caller) -> None:
    async def trace(name: str, info: Any) -> None:
        if name == "http11.send_request_headers.started":
            raise LookupError("stop")

    with pytest.raises(LookupError):
        await caller.send_payment(extensions={"trace": trace})
    assert await caller.moved() == []
    assert (await caller.client.get("/sandbox/requests")).json() == {"requests": []}


async def test_closing_cancels_running_requests(
    caller: Caller, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "CLOSING_SECONDS", 0.05)
    await caller.arm(operation="CreatePayment", what={"kind": "delay", "seconds": 60})
    assert await outcome(caller, timeout=0.05) == (httpx.ReadTimeout, "")
    with anyio.fail_after(5):
        await sandbox.aclose()
    assert await caller.moved() == []


async def test_a_failing_application_responds_with_500(caller: Caller, tcp_caller: Caller, tmp_path: Path) -> None:
    remove(tmp_path)
    for one in (caller, tcp_caller):
        assert (await one.send_payment()).status_code == 500


def remove(directory: Path) -> None:
    for path in directory.glob("sandbox.db*"):
        path.unlink()
