"""The ASGI application: Sequence's endpoints and sign-in pages, with their faults, and the control routes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
from pydantic import JsonValue, ValidationError
from pydantic_core import from_json

from pysequence_api.sandbox.auth import DEFAULT_LIFETIME_SECONDS, Auth, IssuedTokens, TokenSettings
from pysequence_api.sandbox.control import CONTROL_PREFIX, Control
from pysequence_api.sandbox.database import prepare
from pysequence_api.sandbox.faults import (
    NOT_RUN,
    TOKEN_OPERATION,
    DelayEffect,
    Fault,
    FaultList,
    HideNewTransferEffect,
    InvisibleEffect,
    RefuseEffect,
    distort,
    replace_response,
)
from pysequence_api.sandbox.graphql import Context, GraphqlRequest, execute
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
    read_request,
)
from pysequence_api.sandbox.journal import SECRET_HEADERS, Journal, JournalEntry
from pysequence_api.sandbox.ledger import open_ledger
from pysequence_api.sandbox.login import Login
from pysequence_api.sandbox.seed import seed
from pysequence_api.sandbox.timestamps import write_moment
from pysequence_api.sandbox.transport import RunningExchanges, SandboxTransport

GRAPHQL_PATH = "/api/graphql"
TOKEN_PATH = "/oauth/token"
_JOURNALED_BODY_BYTES = 16 * 1024
"""Variables of larger requests are not remembered."""
_JOURNALED_TOKEN_FIELDS = ("grant_type", "client_id")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request wants, as far as its body can be read."""

    operation: str | None
    variables: JsonValue
    run: Callable[[Fault | None], Response]
    """Does it; blocks."""


class SandboxApplication:
    """Sequence, simulated, for one SQLite file."""

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
        self._control = Control(path, clock, auth, login, faults, journal)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"This application does not speak {scope['type']}.")
        arrived_at, arrived_monotonic_seconds = self._clock(), time.monotonic()
        connection: Connection | None = scope.get("extensions", {}).get(CONNECTION_EXTENSION)
        request = await read_request(scope, receive)
        if request is None:
            return
        if request.path.startswith(CONTROL_PREFIX):
            await deliver(await self._control.answer(request), self._clock(), connection, receive, send)
            return
        asked = self._read(request)
        fault = None if asked.operation is None else self._faults.take(asked.operation)
        entry = JournalEntry(
            number=0,
            arrived_monotonic_seconds=arrived_monotonic_seconds,
            arrived_at=write_moment(int(arrived_at * 1000)),
            method=request.method,
            path=request.path,
            operation=asked.operation or None,
            variables=asked.variables,
            fault=tuple(effect.kind for effect in fault.what) if fault else (),
            connection_id=connection.connection_id if connection else None,
            connection_is_fresh=connection.is_fresh if connection else None,
            headers={name: value for name, value in request.headers if name not in SECRET_HEADERS},
        )
        self._journal.add(entry)
        answer = await _run_with(fault, asked)
        entry.delivery = answer.delivery
        entry.status = None if answer.delivery is Delivery.NOTHING else answer.status
        entry.answered_monotonic_seconds = time.monotonic()
        await deliver(answer, self._clock(), connection, receive, send)

    def _read(self, request: Request) -> _Asked:
        if len(request.body) > MAX_REQUEST_BYTES:
            return _plain(json_response({"error": "Payload Too Large"}, 413))
        page = self._login.find(request)
        if page is not None:
            operation, run = page
            return _Asked(operation, None, lambda _: run())
        if request.path not in (GRAPHQL_PATH, TOKEN_PATH):
            return _plain(json_response({"error": "Not Found"}, 404))
        if request.method != "POST":
            return _plain(json_response({"error": "Method Not Allowed"}, 405))
        if request.path == TOKEN_PATH:
            return self._read_token(request)
        return self._read_graphql(request)

    def _read_graphql(self, request: Request) -> _Asked:
        body = _load(request.body)
        operation = body.get("operationName")
        return _Asked(
            operation=operation if isinstance(operation, str) else "",
            variables=body.get("variables") if len(request.body) <= _JOURNALED_BODY_BYTES else None,
            run=partial(self._graphql, request),
        )

    def _read_token(self, request: Request) -> _Asked:
        body = _load(request.body)
        return _Asked(
            operation=TOKEN_OPERATION,
            variables={name: str(body[name])[:100] for name in _JOURNALED_TOKEN_FIELDS if name in body},
            run=lambda _: self._auth.token_endpoint(request.body),
        )

    def _graphql(self, request: Request, fault: Fault | None) -> Response:
        if not self._auth.is_authorized(request.header("authorization")):
            return json_response({"error": "Unauthorized", "message": "The access token is missing or invalid."}, 401)
        try:
            asked = GraphqlRequest.model_validate_json(request.body)
        except ValidationError:
            return json_response({"error": "Bad Request", "message": "The body is not a GraphQL request."}, 400)
        with open_ledger(self._path, self._clock) as ledger:
            context = Context(ledger)
            for effect in fault.what if fault else ():
                if isinstance(effect, RefuseEffect):
                    context.refusal = effect.message
                elif isinstance(effect, HideNewTransferEffect):
                    context.hide_new_transfer = True
                elif isinstance(effect, InvisibleEffect):
                    context.invisible_seconds = effect.seconds
            return json_response(execute(asked, context))


