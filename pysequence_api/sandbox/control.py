"""The control routes below ``/sandbox/``: arm faults, list requests and transfers, issue tokens and keys.

Sequence does not have these routes. They require no token, because the sandbox listens on loopback only and has no real
money.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from pysequence_api.sandbox.auth import DEFAULT_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS, Auth, TokenSettings
from pysequence_api.sandbox.faults import Fault, FaultList
from pysequence_api.sandbox.http import Request, Response, json_response, model_response
from pysequence_api.sandbox.ids import CONTROL_PREFIX
from pysequence_api.sandbox.journal import Journal
from pysequence_api.sandbox.ledger import TransferRow, open_ledger
from pysequence_api.sandbox.login import Login
from pysequence_api.sandbox.platform.keys import KeyPermissions, issue_key
from pysequence_api.sandbox.timestamps import write_date, write_time

_FAULTS: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault], config=ConfigDict(defer_build=True))


class MovedTransfer(BaseModel):
    """A transfer that ``CreatePayment`` made."""

    id: str
    source: str
    destination: str
    amount_cents: int
    created_at: str
    status: str
    """The current status, as Sequence shows it once the transfer is visible."""


class MovedTransfers(BaseModel):
    """What really moved, oldest first, and the total for each UTC day. Faults do not change it."""

    transfers: tuple[MovedTransfer, ...]
    total_cents_by_day: dict[str, int]


class _TokenRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    lifetime_seconds: int = Field(DEFAULT_LIFETIME_SECONDS, ge=-MAX_LIFETIME_SECONDS, le=MAX_LIFETIME_SECONDS)


class _Tokens(BaseModel):
    access_token: str = Field(repr=False)
    refresh_token: str = Field(repr=False)
    expires_in_seconds: int


class _Key(BaseModel):
    key: str = Field(repr=False)


@dataclass(frozen=True, slots=True)
class Control:
    """Responds to the control routes of one sandbox."""

    path: Path
    clock: Callable[[], float]
    auth: Auth
    login: Login
    faults: FaultList
    journal: Journal

    async def respond(self, request: Request) -> Response:
        """Respond to a request below `CONTROL_PREFIX`."""
        routes: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {
            ("POST", "faults"): self._arm_faults,
            ("GET", "faults"): self._armed_faults,
            ("DELETE", "faults"): self._disarm_faults,
            ("GET", "requests"): self._requests,
            ("DELETE", "requests"): self._clear_requests,
            ("GET", "transfers"): self._transfers,
            ("POST", "tokens"): self._issue_tokens,
            ("POST", "platform-keys"): self._issue_platform_key,
            ("GET", "settings"): self._settings,
            ("PUT", "settings"): self._change_settings,
            ("GET", "sign-ins"): self._sign_ins,
            ("DELETE", "sign-ins"): self._clear_sign_ins,
        }
        route = routes.get((request.method, request.path.removeprefix(CONTROL_PREFIX)))
        if route is None:
            return json_response({"error": f"The sandbox has no route {request.method} {request.path[:200]}."}, 404)
        try:
            return await route(request)
        except ValidationError as error:
            return json_response({"error": "The body is not valid for this route.", "details": _describe(error)}, 422)

    async def _arm_faults(self, request: Request) -> Response:
        body = request.body.strip()
        faults = _FAULTS.validate_json(body if body.startswith(b"[") else b"[" + body + b"]")
        try:
            self.faults.arm(faults)
        except ValueError as error:
            return json_response({"error": str(error)}, 422)
        return model_response(self.faults.armed())

    async def _armed_faults(self, _: Request) -> Response:
        return model_response(self.faults.armed())

    async def _disarm_faults(self, _: Request) -> Response:
        self.faults.clear()
        return model_response(self.faults.armed())

    async def _requests(self, _: Request) -> Response:
        return model_response(self.journal.read())

    async def _clear_requests(self, _: Request) -> Response:
        self.journal.clear()
        return model_response(self.journal.read())

    async def _transfers(self, _: Request) -> Response:
        rows = await anyio.to_thread.run_sync(self._payments)
        totals: dict[str, int] = {}
        for row in rows:
            day = write_date(row.created_at_ms)
            totals[day] = totals.get(day, 0) + row.amount_cents
        return model_response(MovedTransfers(transfers=tuple(_moved(row) for row in rows), total_cents_by_day=totals))

    def _payments(self) -> tuple[TransferRow, ...]:
        with open_ledger(self.path, self.clock) as ledger:
            return ledger.payments()

    async def _issue_tokens(self, request: Request) -> Response:
        wanted = _TokenRequest.model_validate_json(request.body or b"{}")
        issued = await anyio.to_thread.run_sync(self.auth.issue, wanted.lifetime_seconds)
        return model_response(
            _Tokens(
                access_token=issued.access_token,
                refresh_token=issued.refresh_token,
                expires_in_seconds=issued.expires_in_seconds,
            )
        )

    async def _issue_platform_key(self, request: Request) -> Response:
        wanted = KeyPermissions.model_validate_json(request.body or b"{}")
        return model_response(_Key(key=await anyio.to_thread.run_sync(issue_key, self.path, wanted, self.clock)))

    async def _settings(self, _: Request) -> Response:
        return model_response(self.auth.settings)

    async def _change_settings(self, request: Request) -> Response:
        self.auth.settings = TokenSettings.model_validate_json(request.body)
        return model_response(self.auth.settings)

    async def _sign_ins(self, _: Request) -> Response:
        return model_response(self.login.read())

    async def _clear_sign_ins(self, _: Request) -> Response:
        self.login.clear()
        return model_response(self.login.read())


def _moved(row: TransferRow) -> MovedTransfer:
    return MovedTransfer(
        id=row.id,
        source=row.source.id,
        destination=row.destination.id,
        amount_cents=row.amount_cents,
        created_at=write_time(row.created_at_ms),
        status=row.status,
    )


def _describe(error: ValidationError) -> list[JsonValue]:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return [f"{'.'.join(str(step) for step in one['loc']) or 'body'}: {one['msg']}" for one in problems]
