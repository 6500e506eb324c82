"""Each caller has its own key, and sees and moves what is its own."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest
from pydantic import SecretStr

from pysequence_api.api import create_app
from pysequence_api.errors import SettingsError
from pysequence_api.records import open_records
from pysequence_api.records.callers import add, listed, remove, revoke, rotate
from pysequence_api.records.keys import new_key
from pysequence_api.sandbox import Sandbox
from tests.api.server import served_sandbox, start_server
from tests.api.test_metrics import numbers
from tests.policies import apply_policy
from tests.world import API_KEY, World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]

MAY_MOVE = """
scopes = ["move", "freeze"]
rules = [{ name = "all", from = ["a"], to = ["b"], max_cents = 1000000 }]
"""
READS = [
    "/api/pods",
    "/api/pods/balance",
    "/api/pods/Rent/balance",
    "/api/pods/detail/x",
    "/api/pods/x/y",
    "/api/accounts",
    "/api/activity",
    "/api/activity?first=0",
    "/api/activity/summary",
    "/api/activity/x/y",
    "/api/transfers/x",
    "/metrics",
]


@pytest.fixture
def _may_move(world: World) -> None:
    """Let every caller move money."""
    let_move(world)


def let_move(world: World) -> None:
    """Apply a policy that lets every caller move money between the two pods of `World.order`."""
    apply_policy(world, *(f"[callers.{name}]\n{MAY_MOVE}" for name in ("one", "two", "kept", "ended", "default")))


@asynccontextmanager
async def caller(world: World, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """A new caller, and a client with its key."""
    async with world.http(key=add(world.gateway.records, name).key) as client:
        yield client


async def status_of(client: httpx.AsyncClient, path: str = "/api/limits") -> int:
    return (await client.get(path)).status_code


# The key.


async def test_a_key_holds_in_every_process_until_it_is_revoked(world: World) -> None:
    records, other = world.gateway.records, await world.open_process()
    first = add(records, "one").key
    async with world.http(key=first) as here, world.http(other, key=first) as there:
        assert [await status_of(here), await status_of(there)] == [200, 200]
        second = rotate(records, "one", keep_old=True).key
        assert [await status_of(here), await status_of(there)] == [200, 200]
        revoke(records, "one", old_only=True)
        for client in (here, there):
            answer = await client.get("/api/limits")
            assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid API key"})
            assert await status_of(client, "/nothing") == 401
    async with world.http(key=second) as here, world.http(other, key=second) as there:
        assert [await status_of(here), await status_of(there)] == [200, 200]
        remove(records, "one")
        assert [await status_of(here), await status_of(there)] == [401, 401]


async def test_a_mistyped_key_is_told_apart_from_an_unknown_one(world: World) -> None:
    key = new_key()
    async with world.http(key=key) as client:
        assert (await client.get("/api/limits")).json()["detail"] == "Invalid API key"
    for mistyped in (key[:-1], key[:10] + key[11] + key[10] + key[12:] + "x", "psq_"):
        async with world.http(key=mistyped) as client:
            answer = await client.get("/api/limits")
            assert answer.status_code == 401
            assert "checksum" in answer.json()["detail"]


async def test_two_keys_are_rejected(world: World) -> None:
    key = add(world.gateway.records, "one").key
    async with world.http() as client:
        answer = await client.get("/api/limits", headers=[("X-API-Key", key), ("X-API-Key", API_KEY)])
        assert answer.status_code == 401


async def test_the_last_use_is_written_beside_the_requests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pysequence_api.gateway.COPY_SECONDS", 0.01)
    key = add(world.gateway.records, "one").key
    async with world.http(await world.open_process(), key=key) as client:
        await client.get("/api/limits")
        with anyio.fail_after(10):
            while not used(world):  # noqa: ASYNC110 - a thread writes it
                await anyio.sleep(0.02)


def used(world: World) -> bool:
    [info] = world.gateway.records.read(listed)
    return info.keys[0].last_used_at is not None


async def test_without_the_records_the_default_key_reads_and_others_get_503(world: World) -> None:
    key = add(world.gateway.records, "one").key
    await world.close(world.gateway)
    world.files.damage(".records.db", b"x" * 8192)
    process = await world.open_process()
    async with world.http(process) as client:
        assert await status_of(client, "/api/pods") == 200
    async with world.http(process, key=key) as client:
        answer = await client.get("/api/limits")
        assert (answer.status_code, answer.json()["code"]) == (503, "records_unavailable")


# Starting.


async def test_a_server_needs_the_api_key_or_a_caller(world: World) -> None:
    process = await world.open_process(api_key=None)
    with pytest.raises(SettingsError, match="callers add"):
        create_app(process)
    made = add(world.gateway.records, "one")
    async with world.http(process, key=made.key) as client:
        assert await status_of(client) == 200
    async with world.http(process, key="") as client:
        assert await status_of(client) == 401
    remove(world.gateway.records, "one")
    with pytest.raises(SettingsError, match="callers add"):
        create_app(process)


async def test_the_key_of_a_caller_is_never_the_one_of_the_settings(world: World) -> None:
    made = add(world.gateway.records, "one")
    process = await world.open_process(api_key=SecretStr(made.key))
    for _ in range(2):
        with pytest.raises(SettingsError, match="is the key of a caller") as raised:
            create_app(process)
        assert made.key not in str(raised.value)
        rotate(world.gateway.records, "one")


async def test_a_server_without_an_api_key(tmp_path: Path, sandbox: Sandbox) -> None:
    made = add(open_records(tmp_path), "one")
    async with served_sandbox(sandbox) as variables, start_server(tmp_path, **variables, API_KEY="") as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": made.key}, trust_env=False) as client:
            assert await status_of(client) == 200
            assert await status_of(client, "/api/pods") == 403
            revoke(open_records(tmp_path), "one")
            assert await status_of(client) == 401
        assert made.key not in server.log()


# What a caller may do without a policy.


async def test_a_caller_without_scopes_reads_its_own_limits_and_attempts_only(world: World) -> None:
    await world.transfer(1_000)
    before = len(world.requests())
    async with caller(world, "one") as client:
        for path in READS:
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path
            assert set(answer.json()) == {"detail", "code"}
        limits = (await client.get("/api/limits")).json()
        assert await status_of(client, "/nothing") == 404
    assert limits == {
        "caller": "one",
        "frozen": False,
        "frozen_reason": None,
        "frozen_since": None,
        "used_cents": 0,
        "windows": [],
        "date": limits["date"],
        "unsettled": [],
    }
    assert len(world.requests()) == before


async def test_a_refused_transfer_is_recorded_and_tells_nothing_about_the_account(world: World) -> None:
    async with caller(world, "one") as client:
        known = await send(client, world, 1_000)
        unknown = await send_body(client, body(world) | {"source_id": str(uuid4())})
        for answer in (known, unknown):
            assert answer.status_code == 403
            document = answer.json()
            assert (document["code"], document["outcome"], document["retry"]) == (
                "scope_missing",
                "nothing_moved",
                "never",
            )
            attempt = (await client.get(f"/api/attempts/{document['attempt_id']}")).json()
            assert (attempt["state"], attempt["code"]) == ("rejected", "scope_missing")
    assert {line["caller"] for line in world.files.trail() if line["event_type"] == "transfer_rejected"} == {"one"}
    assert await world.moved() == []


async def test_the_default_caller_has_what_it_had(world: World) -> None:
    async with caller(world, "one") as other, world.http() as client:
        answer = await send(other, world, 1_000)
        assert await status_of(client, f"/api/attempts/{answer.json()['attempt_id']}") == 200
        assert (await client.get("/api/limits")).json()["remaining_cents"] > 0
        assert await status_of(client, "/metrics") == 200
        assert (await send(client, world, 1_000)).status_code == 200


# What belongs to a caller.


@pytest.mark.usefixtures("_may_move")
async def test_attempts_of_others_do_not_exist(world: World) -> None:
    async with caller(world, "one") as one, caller(world, "two") as two:
        made = (await send(one, world, 1_000)).json()
        theirs = await two.get(f"/api/attempts/{made['attempt_id']}")
        nobody = await two.get("/api/attempts/00000000-0000-4000-8000-000000000000")
        assert (theirs.status_code, nobody.status_code) == (404, 404)
        assert theirs.json()["detail"].replace(made["attempt_id"], "") == nobody.json()["detail"].replace(
            "00000000-0000-4000-8000-000000000000", ""
        )
        assert (await one.get(f"/api/attempts/{made['attempt_id']}")).json()["state"] == "accepted"


@pytest.mark.usefixtures("_may_move")
async def test_idempotency_keys_and_unknown_outcomes_belong_to_the_caller(world: World) -> None:
    async with caller(world, "one") as one, caller(world, "two") as two, world.http() as default:
        first = [await send(client, world, 1_000) for client in (one, two, default)]
        assert [answer.status_code for answer in first] == [200] * 3
        assert len({answer.json()["attempt_id"] for answer in first}) == 3
        again = await send(two, world, 1_000)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json()["attempt_id"] == first[1].json()["attempt_id"]
        world.fail("close", when="after")
        lost = await send(one, world, 2_000, key="lost")
        assert lost.status_code == 502
        for client in (two, default):
            assert (await send(client, world, 2_000, key="lost")).status_code == 200
        refused = await send(one, world, 2_000, key="another")
        assert (refused.status_code, refused.json()["attempt_id"]) == (409, lost.json()["attempt_id"])
    assert len(await world.moved()) == 6


@pytest.mark.usefixtures("_may_move")
async def test_a_rotated_key_keeps_attempts_and_idempotency_keys(world: World) -> None:
    async with caller(world, "one") as one:
        made = (await send(one, world, 1_000)).json()
    async with world.http(key=rotate(world.gateway.records, "one").key) as one:
        assert (await send(one, world, 1_000)).json()["attempt_id"] == made["attempt_id"]
        assert (await one.get("/api/limits")).json()["used_cents"] == 1_000


@pytest.mark.usefixtures("_may_move")
async def test_limits_tell_a_caller_its_own_spending(world: World) -> None:
    async with caller(world, "one") as one, caller(world, "two") as two, world.http() as default:
        await world.transfer(7_000)
        made = (await send(one, world, 1_000)).json()
        assert made["daily_remaining_cents"] == world.settings.max_daily_transfer_cents - 1_000
        world.fail("close", when="after")
        await send(one, world, 2_000, key="lost")
        seen = [(await client.get("/api/limits")).json() for client in (one, two, default)]
        assert [limits["used_cents"] for limits in seen] == [3_000, 0, 7_000]
        assert [len(limits["unsettled"]) for limits in seen] == [1, 0, 0]


async def test_the_rate_belongs_to_the_caller(tmp_path: Path) -> None:
    async with (
        open_world(tmp_path, max_transfer_attempts_per_minute=1) as world,
        caller(world, "one") as one,
        caller(world, "two") as two,
    ):
        let_move(world)
        clients = enumerate((one, two, one, two))
        statuses = [(await send(client, world, 1, key=f"key-{number}")).status_code for number, client in clients]
        assert statuses == [200, 200, 429, 429]


@pytest.mark.usefixtures("_may_move")
@pytest.mark.parametrize("end", [revoke, remove, rotate])
async def test_what_waits_is_released_when_its_key_ends(world: World, end: Any) -> None:
    process = await world.open_process()
    turn = asyncio.Event()
    prepare = process.client.prepare_transfer

    async def wait(*arguments: Any, **named: Any) -> Any:
        await turn.wait()
        return await prepare(*arguments, **named)

    process.client.prepare_transfer = wait  # type: ignore[method-assign]
    kept = add(world.gateway.records, "kept").key
    ended = add(world.gateway.records, "ended").key
    async with world.http(process, key=kept) as one, world.http(process, key=ended) as two:
        waiting = [asyncio.create_task(send(client, world, 1_000)) for client in (one, two)]
        await until_reserved(world, 2)
        end(world.gateway.records, "ended")
        with anyio.fail_after(5):
            answer = await waiting[1]
        assert (answer.status_code, answer.json()["code"], answer.json()["retry"]) == (403, "key_revoked", "never")
        turn.set()
        assert (await waiting[0]).status_code == 200
    assert sorted(world.states()) == ["accepted", "cancelled"]
    assert len(await world.moved()) == 1
    cancelled = [line for line in world.files.trail() if line["event_type"] == "transfer_cancelled"]
    assert [(line["caller"], line["code"]) for line in cancelled] == [("ended", "key_revoked")]


@pytest.mark.usefixtures("_may_move")
async def test_the_announcing_transaction_looks_at_the_key_again(world: World) -> None:
    process = await world.open_process()
    process.transfers.check_stopped = lambda _: None  # type: ignore[method-assign, assignment]
    key = add(world.gateway.records, "one").key
    prepare = process.client.prepare_transfer

    async def revoke_meanwhile(*arguments: Any, **named: Any) -> Any:
        prepared = await prepare(*arguments, **named)
        revoke(world.gateway.records, "one")
        return prepared

    process.client.prepare_transfer = revoke_meanwhile  # type: ignore[method-assign]
    async with world.http(process, key=key) as client:
        assert (await send(client, world, 1_000)).json()["code"] == "key_revoked"
    assert await world.moved() == []


def body(world: World, amount_cents: int = 1_000) -> dict[str, Any]:
    return world.order(amount_cents).model_dump(mode="json", exclude_none=True)


async def send(client: httpx.AsyncClient, world: World, amount_cents: int, key: str | None = "key") -> httpx.Response:
    """Request a transfer, without reading the account."""
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post("/api/transfers", json=body(world, amount_cents), headers=headers)


async def until_reserved(world: World, count: int) -> None:
    with anyio.fail_after(10):
        while world.states() != ["reserved"] * count:  # noqa: ASYNC110 - the database has no event for it
            await anyio.sleep(0.01)


# Logs and metrics.


async def test_no_key_gets_into_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="pysequence_api")  # commands of other tests may have set it
    key = add(world.gateway.records, "one").key
    encoded = f"psq%5F{key[4:]}"
    async with world.http(key=key) as client:
        for path in (f"/{key}", f"/api/pods/{key}/balance", f"/{encoded}", f"/{key[:20]}%{ord(key[20]):x}{key[21:]}"):
            await client.get(f"{path}?key={key}", headers={"X-Request-ID": key})
            await client.get(path, headers={"X-Request-ID": f"x-{key}"})
        await client.request(key, "/nothing")
        await client.get("/nothing", headers={"X-API-Key": f"{key}x"})
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("pysequence_api")]
    assert len([line for line in ours if " by " in line]) == 10
    assert [line for line in ours if key[4:] in line or key[-20:] in line] == []
    fields = [str(record.__dict__.get("fields")) for record in caplog.records]
    assert [line for line in fields if key[4:] in line or key[-20:] in line] == []


async def test_a_program_logs_no_key_whatever_is_sent(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    from pysequence_api.cli.logs import log_for_server  # noqa: PLC0415

    root, level = logging.getLogger(), logging.getLogger("pysequence_api").level
    handlers = root.handlers[:]
    key = add(world.gateway.records, "one").key
    try:
        log_for_server(world.settings)
        async with world.http() as client:
            await send_body(client, {"source_id": key, "destination_id": "x", "amount_cents": 1})
            await client.get("/api/limits")  # until then, the end of the transfer is logged
    finally:
        root.handlers[:] = handlers
        logging.getLogger("pysequence_api").setLevel(level)
    written = capsys.readouterr().err
    assert "psq_(removed)" in written
    assert key[4:] not in written


async def send_body(client: httpx.AsyncClient, document: dict[str, Any]) -> httpx.Response:
    """Request a transfer, with a new idempotency key."""
    return await client.post("/api/transfers", json=document, headers={"Idempotency-Key": str(uuid4())})


async def test_metrics_and_log_name_the_caller(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pysequence_api.api")
    key = add(world.gateway.records, "one").key
    async with world.http() as client:
        await client.get("/api/limits", headers={"X-API-Key": key})
        await client.post("/api/transfers", json=body(world), headers={"X-API-Key": key, "Idempotency-Key": "key"})
        await client.get("/api/limits", headers={"X-API-Key": "wrong"})
        found = await numbers(client)
    for labels in (("one", "GET", "/api/limits", "200"), ("one", "POST", "/api/transfers", "403")):
        assert found["http_requests_total", *labels] == 1
    assert found["http_requests_total", "none", "GET", "none", "401"] == 1
    assert found["transfers_total", "one", "scope_missing"] == 1
    logged = [record.__dict__["fields"]["caller"] for record in caplog.records if hasattr(record, "fields")]
    assert logged == ["one", "one", "none", "default"]