async def _run_with(fault: Fault | None, asked: _Asked) -> Response:
    """Do what was asked, and what a fault does to it, in the order in which it says."""
    if fault is None:
        return await anyio.to_thread.run_sync(asked.run, None)
    delay_seconds = sum(effect.seconds for effect in fault.what if isinstance(effect, DelayEffect))
    replacing = fault.response_effect()
    if fault.when == "before":
        await anyio.sleep(delay_seconds)
    if fault.when == "before" and replacing is not None:
        answer = NOT_RUN
    else:
        answer = await anyio.to_thread.run_sync(asked.run, fault)
    answer = distort(fault.what, answer)
    if replacing is not None:
        answer = replace(replace_response(replacing, answer), date_offset_seconds=answer.date_offset_seconds)
    if fault.when == "after":
        await anyio.sleep(delay_seconds)
    return answer


def _plain(answer: Response) -> _Asked:
    """A request that no fault is for."""
    return _Asked(None, None, lambda _: answer)


def _load(body: bytes) -> dict[str, JsonValue]:
    try:
        read = from_json(body)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


CLOSING_SECONDS = 1.0
"""How long closing waits for exchanges that still run."""


class Sandbox:
    """A simulated Sequence. Money and tokens are in the file; faults, the journal and logins under way in
    this object's memory."""

    app: ASGIApp

    def __init__(self, database_path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open a sandbox; create its file, readable by its owner alone, and fill it, if there is none.

        Args:
            database_path: the SQLite file; its directory must exist.
            clock: Unix time in seconds, which everything in the simulation goes by.

        Raises:
            SandboxFileError: the file is something else.
            OSError: it cannot be created.
        """
        prepare(database_path, lambda connection: seed(connection, int(clock() * 1000)))
        self._auth = Auth(database_path, clock)
        self.login = Login(clock, self._auth)
        self._exchanges = RunningExchanges()
        self.faults = FaultList()
        self.journal = Journal()
        self.app = SandboxApplication(
            database_path, clock, auth=self._auth, login=self.login, faults=self.faults, journal=self.journal
        )

    @property
    def settings(self) -> TokenSettings:
        """How signing in and the token endpoint behave."""
        return self._auth.settings

    @settings.setter
    def settings(self, settings: TokenSettings) -> None:
        self._auth.settings = settings

    def issue_tokens(self, lifetime_seconds: int = DEFAULT_LIFETIME_SECONDS) -> IssuedTokens:
        """Issue an access and a refresh token. Blocks for a short write to the file.

        Args:
            lifetime_seconds: how long the access token is valid; 0 or less makes one that has run out.
        """
        return self._auth.issue(lifetime_seconds)

    def transport(self) -> httpx.AsyncBaseTransport:
        """Make an in-process transport; closing it leaves the sandbox open, and running exchanges running."""
        return SandboxTransport(self.app, self._exchanges.start)

    async def aclose(self) -> None:
        """Wait for in-process exchanges that still run, no longer than `CLOSING_SECONDS`; cancel the rest."""
        await self._exchanges.finish(CLOSING_SECONDS)
