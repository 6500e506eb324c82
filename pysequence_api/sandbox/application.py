"""The sandbox and its ASGI application: the endpoints and sign-in pages of Sequence, and the control routes."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import httpx
from pydantic import JsonValue, ValidationError

from pysequence_api.collector import collector_paused
from pysequence_api.sandbox.auth import DEFAULT_LIFETIME_SECONDS, Auth, IssuedTokens, TokenSettings
from pysequence_api.sandbox.database import prepare
from pysequence_api.sandbox.faults import NOT_RUN, TOKEN_OPERATION, Fault, FaultList
from pysequence_api.sandbox.http import (
    CONNECTION_EXTENSION,
    MAX_REQUEST_BYTES,
    ASGIApp,
    Connection,
    Delivery,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    deliver,
    json_response,
    load_object,
    read_request,
)
from pysequence_api.sandbox.ids import CONTROL_PREFIX
from pysequence_api.sandbox.journal import SECRET_HEADERS, Journal, JournalEntry
from pysequence_api.sandbox.ledger import Ledger, open_ledger
from pysequence_api.sandbox.login import Login
from pysequence_api.sandbox.platform import PLATFORM_PATH
from pysequence_api.sandbox.seed import seed
from pysequence_api.sandbox.simulated import Simulated, simulated
from pysequence_api.sandbox.timestamps import write_time
from pysequence_api.sandbox.transport import RunningRequests, SandboxTransport

if TYPE_CHECKING:
    from pysequence_api.sandbox.control import Control
    from pysequence_api.sandbox.graphql import Context
    from pysequence_api.sandbox.platform.api import Platform
    from pysequence_api.sandbox.platform.keys import KeyPermissions

CLOSING_SECONDS = 1.0
"""How long closing waits for requests that are still running."""
GRAPHQL_PATH = "/api/graphql"
TOKEN_PATH = "/oauth/token"
_JOURNALED_BODY_BYTES = 16 * 1024
"""The journal leaves out the variables of larger requests."""
_JOURNALED_TOKEN_FIELDS = ("grant_type", "client_id")


@dataclass(frozen=True, slots=True)
class _Operation:
    """What a request asks for, as far as its body can be read."""

    name: str | None
    """As faults name it; ``None`` if no fault applies."""
    variables: JsonValue
    run: Callable[[Fault | None], Response]
    """Runs the operation. Blocks."""
    hold: AbstractContextManager[object] = field(default_factory=nullcontext)
    """Held while the operation runs, with the faults that delay it."""


class SandboxApplication:
    """The simulated Sequence on one SQLite file."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        *,
        auth: Auth,
        login: Login,
        faults: FaultList,
        journal: Journal,
    ) -> None:
        self._path = path
        self._clock = clock
        self._auth = auth
        self._login = login
        self._faults = faults
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"This application does not support {scope['type']}.")
        arrived_at, arrived_monotonic_seconds = self._clock(), time.monotonic()
        connection: Connection | None = scope.get("extensions", {}).get(CONNECTION_EXTENSION)
        request = await read_request(scope, receive)
        if request is None:
            return
        if request.path.startswith(CONTROL_PREFIX):
            await deliver(await self._control.respond(request), self._clock(), connection, receive, send)
            return
        operation = self._find_operation(request)
        fault = None if operation.name is None else self._faults.take(operation.name)
        entry = JournalEntry(
            number=0,
            arrived_monotonic_seconds=arrived_monotonic_seconds,
            arrived_at=write_time(int(arrived_at * 1000)),
            method=request.method,
            path=request.path,
            operation=operation.name or None,
            variables=operation.variables,
            fault=tuple(effect.kind for effect in fault.what) if fault else (),
            connection_id=connection.connection_id if connection else None,
            connection_is_fresh=connection.is_fresh if connection else None,
            headers={name: value for name, value in request.headers if name not in SECRET_HEADERS},
        )
        self._journal.add(entry)
        with operation.hold:
            response = await _run(operation, fault)
        entry.delivery = response.delivery
        entry.status = None if response.delivery is Delivery.NOTHING else response.status
        entry.answered_monotonic_seconds = time.monotonic()
        await deliver(response, self._clock(), connection, receive, send)

    def _find_operation(self, request: Request) -> _Operation:
        if len(request.body) > MAX_REQUEST_BYTES:
            return _refusal(413, "Payload Too Large")
        if request.path.startswith(PLATFORM_PATH):
            return self._platform_operation(request)
        page = self._login.find(request)
        if page is not None:
            name, run = page
            return _Operation(name, None, lambda _: run())
        if request.path not in (GRAPHQL_PATH, TOKEN_PATH):
            return _refusal(404, "Not Found")
        if request.method != "POST":
            return _refusal(405, "Method Not Allowed")
        return self._token_operation(request) if request.path == TOKEN_PATH else self._graphql_operation(request)

    @cached_property
    def _control(self) -> "Control":
        from pysequence_api.sandbox.control import Control  # noqa: PLC0415 - for tests of clients

        return Control(self._path, self._clock, self._auth, self._login, self._faults, self._journal)

    @cached_property
    def _platform(self) -> "Platform":
        from pysequence_api.sandbox.platform.api import Platform  # noqa: PLC0415 - half of the sandbox

        return Platform(self._path, self._clock)

    def _platform_operation(self, request: Request) -> _Operation:
        found = self._platform.find(request)
        if found is None:
            return _Operation(None, None, lambda _: self._platform.not_found())
        return _Operation(
            name=found.name,
            variables=found.variables if len(request.body) <= _JOURNALED_BODY_BYTES else None,
            run=lambda fault: found.run(simulated(fault)),
            hold=found.hold,
        )

    def _graphql_operation(self, request: Request) -> _Operation:
        body = load_object(request.body)
        name = body.get("operationName")
        return _Operation(
            name=name if isinstance(name, str) else "",
            variables=body.get("variables") if len(request.body) <= _JOURNALED_BODY_BYTES else None,
            run=partial(self._execute, request),
        )

    def _token_operation(self, request: Request) -> _Operation:
        body = load_object(request.body)
        return _Operation(
            name=TOKEN_OPERATION,
            variables={name: str(body[name])[:100] for name in _JOURNALED_TOKEN_FIELDS if name in body},
            run=lambda _: self._auth.refresh(request.body),
        )

    def _execute(self, request: Request, fault: Fault | None) -> Response:
        if not self._auth.is_authorized(request.header("authorization")):
            return json_response({"error": "Unauthorized", "message": "The access token is missing or invalid."}, 401)
        with collector_paused():
            from pysequence_api.sandbox.graphql import GraphqlRequest, execute  # noqa: PLC0415 - half of the sandbox

        try:
            document = GraphqlRequest.model_validate_json(request.body)
        except ValidationError:
            return json_response({"error": "Bad Request", "message": "The body is not a GraphQL request."}, 400)
        with open_ledger(self._path, self._clock) as ledger:
            return json_response(execute(document, _context(ledger, simulated(fault))))


