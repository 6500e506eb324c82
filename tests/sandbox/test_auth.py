"""Tokens: who may ask, and how a refresh goes."""

from typing import Any

import jwt
import pytest

from pysequence_api.sandbox import CLIENT_ID, Sandbox
from tests.sandbox.caller import Caller
from tests.sandbox.conftest import FakeClock
from tests.sandbox.published import ACTIVITY_SUMMARY

pytestmark = pytest.mark.anyio


async def status(caller: Caller, token: str) -> int:
    caller.access_token = token
    return (await caller.post("ActivitySummary", ACTIVITY_SUMMARY)).status_code


async def refresh(caller: Caller, **change: object) -> tuple[int, Any]:
    body = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": caller.refresh_token, **change}
    answer = await caller.client.post("/oauth/token", json=body)
    return answer.status_code, answer.json()


async def test_only_valid_tokens_open(caller: Caller, sandbox: Sandbox, clock: FakeClock) -> None:
    good = sandbox.issue_tokens(60).access_token
    header, payload, _ = good.split(".")
    assert await status(caller, good) == 200
    claims = jwt.decode(good, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 60
    forged = jwt.encode(claims, "x" * 32, algorithm="HS256")
    unsigned = jwt.encode(claims, None, algorithm="none")
    for bad in ("nonsense", f"{header}.{payload}.", forged, unsigned, sandbox.issue_tokens(0).access_token):
        assert await status(caller, bad) == 401
    answer = await caller.client.post("/api/graphql", json={})
    assert (answer.status_code, answer.json()["error"]) == (401, "Unauthorized")
    clock.now += 59
    assert await status(caller, good) == 200
    clock.now += 1
    assert await status(caller, good) == 401


async def test_a_refresh_rotates(caller: Caller) -> None:
    code, body = await refresh(caller)
    assert (code, body["expires_in"], body["token_type"]) == (200, 86_400, "Bearer")
    assert body["refresh_token"] != caller.refresh_token
    assert await status(caller, body["access_token"]) == 200
    assert await refresh(caller) == (
        403,
        {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."},
    )
    caller.refresh_token = body["refresh_token"]
    assert (await refresh(caller))[0] == 200


async def test_a_refresh_without_rotation_leaves_the_old_token(caller: Caller) -> None:
    settings = {"rotate_refresh_tokens": False, "access_token_lifetime_seconds": 120}
    assert (await caller.client.put("/sandbox/settings", json=settings)).json().items() >= settings.items()
    for _ in range(2):
        code, body = await refresh(caller)
        assert code == 200
        assert "refresh_token" not in body
        assert body["expires_in"] == 120


@pytest.mark.parametrize(
    ("change", "code", "error"),
    [
        ({"refresh_token": "unknown"}, 403, "invalid_grant"),
        ({"client_id": "somebody"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 403, "unsupported_grant_type"),
        ({"refresh_token": None}, 400, "invalid_request"),
    ],
)
async def test_refused_refreshes(caller: Caller, change: dict[str, object], code: int, error: str) -> None:
    status_code, body = await refresh(caller, **change)
    assert (status_code, body["error"]) == (code, error)
    assert body["error_description"]
    assert (await refresh(caller))[0] == 200


async def test_tokens_hide_in_repr(sandbox: Sandbox) -> None:
    tokens = sandbox.issue_tokens(5)
    assert tokens.expires_in_seconds == 5
    assert tokens.access_token not in repr(tokens)
    assert tokens.refresh_token not in repr(tokens)


async def test_token_route_checks_its_body(caller: Caller) -> None:
    answer = await caller.client.post("/sandbox/tokens", json={"lifetime_seconds": "long"})
    assert answer.status_code == 422
    assert "lifetime_seconds" in answer.text
    answer = await caller.client.post("/sandbox/tokens", json={"lifetime_seconds": -5})
    assert await status(caller, answer.json()["access_token"]) == 401
