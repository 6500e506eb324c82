"""`serve` with nothing but the seed's variables: it signs in by itself, stays signed in, and says why if it cannot."""

import anyio
import httpx
import pytest

from pysequence_api.sandbox import TOTP_SECRET
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.settings import Settings
from tests.sign_in.conftest import API_KEY, WRONG_PASSWORD, Server, Stage, current_code, needs_chromium, until

pytestmark = [pytest.mark.anyio, pytest.mark.browser, needs_chromium]


def client_of(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": API_KEY}, trust_env=False, timeout=30)


async def test_two_that_start_at_once_sign_in_by_themselves_with_one_login(stage: Stage) -> None:
    """With the six digits of the moment, as in the seed: a second login with them would be refused."""
    code = current_code()

    async def serve() -> None:
        async with stage.serving(totp=code) as server, client_of(server) as client:
            assert (await client.get("/api/pods")).status_code == 200

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        tasks.start_soon(serve)
    assert stage.sign_ins().begun == 1


async def test_it_renews_before_the_token_runs_out_although_nobody_asks(stage: Stage) -> None:
    """With a login: this token is renewed when 60 seconds are left."""
    first = stage.write_cache(lifetime_seconds=63)["access_token"]
    async with stage.serving() as server, client_of(server) as client:
        requests = stage.count("ActivitySummary")
        await until(lambda: stage.sign_ins().signed_in == 1)
        await until(lambda: stage.cache()["access_token"] != first)
        assert stage.count("ActivitySummary") == requests
        assert (await client.get("/api/health")).status_code == 200


async def test_a_start_that_has_to_wait_ends_at_once(stage: Stage) -> None:
    first = await stage.run("serve", password=WRONG_PASSWORD)
    assert first.code == 4
    assert "Wrong email or password" in first.err
    with anyio.fail_after(30):
        again = await stage.run("serve", password=WRONG_PASSWORD)
    assert again.code == 4
    assert "No login before 20" in again.err
    assert "UTC, so that the account is not locked: it failed once" in again.err
    assert stage.sign_ins().begun == 1


async def test_502_with_the_reason_while_it_cannot(stage: Stage) -> None:
    stage.write_cache(lifetime_seconds=86_400)
    stage.arm("oauth/token", {"kind": "status", "status": 403}, count=9)
    cached = stage.directory / ".tokens.json"
    cached.write_text(cached.read_text().replace("null", '"a-refresh-token"'))
    async with stage.serving(password=WRONG_PASSWORD) as server, client_of(server) as client:
        assert (await client.get("/api/pods")).status_code == 200
        for _ in range(2):
            stage.arm("*", {"kind": "status", "status": 401})  # the token is withdrawn
            answer = await client.get("/api/pods")
            assert answer.status_code == 502
            assert "Wrong email or password" in answer.json()["detail"]
        assert "No login before" in answer.json()["detail"]
        assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert stage.sign_ins().passwords == 1
    assert stage.count("oauth/token") == 1, "a refused refresh token is not tried again and again"


async def test_leaving_does_not_wait_for_a_page(stage: Stage) -> None:
    """The token is being renewed, the page of the password never comes, and the server is told to leave."""
    stage.write_cache(lifetime_seconds=61)  # it is renewed when 60 seconds are left
    stage.arm("login/password", {"kind": "delay", "seconds": 600})
    settings = Settings.load(**stage.variables(sign_in_step_seconds="120"))
    client = GraphQLSequenceClient.open(settings, stage.directory)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.stay_signed_in)
        await until(lambda: stage.count("login/password") == 1)
        tasks.cancel_scope.cancel()
    with anyio.fail_after(30):
        await client.aclose()
    assert not (stage.directory / ".sign-in.json").exists()


async def test_no_secret_is_anywhere_after_a_session(stage: Stage) -> None:
    """Login, refresh, refusals, transfers, errors, with every log line; the fixture searches all that was written."""
    stage.settings(login_gives_refresh_token=True)
    echo = f"<form method=post><input name=password><p role=alert>{WRONG_PASSWORD} {TOTP_SECRET}</p>"
    stage.arm("login/submit-password", {"kind": "html", "status": 400, "body": echo + "<button type=submit>Go"})
    pictures = str(stage.directory / "pictures")
    echoed = await stage.run("--debug", "auth", "login", "--debug-dir", pictures, password=WRONG_PASSWORD)
    assert "which says: (removed) (removed)" in echoed.err
    async with stage.serving("--debug") as server, client_of(server) as client:
        stage.secrets |= {value for value in stage.cache().values() if isinstance(value, str)}
        stage.arm("*", {"kind": "status", "status": 401})
        pods = (await client.get("/api/pods")).json()
        order = {"source_id": pods[0]["id"], "destination_id": pods[1]["id"], "amount_cents": 100}
        assert (await client.post("/api/transfers", json=order)).status_code == 200
        for what in ({"kind": "graphql_error", "message": stage.cache()["access_token"]}, "close", "html"):
            stage.arm("CreatePayment", what)
            assert (await client.post("/api/transfers", json=order | {"amount_cents": 200})).status_code in (
                400,
                409,
                502,
            )
        assert (await client.get("/api/pods", headers={"X-API-Key": "another"})).status_code == 401
    assert (stage.sign_ins().signed_in, stage.count("oauth/token")) == (1, 1)
    stage.arm(
        "oauth/token", {"kind": "status", "status": 403, "body": {"error_description": stage.cache()["refresh_token"]}}
    )
    tokens = stage.cache()
    stage.write_cache(lifetime_seconds=0)
    (stage.directory / ".tokens.json").write_text(
        (stage.directory / ".tokens.json").read_text().replace("null", f'"{tokens["refresh_token"]}"')
    )
    assert (await stage.run("--debug", "auth", "login", password=None)).code == 4
    await stage.run("--debug", "auth", "status")
    await stage.run("--debug", "pods", totp=f"otpauth://hotp/x?secret={TOTP_SECRET}")
    assert any(b'"transfer_completed"' in path.read_bytes() for path in stage.directory.glob(".audit*"))
    assert len(b"".join(stage.written)) > 5000