async def _run(operation: _Operation, fault: Fault | None) -> Response:
    """Run an operation, with the fault that it meets."""
    if fault is None:
        return await anyio.to_thread.run_sync(operation.run, None)
    if fault.when == "before":
        await anyio.sleep(fault.delay_seconds)
    response = await anyio.to_thread.run_sync(operation.run, fault) if fault.runs_operation else NOT_RUN
    response = fault.change(response)
    if fault.when == "after":
        await anyio.sleep(fault.delay_seconds)
    return response


def _context(ledger: Ledger, effects: Simulated) -> "Context":
    from pysequence_api.sandbox.graphql import Context  # noqa: PLC0415 - see `_execute`

    ledger.activity_lag_seconds = effects.activity_lag_seconds
    return Context(
        ledger,
        refusal=effects.refusal.message if effects.refusal else None,
        hide_new_transfer=effects.hide_new_transfer,
        payment_faults=effects.payment,
    )


def _refusal(status: int, error: str) -> _Operation:
    return _Operation(None, None, lambda _: json_response({"error": error}, status))


class Sandbox:
    """A simulated Sequence on one SQLite file, to be called in process or served over HTTP.

    Transfers and tokens are in the file. Faults, the journal and sign-ins in progress are in memory.
    """

    app: ASGIApp

    def __init__(self, database_path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open a sandbox. Create its file if it does not exist, readable by its owner only.

        Args:
            database_path: the SQLite file; its directory must exist.
            clock: Unix time in seconds. Everything in the sandbox uses it.

        Raises:
            SandboxFileError: the file is not a sandbox file.
            OSError: the file cannot be created.
        """
        prepare(database_path, lambda connection: seed(connection, int(clock() * 1000)))
        self._path = database_path
        self._clock = clock
        self._auth = Auth(database_path, clock)
        self.login = Login(clock, self._auth)
        self._requests = RunningRequests()
        self.faults = FaultList()
        self.journal = Journal()
        self.app = SandboxApplication(
            database_path, clock, auth=self._auth, login=self.login, faults=self.faults, journal=self.journal
        )

    @property
    def settings(self) -> TokenSettings:
        """Return how sign-in and the token endpoint behave."""
        return self._auth.settings

    @settings.setter
    def settings(self, settings: TokenSettings) -> None:
        self._auth.settings = settings

    def issue_tokens(self, lifetime_seconds: int = DEFAULT_LIFETIME_SECONDS) -> IssuedTokens:
        """Issue an access token and a refresh token. Blocks for a short write to the file.

        Args:
            lifetime_seconds: how long the access token is valid; 0 or less issues an expired one.
        """
        return self._auth.issue(lifetime_seconds)

    def accept(self, access_token: str) -> None:
        """Accept this access token, too, as long as this process runs."""
        self._auth.accept(access_token)

    def issue_platform_key(self, permissions: "KeyPermissions | None" = None) -> str:
        """Make a key of the Platform API. Blocks for a short write to the file.

        Args:
            permissions: what the key may do; everything in the first organization by default.
        """
        from pysequence_api.sandbox.platform.keys import KeyPermissions, issue_key  # noqa: PLC0415

        return issue_key(self._path, permissions or KeyPermissions(), self._clock)

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport that calls the sandbox in process.

        Closing the transport closes neither the sandbox nor requests that are still running.
        """
        return SandboxTransport(self.app, self._requests.start)

    async def aclose(self) -> None:
        """Wait for in-process requests that are still running, at most `CLOSING_SECONDS`, then cancel the rest."""
        await self._requests.finish(CLOSING_SECONDS)
