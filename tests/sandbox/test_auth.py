"""Access tokens and the token endpoint."""

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
    response = await caller.client.post("/oauth/token", json=body)
    return response.status_code, response.json()


async def test_only_valid_tokens_are_accepted(caller: Caller, sandbox: Sandbox, clock: FakeClock) -> None:
    good = sandbox.issue_tokens(60).access_token
    header, payload, _ = good.split(".")
    assert await status(caller, good) == 200
    claims = jwt.decode(good, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 60
    forged = jwt.encode(claims, "x" * 32, algorithm="HS256")
    unsigned = jwt.encode(claims, "", algorithm="none")
    for bad in ("nonsense", f"{header}.{payload}.", forged, unsigned, sandbox.issue_tokens(0).access_token):
        assert await status(caller, bad) == 401
    response = await caller.client.post("/api/graphql", json={})
    assert (response.status_code, response.json()["error"]) == (401, "Unauthorized")
    clock.now += 59
    assert await status(caller, good) == 200
    clock.now += 1
    assert await status(caller, good) == 401


async def test_a_refresh_rotates_the_refresh_token(caller: Caller) -> None:
    code, body = await refresh(caller)
    assert (code, body["expires_in"], body["token_type"]) == (200, 86_400, "Bearer")
    assert body["refresh_token"] != caller.refresh_token
    assert await status(caller, body["access_token"]) == 200
    code, refused = await refresh(caller)
    assert (code, refused["error"]) == (403, "invalid_grant")
    caller.refresh_token = body["refresh_token"]
    assert (await refresh(caller))[0] == 200


async def test_without_rotation_the_refresh_token_stays_valid(caller: Caller) -> None:
    settings = {"rotate_refresh_tokens": False, "access_token_lifetime_seconds": 120}
    assert (await caller.client.put("/sandbox/settings", json=settings)).json().items() >= settings.items()
    for _ in range(2):
        code, body = await refresh(caller)
        assert code == 200
        assert "refresh_token" not in body
        assert body["expires_in"] == 120


async def test_invalid_refreshes_are_refused(caller: Caller) -> None:
    refused: tuple[tuple[dict[str, object], int, str], ...] = (
        ({"refresh_token": "unknown"}, 403, "invalid_grant"),
        ({"client_id": "somebody"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 403, "unsupported_grant_type"),
        ({"refresh_token": None}, 400, "invalid_request"),
    )
    for change, code, error in refused:
        status_code, body = await refresh(caller, **change)
        assert (status_code, body["error"]) == (code, error)
        assert body["error_description"]
    assert (await refresh(caller))[0] == 200


async def test_tokens_are_not_in_the_repr(sandbox: Sandbox) -> None:
    tokens = sandbox.issue_tokens(5)
    assert tokens.expires_in_seconds == 5
    assert tokens.access_token not in repr(tokens)
    assert tokens.refresh_token not in repr(tokens)


async def test_the_token_route_validates_its_body(caller: Caller) -> None:
    response = await caller.client.post("/sandbox/tokens", json={"lifetime_seconds": "long"})
    assert response.status_code == 422
    assert "lifetime_seconds" in response.text
    response = await caller.client.post("/sandbox/tokens", json={"lifetime_seconds": -5})
    assert await status(caller, response.json()["access_token"]) == 401
