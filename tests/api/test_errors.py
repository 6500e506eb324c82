"""Errors are answers in one shape, and no answer may be cached or names the software."""

import json

import httpx
import pytest

from pysequence_api.errors import GatewayError, InvalidRequestError
from pysequence_api.web.listening import UNREADABLE_REQUEST
from tests.api.calls import post_transfer
from tests.api.server import Server
from tests.world import API_KEY, World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]


async def test_unexpected_error_is_500_without_details(
    shared_world: World,
    shared_client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError("the account number is 123456789")

    monkeypatch.setattr(type(shared_world.gateway.client), "activity_summary", fail)
    answer = await shared_client.get("/api/activity/summary", headers={"X-Request-ID": "this-one"})
    assert answer.status_code == 500
    assert set(answer.json()) == {"detail", "code"}
    assert answer.json()["code"] == "internal_error"
    assert "this-one" in answer.json()["detail"]
    assert "123456789" not in answer.text
    assert answer.headers["x-request-id"] == "this-one"
    assert "ZeroDivisionError" in caplog.text


def error_classes() -> list[type[GatewayError]]:
    kinds = [GatewayError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return kinds


@pytest.mark.parametrize("kind", error_classes())
async def test_every_error_class_has_its_answer(
    shared_world: World, shared_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, kind: type[GatewayError]
) -> None:
    error = kind("What to do.", attempt_id="attempt-7", retry_after_seconds=7)

    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(type(shared_world.gateway.client), "activity_summary", fail)
    monkeypatch.setattr(type(shared_world.gateway.transfers), "transfer", fail)
    read = await shared_client.get("/api/activity/summary")
    requested = await post_transfer(shared_client)
    about_transfer = {"attempt_id": "attempt-7", "outcome": error.outcome, "retry": error.retry}
    always = {"detail": error.detail, "code": error.code, "retry_after_seconds": 7}
    for answer, expected in ((read, always), (requested, always | about_transfer)):
        assert answer.status_code == kind.status
        assert answer.headers["retry-after"] == "7"
        if isinstance(error, InvalidRequestError) and answer is requested:
            expected |= {"outcome": "nothing_moved", "retry": "same_key"}
        known = {name: value for name, value in expected.items() if value is not None}
        assert answer.json().items() >= known.items()
        assert set(answer.json()) - {"errors"} == set(known)


@pytest.mark.parametrize(
    "path", ["/api/nothing", "/", "/api/pods/", "/api/health/", "/api/pods//balance", "//api/pods"]
)
async def test_unknown_path_is_404(shared_client: httpx.AsyncClient, path: str) -> None:
    answer = await shared_client.get(f"http://api{path}")
    assert answer.status_code == 404
    assert set(answer.json()) == {"detail", "code"}
    assert answer.json()["code"] == "not_found"
    assert "/openapi.json" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/api/pods", "GET"),
        ("DELETE", "/api/transfers/x", "GET"),
        ("GET", "/api/transfers", "POST"),
        ("POST", "/api/attempts/x", "DELETE, GET"),
        ("PUT", "/api/transfers/preview", "POST"),
    ],
)
async def test_wrong_method_is_405(shared_client: httpx.AsyncClient, method: str, path: str, allowed: str) -> None:
    answer = await shared_client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert set(answer.json()) == {"detail", "code"}
    assert answer.json()["code"] == "method_not_allowed"
    assert allowed in answer.json()["detail"]


@pytest.mark.parametrize(
    "request_bytes", [b"\x16\x03\x01\x02\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"]
)
async def test_unreadable_request_is_400(sandbox_server: Server, request_bytes: bytes) -> None:
    status, headers, body = await sandbox_server.send_bytes(request_bytes)
    assert (status, json.loads(body)) == (400, UNREADABLE_REQUEST)
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/api/pods", API_KEY),
        ("/api/pods", "wrong"),
        ("/nothing", API_KEY),
        ("/api/health", ""),
        ("/openapi.json", API_KEY),
    ],
)
async def test_no_answer_may_be_cached_or_names_the_software(sandbox_server: Server, path: str, key: str) -> None:
    async with sandbox_server.client() as client:
        answer = await client.get(path, headers={"X-API-Key": key})
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers
