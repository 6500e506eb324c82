"""A whole world for a test: the simulated Sequence, a data directory, and the gateways on it.

`World` runs in this process. What the program has to do as a process of its own, `tests.processes` runs.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from pysequence_api.api import create_app
from pysequence_api.errors import OutcomeUnknownError
from pysequence_api.gateway import Gateway, open_gateway
from pysequence_api.mcp.route import add_mcp
from pysequence_api.models import TransferOrder
from pysequence_api.records.attempts import Attempt
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import THE_DEFAULT, THE_OWNER, Caller
from pysequence_api.records.states import State
from pysequence_api.safeguards.follow_up import LONG_AGO, Finding
from pysequence_api.safeguards.judge import needs_key
from pysequence_api.safeguards.status import AttemptStatus, read_attempt
from pysequence_api.safeguards.transfers import CompletedTransfer, PendingTransfer
from pysequence_api.sandbox import CLIENT_ID, KYC_ID, ORGANIZATION_ID, PLATFORM_PATH, KeyPermissions, Sandbox
from pysequence_api.sandbox.faults import Fault
from pysequence_api.sandbox.household import ORGANIZATIONS
from pysequence_api.sandbox.journal import JournalEntry
from pysequence_api.sandbox.server import serve
from pysequence_api.sequence.client import Upstream
from pysequence_api.sequence.pacing import Pacer
from pysequence_api.sequence.platform import client as platform_client
from pysequence_api.settings import Settings

API_KEY = "sandbox"
GRACE_SECONDS = 600.0
SOURCE, DESTINATION = "Emergency Fund", "Rent"
TOKEN_SECONDS = 30 * 86_400
PLATFORM_OPERATIONS = {
    "CreatePayment": "PlatformCreateTransfer",
    "SelectSourceAndDestination": "PlatformAccounts",
    "ActivityLogV2Transfers": "PlatformTransfers",
    "TransferReferenceDrawerContentV2": "PlatformTransfer",
    "PodDrawerContent": "PlatformAccount",
}


async def forever(*_: object, **__: object) -> None:
    """Wait, and never end."""
    await asyncio.Event().wait()


@dataclass
class DataDirectory:
    """The files of a data directory, as a person reads them."""

    path: Path

    def trail(self) -> list[dict[str, Any]]:
        """Read the audit trail."""
        path = self.path / ".audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def events(self, attempt_id: str | None = None) -> list[str]:
        """List the events of the audit trail, without their ``transfer_``, of all attempts or of one."""
        lines = (line for line in self.trail() if attempt_id in {None, line.get("attempt_id")})
        return [line["event_type"].removeprefix("transfer_") for line in lines]

    def counted(self) -> list[dict[str, Any]]:
        """List the entries of ``.daily_limits.json``."""
        path = self.path / ".daily_limits.json"
        days = json.loads(path.read_text()) if path.exists() else {}
        lists = (value for day in days.values() for value in (day.values() if isinstance(day, dict) else [day]))
        return [entry for value in lists if isinstance(value, list) for entry in value]

    def read_json(self, name: str) -> Any:
        """Read a file that is one JSON document."""
        return json.loads((self.path / name).read_text())

    def damage(self, name: str, content: bytes | None = None) -> None:
        """Write something else into a file, or remove it."""
        if content is None:
            (self.path / name).unlink()
        else:
            (self.path / name).write_bytes(content)


@dataclass
class World:
    """One account at the simulated Sequence, one data directory, and the gateways on it.

    Each gateway stands for a process; `open_process` adds one, and `kill` takes one away as the system does.
    """

    sandbox: Sandbox
    settings: Settings
    files: DataDirectory
    processes: list[Gateway] = field(default_factory=list)
    pod_ids: dict[str, str] = field(default_factory=dict)
    resends: bool = False
    """Whether a transfer whose answer was lost is sent again, where the upstream allows it."""
    _stacks: dict[int, AsyncExitStack] = field(default_factory=dict)

    @property
    def upstream(self) -> Upstream:
        """Which API the gateways use."""
        return Upstream(self.settings.upstream or Upstream.GRAPHQL)

    @property
    def gateway(self) -> Gateway:
        """The first process."""
        return self.processes[0]

    async def open_process(self, **changes: Any) -> Gateway:
        """Open a gateway on the same data directory, with other settings if wanted."""
        stack = AsyncExitStack()
        settings = self.settings.model_copy(update=changes)
        gateway = await stack.enter_async_context(open_gateway(settings, transport=self.sandbox.transport()))
        if not self.resends:
            gateway.client.capabilities = replace(gateway.client.capabilities, resend=False)
            gateway.transfers.resending.capabilities = gateway.client.capabilities
        self.processes.append(gateway)
        self._stacks[id(gateway)] = stack
        return gateway

    async def close(self, gateway: Gateway) -> None:
        """Close a gateway in order."""
        self.processes.remove(gateway)
        await self._stacks.pop(id(gateway)).aclose()

    async def kill(self, gateway: Gateway) -> None:
        """Take a process away as the system does: its locks are free, and nothing else happens."""
        self.processes.remove(gateway)
        self._stacks.pop(id(gateway)).pop_all()
        gateway.records.abandon()
        await gateway.client.aclose()

    async def aclose(self) -> None:
        """Close every gateway."""
        for gateway in tuple(self.processes):
            await self.close(gateway)

    def order(self, amount_cents: int = 5_000, *, source: str = SOURCE, **more: Any) -> TransferOrder:
        """Make an order from one pod to another."""
        parties = {"source_id": self.pod_ids[source], "destination_id": self.pod_ids[DESTINATION]}
        kyc = {"kyc_id": KYC_ID} if self.upstream is Upstream.GRAPHQL else {}
        return TransferOrder(**({"amount_cents": amount_cents} | kyc | parties | more))

    async def transfer(
        self,
        amount_cents: int = 5_000,
        *,
        key: str | None = None,
        process: Gateway | None = None,
        channel: Channel = Channel.API,
        caller: Caller | None = None,
        **more: Any,
    ) -> CompletedTransfer:
        """Move money from one pod to another."""
        caller = caller or (THE_OWNER if channel is Channel.CLI else THE_DEFAULT)
        key = key or (str(uuid4()) if needs_key(caller.name) else None)
        order = self.order(amount_cents, **more)
        done = await (process or self.gateway).transfers.transfer(order, channel, key, caller=caller)
        assert isinstance(done, CompletedTransfer)
        return done

    async def ask(
        self, amount_cents: int = 5_000, *, caller: Caller, key: str | None = None, **more: Any
    ) -> PendingTransfer:
        """Request a transfer for which a rule asks the owner."""
        order = self.order(amount_cents, **more)
        asked = await self.gateway.transfers.transfer(order, Channel.API, key or str(uuid4()), caller=caller)
        assert isinstance(asked, PendingTransfer)
        return asked

    async def transfer_outside(self, amount_cents: int = 5_000, **more: Any) -> None:
        """Move money at Sequence without the gateway, as the owner does in Sequence's own application."""
        prepared = await self.gateway.client.prepare_transfer(
            self.order(amount_cents, **more), attempt_id=str(uuid4()), caller="owner"
        )
        await prepared.send()

    async def leave(
        self, state: State, process: Gateway | None = None, *, answers_after_seconds: float = 60, **more: Any
    ) -> str:
        """Begin a transfer, kill its process when the attempt is in this state, and give its attempt id."""
        process = process or self.gateway
        known = {attempt.id for attempt in self.attempts()}
        if state is State.RESERVED:
            process.client.prepare_transfer = forever  # type: ignore[method-assign, assignment]
        else:
            self.fail({"kind": "delay", "seconds": answers_after_seconds})
        sent = len(self.requests("CreatePayment"))
        task = asyncio.create_task(self.transfer(process=process, **more))
        while True:
            begun = [one for one in self.attempts() if one.id not in known and one.state is state]
            if begun and (state is State.RESERVED or len(self.requests("CreatePayment")) > sent):
                break
            await asyncio.sleep(0.005)
        await self.kill(process)
        task.cancel()
        return begun[0].id

    async def lose(self, *, moved: bool = True, **more: Any) -> str:
        """Make a transfer whose answer is lost, and give its attempt id."""
        self.fail("close", when="after" if moved else "before")
        with pytest.raises(OutcomeUnknownError) as unknown:
            await self.transfer(**more)
        assert unknown.value.attempt_id is not None
        return unknown.value.attempt_id

    async def follow_up(self, process: Gateway | None = None) -> list[Finding]:
        """Look up what became of transfers whose outcome is unknown."""
        return await (process or self.gateway).follow_up.run()

    def fail(self, *what: Any, operation: str = "CreatePayment", when: str = "before", count: int = 1) -> None:
        """Have Sequence fail at the next requests of an operation, by its GraphQL name for both APIs."""
        fault = {"operation": self._operation(operation), "what": what, "when": when, "count": count}
        self.sandbox.faults.arm([Fault.model_validate(fault)])

    def requests(self, operation: str | None = None) -> list[JournalEntry]:
        """List the requests that Sequence received, of all operations or of one, named as `fail` does."""
        entries = self.sandbox.journal.read().requests
        wanted = None if operation is None else self._operation(operation)
        return [entry for entry in entries if wanted in {None, entry.operation}]

    def _operation(self, name: str) -> str:
        return name if self.upstream is Upstream.GRAPHQL else PLATFORM_OPERATIONS.get(name, name)

    def cache_tokens(self, *, lifetime_seconds: int = 86_400, **changes: Any) -> dict[str, Any]:
        """Put new tokens into the token cache, in the format of ``pysequence-sdk``."""
        issued = self.sandbox.issue_tokens(lifetime_seconds)
        tokens: dict[str, Any] = {
            "access_token": issued.access_token,
            "refresh_token": issued.refresh_token,
            "expires_at": time.time() + lifetime_seconds,
        } | changes
        self.files.damage(".tokens.json", json.dumps(tokens).encode())
        return tokens

    async def moved(self) -> list[dict[str, Any]]:
        """List what Sequence really moved, oldest first."""
        async with httpx.AsyncClient(transport=self.sandbox.transport(), base_url="http://sequence") as control:
            transfers: list[dict[str, Any]] = (await control.get("/sandbox/transfers")).json()["transfers"]
        return transfers

    def used_cents(self, process: Gateway | None = None) -> int:
        """Say what counts today."""
        return (process or self.gateway).limits().used_cents

    def attempts(self) -> list[Attempt]:
        """List all attempts, oldest first."""
        return self.gateway.records.read(lambda reader: reader.attempts_since(LONG_AGO))

    def states(self) -> list[str]:
        """List the states of all attempts, oldest first."""
        return [attempt.state.value for attempt in self.attempts()]

    def attempt(self, attempt_id: str) -> AttemptStatus:
        """Say what is known of an attempt."""
        return read_attempt(self.gateway.records, attempt_id)

    @asynccontextmanager
    async def http(self, process: Gateway | None = None, key: str = API_KEY) -> AsyncIterator[httpx.AsyncClient]:
        """Call the HTTP API of a process, with a key."""
        app = create_app(process or self.gateway)
        add_mcp(app)
        transport = httpx.ASGITransport(app)
        headers = {"X-API-Key": key}
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
            yield client


def world_settings(directory: Path, sandbox: Sandbox, *, token_seconds: int = TOKEN_SECONDS, **more: Any) -> Settings:
    """Make the settings of a gateway that talks to a sandbox, through GraphQL unless ``upstream`` says otherwise."""
    if more.get("upstream") == Upstream.PLATFORM:
        key = sandbox.issue_platform_key(KeyPermissions(requests_per_minute=1_000_000))
        more = {"platform_key": SecretStr(key), "access_token": None, "kyc_id": None} | more
    values: dict[str, Any] = {
        "access_token": SecretStr(sandbox.issue_tokens(lifetime_seconds=token_seconds).access_token),
        "auth0_client_id": CLIENT_ID,
        "org_id": ORGANIZATION_ID,
        "kyc_id": KYC_ID,
        "api_key": SecretStr(API_KEY),
        "data_dir": directory,
        "request_interval_seconds": 0,
        "request_jitter_seconds": 0,
        "read_max_age_seconds": 0,  # tests change what Sequence has behind the gateway's back
        "reconcile_grace_seconds": GRACE_SECONDS,
    }
    given = {name: value for name, value in (values | more).items() if value is not None}
    return Settings.model_validate(given)  # `load` looks into the environment and the files, where a test has nothing


@asynccontextmanager
async def serving(sandbox: Sandbox) -> AsyncIterator[str]:
    """Serve a sandbox over HTTP on a free port, and yield its base URL."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(sandbox, port=0, on_ready=ready.set_result))
    try:
        yield await ready
    finally:
        task.cancel()
        await asyncio.wait([task])


def urls_of(base_url: str) -> dict[str, str]:
    """Return the settings that lead to a sandbox served at a URL."""
    return {
        "graphql_url": f"{base_url}/api/graphql",
        "auth_url": base_url,
        "app_url": base_url,
        "platform_url": f"{base_url}{PLATFORM_PATH}",
    }


def _unlimited(directory: Path, **limits: Any) -> Pacer:
    return Pacer(directory, **limits | {"interval_seconds": 0, "bucket_requests": 1})


@asynccontextmanager
async def open_world(
    directory: Path,
    sandbox: Sandbox | None = None,
    *,
    resends: bool = False,
    **settings: Any,
) -> AsyncIterator[World]:
    """Open a world with one process.

    Args:
        directory: the data directory; the simulated Sequence keeps its file there too.
        sandbox: a simulated Sequence to use instead of a new one.
        resends: see `World.resends`.
        **settings: what differs from the usual settings.
    """
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(platform_client, "Pacer", _unlimited)  # the limit has tests of its own
        if sandbox is None:
            sandbox = Sandbox(directory / "sequence.sqlite")
            stack.push_async_callback(sandbox.aclose)
        world = World(
            sandbox, world_settings(directory, sandbox, **settings), DataDirectory(directory), resends=resends
        )
        stack.push_async_callback(world.aclose)
        await world.open_process()
        shown = ORGANIZATIONS if world.upstream is Upstream.GRAPHQL else ORGANIZATIONS[:1]
        world.pod_ids = {pod.name: pod.id for organization in shown for pod in organization.pods}
        yield world
