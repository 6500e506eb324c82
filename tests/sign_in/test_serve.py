"""`serve` signs in by itself, stays signed in, and reports why if it cannot."""

import anyio
import httpx
import pytest

from pysequence_api.sandbox import TOTP_SECRET
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.sequence.sign_in import pages
from pysequence_api.settings import Settings
from tests.sign_in.browser import SharedBrowser
from tests.sign_in.conftest import API_KEY, WRONG_PASSWORD, Server, SignInWorld, current_code, needs_chromium, until

pytestmark = [pytest.mark.anyio, pytest.mark.browser, needs_chromium]


def client_of(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": API_KEY}, trust_env=False, timeout=30)


@pytest.mark.waits
async def test_two_servers_that_start_together_share_one_login(world: SignInWorld) -> None:
    """The current six digits are set, so a second login would be refused."""
    code = current_code()

    async def serve() -> None:
        async with world.running_server(totp=code) as server, client_of(server) as client:
            assert (await client.get("/api/pods")).status_code == 200

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        tasks.start_soon(serve)
    assert world.sign_ins().begun == 1


async def test_the_token_is_renewed_before_it_expires_without_a_request(world: SignInWorld) -> None:
    """Here by a login: this token is renewed when 60 seconds are left."""
    first = world.cache_tokens(lifetime_seconds=62)["access_token"]
    async with world.running_server() as server, client_of(server) as client:
        requests = len(world.requests("ActivitySummary"))
        await until(lambda: world.sign_ins().signed_in == 1)
        await until(lambda: world.cache()["access_token"] != first)
        assert len(world.requests("ActivitySummary")) == requests
        assert (await client.get("/api/health")).status_code == 200


async def test_reads_fail_with_502_and_the_reason(world: SignInWorld) -> None:
    world.cache_tokens(lifetime_seconds=86_400, refresh=True, refresh_token="a-refresh-token")
    world.fail({"kind": "status", "status": 403}, operation="oauth/token", count=9)
    async with world.running_server(password=WRONG_PASSWORD) as server, client_of(server) as client:
        assert (await client.get("/api/pods")).status_code == 200
        for _ in range(2):
            world.fail({"kind": "status", "status": 401}, operation="*")  # the token is revoked
            answer = await client.get("/api/pods", headers={"Cache-Control": "no-cache"})
            assert answer.status_code == 502
            assert "Wrong email or password" in answer.json()["detail"]
        assert "No login before" in answer.json()["detail"]
        assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert world.sign_ins().passwords == 1
    assert len(world.requests("oauth/token")) == 1, "a refused refresh token is not sent again"
    (world.files.path / ".tokens.json").unlink()
    with anyio.fail_after(30):
        again = await world.run("serve", password=WRONG_PASSWORD)
    assert again.code == 4, "a start during the wait fails at once"
    assert "No login before 20" in again.err
    assert world.sign_ins().begun == 1


async def test_stopping_does_not_wait_for_a_page(
    world: SignInWorld, browser: SharedBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is being renewed, the password page never loads, and the client is closed."""
    monkeypatch.setattr(pages, "QUERY_TIMEOUT_SECONDS", 0.3)  # such a page does not say what it shows
    world.cache_tokens(lifetime_seconds=61)  # it is renewed when 60 seconds are left
    world.fail({"kind": "delay", "seconds": 600}, operation="login/password")
    settings = Settings.load(**world.variables(sign_in_step_seconds="120"))
    with browser.shared():
        client = GraphQLSequenceClient.open(settings, world.files.path)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.stay_signed_in)
            await until(lambda: len(world.requests("login/password")) == 1)
            tasks.cancel_scope.cancel()
        with anyio.fail_after(30):
            await client.aclose()
    assert not (world.files.path / ".sign-in.json").exists()


async def test_no_secret_leaks_in_a_session(world: SignInWorld) -> None:
    """Login, refresh, refusals, transfers and errors, with all log lines. The fixture searches everything written."""
    world.change_sandbox(login_gives_refresh_token=True)
    echo = f"<form method=post><input name=password><p role=alert>{WRONG_PASSWORD} {TOTP_SECRET}</p>"
    world.fail(
        {"kind": "html", "status": 400, "body": echo + "<button type=submit>Go"}, operation="login/submit-password"
    )
    pictures = str(world.files.path / "pictures")
    echoed = await world.run("--debug", "auth", "login", "--debug-dir", pictures, password=WRONG_PASSWORD)
    assert "(removed) (removed)" in echoed.err
    async with world.running_server("--debug") as server, client_of(server) as client:
        world.secrets |= {value for value in world.cache().values() if isinstance(value, str)}
        world.fail({"kind": "status", "status": 401}, operation="*")
        pods = (await client.get("/api/pods")).json()
        order = {"source_id": pods[0]["id"], "destination_id": pods[1]["id"], "amount_cents": 100}
        assert (await client.post("/api/transfers", json=order)).status_code == 200
        for what in ({"kind": "graphql_error", "message": world.cache()["access_token"]}, "close", "html"):
            world.fail(what)
            assert (await client.post("/api/transfers", json=order | {"amount_cents": 200})).status_code in (
                400,
                409,
                502,
            )
        assert (await client.get("/api/pods", headers={"X-API-Key": "another"})).status_code == 401
    assert (world.sign_ins().signed_in, len(world.requests("oauth/token"))) == (1, 1)
    world.fail(
        {"kind": "status", "status": 403, "body": {"error_description": world.cache()["refresh_token"]}},
        operation="oauth/token",
    )
    tokens = world.cache()
    world.cache_tokens(refresh=True, refresh_token=tokens["refresh_token"])
    assert (await world.run("--debug", "auth", "login", password=None)).code == 4
    await world.run("--debug", "auth", "status")
    await world.run("--debug", "pods", totp=f"otpauth://hotp/x?secret={TOTP_SECRET}")
    assert any(b'"transfer_completed"' in path.read_bytes() for path in world.files.path.glob(".audit*"))
    assert len(b"".join(world.written)) > 5000
