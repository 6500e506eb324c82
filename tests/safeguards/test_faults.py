"""Every fault of Sequence at every step of a transfer: what the caller gets, what counts, what the trail says."""

from pathlib import Path
from typing import Any

import pytest
import time_machine

from pysequence_api.errors import (
    GatewayError,
    InvalidDocumentError,
    NotAuthorizedError,
    OutcomeUnknownError,
    RateLimitedError,
    RefusedError,
    SignInError,
)
from pysequence_api.sandbox import Sandbox
from tests.world import GRACE_SECONDS, World, open_world

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.upstream("graphql", "platform")
"""Depends on how an API answers."""

ANSWERS: dict[str, Any] = {
    "500": {"kind": "status", "status": 500, "body": {"error": "oops"}},
    "504": {"kind": "status", "status": 504, "body": "upstream timed out"},
    "400": {"kind": "status", "status": 400, "body": ""},
    "403": {"kind": "status", "status": 403},
    "redirect": {"kind": "redirect", "status": 307, "location": "https://elsewhere.example/graphql"},
    "html with 502": "html",
    "html with 200": {"kind": "html", "status": 200, "body": "<html>hello</html>"},
    "graphql error": {"kind": "graphql_error", "message": "Internal server error"},
    "closed": "close",
    "half a body": "half_body",
    "broken json": "garbage",
    "far too much": {"kind": "huge_body", "size_bytes": 11 * 1024 * 1024},
}
PAYMENT = "forKYC.createPayment"


@BOTH
@pytest.mark.parametrize("first_moves", [False, True])
async def test_an_answer_that_says_nothing_leaves_the_outcome_unknown(
    world: World, traveller: time_machine.Traveller, first_moves: bool
) -> None:
    """Each answer comes once before the money moved, and once after."""
    used_cents = 0
    for number, (name, answer) in enumerate(ANSWERS.items()):
        moved = name == "far too much" or (number % 2 == 0) is first_moves
        earlier = len(await world.moved())
        world.fail(answer, when="after" if moved else "before")
        with pytest.raises(OutcomeUnknownError) as error:
            await world.transfer(5_000)
        assert len(await world.moved()) - earlier == moved, name
        attempt = world.attempts()[-1]
        assert (attempt.state, attempt.id) == ("unknown", error.value.attempt_id), name
        assert error.value.outcome == "unknown"
        assert error.value.retry == "never"
        assert world.files.events(attempt.id) == ["requested", "failed"], name
        assert world.files.trail()[-1]["outcome"] == "unknown"
        assert "<html" not in str(error.value)
        # And it is found out.
        traveller.shift(GRACE_SECONDS + 1)
        await world.follow_up()
        assert world.files.events(attempt.id)[2] == ("completed" if moved else "failed"), name
        used_cents += 5_000 if moved else 0
        assert world.used_cents() == used_cents
        traveller.shift(GRACE_SECONDS)  # beyond what speaks against the absence of the next
    assert world.gateway.records.trail.verify().intact


async def test_an_answer_without_its_ok_is_unknown(world: World) -> None:
    left_out = [(PAYMENT, False), (PAYMENT, True), ("forKYC", False), (f"{PAYMENT}.ok", False), (f"{PAYMENT}.ok", True)]
    for number, (path, missing) in enumerate(left_out):
        world.fail({"kind": "nulls", "paths": [path], "missing": missing}, when="after")
        with pytest.raises(OutcomeUnknownError):
            await world.transfer(5_000 + number)
    assert world.states() == ["unknown"] * len(left_out)


LEFT_OUT = (
    "ok.organization",
    "ok.organization.id",
    "ok.organization.transferReferences",
    "ok.organization.transferReferences.edges",
    "ok.organization.transferReferences.edges.0",
    "ok.organization.transferReferences.edges.0.node",
    "ok.organization.transferReferences.edges.0.node.id",
    "ok.organization.transferReferences.edges.0.node.createdAt",
    "ok.organization.transferReferences.edges.0.node.source",
)


@pytest.mark.parametrize("missing", [False, True])
async def test_an_ok_is_an_ok_whatever_is_left_out_of_it(world: World, missing: bool) -> None:
    for number, path in enumerate(LEFT_OUT):
        world.fail({"kind": "nulls", "paths": [f"{PAYMENT}.{path}"], "missing": missing}, when="after")
        completed = await world.transfer(5_000 + number)
        moved = (await world.moved())[-1]
        assert completed.id == moved["id"], path  # from the activity, if not from the answer
        attempt = world.attempts()[-1]
        assert (attempt.state, attempt.transfer_id) == ("accepted", moved["id"]), path
        assert world.files.events(attempt.id) == ["requested", "completed"], path


@BOTH
async def test_an_ok_with_errors_beside_it_is_an_ok(world: World) -> None:
    world.fail({"kind": "graphql_error", "message": "icon failed", "keep_data": True}, when="after")
    assert (await world.transfer()).id == (await world.moved())[0]["id"]


async def test_a_lookup_that_fails_costs_only_the_id(world: World) -> None:
    whats: list[Any] = ["close", "html", "garbage", {"kind": "status", "status": 500}]
    for number, what in enumerate(whats):
        world.fail("hide_new_transfer")
        world.fail(what, operation="ActivityLogV2Transfers")
        completed = await world.transfer(5_000 + number)
        assert completed.id is None, what
        assert world.files.events(completed.attempt_id) == ["requested", "completed"], what
    assert world.states() == ["accepted"] * len(whats)


async def test_another_graphql_error_leaves_the_outcome_unknown(world: World) -> None:
    errors: list[dict[str, Any]] = [
        {"message": 'Cannot query field "x" on type "Organization".', "path": ["forKYC"]},
        {"message": "x", "code": "INTERNAL_SERVER_ERROR"},
        {"message": 'Something about a Variable "$amount"'},
    ]
    for number, error in enumerate(errors):
        world.fail({"kind": "graphql_error"} | error, when="after")
        with pytest.raises(OutcomeUnknownError):
            await world.transfer(5_000 + number)
    world.fail(
        {"kind": "graphql_error", "message": "x", "code": "GRAPHQL_VALIDATION_FAILED", "keep_data": True}, when="after"
    )
    assert (await world.transfer(6_000)).state == "accepted"


async def test_an_invalid_document_was_not_executed(world: World) -> None:
    errors = [
        {"message": 'Cannot query field "createPayment" on type "Mutation".'},
        {"message": "Unknown argument 'achDescription' on field 'createPayment'."},
        {"message": 'Variable "$amount" got invalid value 1; Expected type Money.'},
        {"message": "Syntax Error: Unexpected Name."},
        {"message": "a text of the server", "code": "GRAPHQL_VALIDATION_FAILED"},
        {"message": "a text of the server", "code": "GRAPHQL_PARSE_FAILED"},
    ]
    for error in errors:
        world.fail({"kind": "graphql_error"} | error)
        with pytest.raises(InvalidDocumentError) as caught:
            await world.transfer()
        assert (caught.value.outcome, caught.value.retry) == ("nothing_moved", "never"), error
        assert world.used_cents() == 0, error
    assert world.states() == ["failed"] * len(errors)


CERTAIN: list[tuple[str, Any, type[GatewayError], int]] = [
    ("refused", {"kind": "refuse", "message": "Insufficient funds"}, RefusedError, 1),
    ("rate limited", {"kind": "status", "status": 429, "headers": {"Retry-After": "7"}}, RateLimitedError, 1),
    ("not authorized, twice", {"kind": "status", "status": 401}, NotAuthorizedError, 2),
]


@BOTH
@pytest.mark.parametrize(("name", "what", "error_type", "count"), CERTAIN, ids=[each[0] for each in CERTAIN])
async def test_what_certainly_failed_is_released(
    world: World, name: str, what: Any, error_type: type[GatewayError], count: int
) -> None:
    world.fail(what, count=count)
    with pytest.raises((error_type, SignInError)) as error:
        await world.transfer()
    assert await world.moved() == []
    assert world.states() == ["refused" if name == "refused" else "failed"]
    assert error.value.outcome == "nothing_moved"
    assert world.files.events() == ["requested", "failed"]
    [requested, failed] = world.files.trail()
    assert requested["attempt_id"] == failed["attempt_id"] == error.value.attempt_id
    assert failed["outcome"] == ("refused" if name == "refused" else "failed")
    assert world.used_cents() == 0


async def test_a_token_that_is_refused_once_is_renewed_and_sent_again_once(world: World) -> None:
    tokens = world.sandbox.issue_tokens()
    (world.files.path / ".tokens.json").write_text(
        f'{{"access_token": "{tokens.access_token}", "refresh_token": "{tokens.refresh_token}", "expires_at": 9e9}}'
    )
    world.fail({"kind": "status", "status": 401})
    completed = await world.transfer()
    assert [transfer["id"] for transfer in await world.moved()] == [completed.id]
    assert world.files.events() == ["requested", "completed"]


async def test_what_fails_before_it_is_sent_is_in_the_trail_without_a_request(
    tmp_path: Path, sandbox: Sandbox, traveller: time_machine.Traveller
) -> None:
    async with open_world(tmp_path, sandbox, token_seconds=100) as world:
        traveller.shift(90)  # the token has run out, and there is no way to another
        with pytest.raises(SignInError):
            await world.transfer()
        assert world.files.events() == ["failed"]
        assert world.states() == ["failed"]
        assert await world.moved() == []
