"""The routes of the Platform API: who may call them, and what they answer (docs/upstream-platform.md)."""

import itertools
import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs

from pydantic import BaseModel, JsonValue

from pysequence_api.sandbox.database import connected
from pysequence_api.sandbox.household import DELETED_PODS, HOLDERS, ORGANIZATION_BY_ID, Holder
from pysequence_api.sandbox.http import TEXT_TYPE, Request, Response, json_response, load_object
from pysequence_api.sandbox.ledger import (
    ActivityType,
    Direction,
    Ledger,
    Movement,
    Page,
    PaymentRefusedError,
    TransferQuery,
    check_route,
)
from pysequence_api.sandbox.platform import PLATFORM_PATH, shapes
from pysequence_api.sandbox.platform.errors import PlatformError
from pysequence_api.sandbox.platform.errors import PlatformErrorCode as Code
from pysequence_api.sandbox.platform.idempotency import Claim, RunningKeys
from pysequence_api.sandbox.platform.keys import Permission, PlatformKey, find_key, take_turn
from pysequence_api.sandbox.platform.parameters import (
    AccountList,
    AccountTransferList,
    Paging,
    Parameters,
    TransferBody,
    TransferFilters,
    TransferList,
    TriggerBody,
    read_body,
    read_query,
)
from pysequence_api.sandbox.platform.rules import MANUAL_TRIGGER, RULES, Rule, execution_id, transfer_id_of
from pysequence_api.sandbox.simulated import Simulated
from pysequence_api.sandbox.timestamps import to_ms

_NOTHING = "NOTHING"
"""A filter that matches no transfer."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request with a valid key, and what it works on."""

    request: Request
    ids: tuple[str, ...]
    key: PlatformKey
    connection: sqlite3.Connection
    ledger: Ledger
    simulated: Simulated

    def account(self, account_id: str) -> Holder:
        """Return an account that the key may see."""
        holder = self.key.knows(account_id)
        if holder is None:
            raise PlatformError(Code.ACCOUNT_NOT_FOUND, "Account not found")
        if not self.key.has(holder):
            raise PlatformError(Code.ACCESS_DENIED, "The key has no access to this account")
        return holder

    def rule(self) -> Rule:
        """Return the rule of the request."""
        for rule in RULES:
            if rule.id == self.ids[0] and rule.organization_id == self.key.may.organization_id:
                return rule
        raise PlatformError(Code.RULE_NOT_FOUND, "Rule not found")


Answer = BaseModel | dict[str, JsonValue]
Handler = Callable[[Call], tuple[int, Answer]]


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    path: re.Pattern[str]
    operation: str
    permission: Permission
    handler: Handler
    in_progress: Code | None = None
    """What a request gets while another one with its idempotency key is running; ``None``: it has no such key."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A request as the application runs it."""

    name: str
    """As faults name it."""
    variables: JsonValue
    """The body, or the query of a request without one."""
    run: Callable[[Simulated], Response]
    """Blocks."""
    hold: AbstractContextManager[object]
    """Held while the request runs, with the faults that delay it."""


class Platform:
    """The Platform API of one sandbox."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._running = RunningKeys()
        self._numbers = itertools.count(1)

    @staticmethod
    def not_found() -> Response:
        """Respond to an unknown path or method."""
        return Response(404, b"Not Found", TEXT_TYPE)

    def find(self, request: Request) -> Operation | None:
        """Find the operation of a request below `PLATFORM_PATH`; ``None`` if there is none."""
        path = request.path.removeprefix(PLATFORM_PATH)
        for route in _ROUTES:
            match = route.path.fullmatch(path)
            if match and route.method == request.method:
                claim = Claim(self._running, request) if route.in_progress else None
                return Operation(
                    name=route.operation,
                    variables=_variables(request),
                    run=partial(self._run, route, request, match.groups(), claim),
                    hold=claim or nullcontext(),
                )
        return None

    def _run(
        self, route: _Route, request: Request, ids: tuple[str, ...], claim: Claim | None, simulated: Simulated
    ) -> Response:
        with connected(self._path) as connection:
            ledger = Ledger(connection, self._clock)
            ledger.activity_lag_seconds = simulated.activity_lag_seconds
            try:
                key = self._admit(connection, request, route.permission)
                call = Call(request, ids, key, connection, ledger, simulated)
                if claim is not None and route.in_progress is not None:
                    claim.check(route.in_progress)
                    return self._run_once(call, claim, route.handler)
                ledger.hold_snapshot()
                return self._answer(*route.handler(call))
            except PlatformError as error:
                return error.response

    def _run_once(self, call: Call, claim: Claim, handler: Handler) -> Response:
        """Run an operation unless its idempotency key has an answer."""
        with call.ledger.writing():
            now_ms = call.ledger.now_ms()
            answer = claim.stored_answer(call.connection, call.key.hash, now_ms)
            if answer is None:
                answer = self._answer(*handler(call))
                claim.store(call.connection, call.key.hash, now_ms, answer)
            return answer

    def _admit(self, connection: sqlite3.Connection, request: Request, permission: Permission) -> PlatformKey:
        key = find_key(connection, request.header("authorization"))
        if key is None:
            raise PlatformError(Code.UNAUTHORIZED, "The API key is missing or invalid")
        wait_seconds = take_turn(connection, key, int(self._clock() * 1000))
        if wait_seconds is not None:
            headers = (("retry-after", str(wait_seconds)),)
            raise PlatformError(Code.RATE_LIMIT_EXCEEDED, "Too many requests with this API key", headers)
        if permission not in key.may.permissions:
            raise PlatformError(Code.ACCESS_DENIED, f"The API key lacks the permission {permission}")
        return key

    def _answer(self, status: int, data: Answer) -> Response:
        content = data.model_dump(by_alias=True, mode="json") if isinstance(data, BaseModel) else data
        return json_response({"data": content, "requestId": f"req-{next(self._numbers)}"}, status)


def _variables(request: Request) -> JsonValue:
    if request.body:
        return load_object(request.body)
    parameters: dict[str, JsonValue] = {}
    for name, values in parse_qs(request.query).items():
        parameters[name] = list(values) if len(values) > 1 else values[0]
    return parameters


def _accounts(call: Call) -> tuple[int, Answer]:
    wanted = read_query(AccountList, call.request.query)
    organization = ORGANIZATION_BY_ID[call.key.may.organization_id]
    found = [
        shapes.summary(holder, call.ledger)
        for holder in (*organization.holders, *(organization.deleted_pods if wanted.state == "ALL" else ()))
        if call.key.has(holder) and wanted.type in {None, shapes.account_type(holder)}
    ]
    return 200, _cut(found, wanted)


def _account(call: Call) -> tuple[int, Answer]:
    read_query(Parameters, call.request.query)
    return 200, shapes.full_account(call.account(call.ids[0]), call.ledger)


def _account_transfers(call: Call) -> tuple[int, Answer]:
    wanted = read_query(AccountTransferList, call.request.query)
    ids = (call.account(call.ids[0]).id,)
    return 200, _transfer_page(
        call,
        wanted,
        source_ids=() if wanted.account_role == "destination" else ids,
        destination_ids=() if wanted.account_role == "source" else ids,
    )


def _transfers(call: Call) -> tuple[int, Answer]:
    wanted = read_query(TransferList, call.request.query)
    ids = [call.account(account_id).id for account_id in wanted.account_ids]
    return 200, _transfer_page(call, wanted, source_ids=ids, destination_ids=ids)


def _transfer_page(
    call: Call, wanted: TransferFilters, *, source_ids: Sequence[str], destination_ids: Sequence[str]
) -> Answer:
    query = _transfer_query(wanted, source_ids, destination_ids)
    page: Page = call.ledger.numbered_page(
        call.key.may.organization_id, query, number=wanted.page, size=wanted.page_size
    )
    return _list([shapes.transfer(row) for row in page.rows], wanted, has_next_page=page.has_next_page)


def _transfer_query(
    wanted: TransferFilters, source_ids: Sequence[str], destination_ids: Sequence[str]
) -> TransferQuery:
    activity_types: tuple[str, ...] = ()
    directions: tuple[str, ...] = tuple(Direction)
    if wanted.direction is not None:
        directions = (shapes.DIRECTIONS[wanted.direction],)
    if wanted.origin is not None:
        activity_type, possible = shapes.ORIGINS[wanted.origin] or (_NOTHING, ())
        activity_types = (activity_type,)
        directions = tuple(one for one in directions if one in possible)
    return TransferQuery(
        created_from_ms=None if wanted.from_ is None else to_ms(wanted.from_),
        created_until_ms=None if wanted.to is None else to_ms(wanted.to),
        statuses=() if wanted.status is None else (shapes.STATUSES[wanted.status] or _NOTHING,),
        directions=directions or (_NOTHING,),
        activity_types=activity_types,
        source_ids=source_ids,
        destination_ids=destination_ids,
        only_id=None if wanted.rule_execution_id is None else transfer_id_of(wanted.rule_execution_id),
        simulations={"LIVE": False, "SIMULATION": True, "ALL": None}[wanted.execution_mode],
    )


def _transfer(call: Call) -> tuple[int, Answer]:
    read_query(Parameters, call.request.query)
    row = call.ledger.readable_transfer(call.key.may.organization_id, call.ids[0])
    if row is None:
        raise PlatformError(Code.TRANSFER_NOT_FOUND, "Transfer not found")
    allowed = call.key.may.account_ids
    if allowed is not None and allowed.isdisjoint((row.source.id, row.destination.id)):
        raise PlatformError(Code.ACCESS_DENIED, "The API key has no access to the accounts of this transfer")
    return 200, shapes.transfer(row)


def _create_transfer(call: Call) -> tuple[int, Answer]:
    read_query(Parameters, call.request.query)
    body = read_body(TransferBody, call.request.body)
    _refuse_if_told(call)
    source, destination = call.key.knows(body.source_account_id), call.key.knows(body.destination_account_id)
    if source is None or source.id in DELETED_PODS:
        raise PlatformError(Code.TRANSFER_SOURCE_NOT_FOUND, "The source account was not found")
    if destination is None or destination.id in DELETED_PODS:
        raise PlatformError(Code.TRANSFER_DESTINATION_NOT_FOUND, "The destination account was not found")
    try:
        check_route(source, destination)
    except PaymentRefusedError as error:
        raise PlatformError(Code.INVALID_PARAMETERS, str(error)) from error
    if not shapes.can_be_destination(destination):
        raise PlatformError(Code.INVALID_PARAMETERS, "This account cannot be the destination of a transfer")
    _check_permission(call.key, source, destination, body.amount_in_cents)
    movement = Movement(source, destination, body.amount_in_cents, body.description)
    row = call.ledger.add_transfer(movement, call.simulated.payment, simulation=body.simulation)
    return 201, shapes.transfer(row)


def _refuse_if_told(call: Call) -> None:
    refusal = call.simulated.refusal
    if refusal is not None:
        raise PlatformError(refusal.code, refusal.message)


def _check_permission(key: PlatformKey, source: Holder, destination: Holder, amount_cents: int) -> None:
    if not (key.has(source) and key.has(destination)):
        raise PlatformError(Code.ACCESS_DENIED, "The API key has no access to one of the accounts")
    if key.may.manual_transfers is None:
        return
    pair = [one for one in key.may.manual_transfers if (one.source, one.target) == (source.id, destination.id)]
    if not pair:
        raise PlatformError(Code.ACCESS_DENIED, "The API key does not allow transfers between these accounts")
    if all(one.max_amount is not None and one.max_amount < amount_cents for one in pair):
        raise PlatformError(Code.MAXIMUM_AMOUNT_EXCEEDED, "The amount is above the maximum of the API key")


def _rules(call: Call) -> tuple[int, Answer]:
    wanted = read_query(Paging, call.request.query)
    found = [shapes.rule_shape(rule) for rule in RULES if rule.organization_id == call.key.may.organization_id]
    return 200, _cut(found, wanted)


def _rule(call: Call) -> tuple[int, Answer]:
    read_query(Parameters, call.request.query)
    return 200, shapes.rule_shape(call.rule())


def _trigger_rule(call: Call) -> tuple[int, Answer]:
    read_query(Parameters, call.request.query)
    body = read_body(TriggerBody, call.request.body or b"{}")
    rule = call.rule()
    _refuse_if_told(call)
    source, destination = HOLDERS.get(rule.source.id), HOLDERS.get(rule.destination.id)
    if source is None or destination is None:
        raise PlatformError(Code.INVALID_RULE, "An account of the rule does not exist anymore")
    if not rule.is_active:
        raise PlatformError(Code.RULE_DEACTIVATED, "The rule is deactivated")
    amount_cents = rule.amount_cents if body.execute_amount is None else body.execute_amount
    movement = Movement(source, destination, amount_cents, rule_trigger_type=MANUAL_TRIGGER)
    row = call.ledger.add_transfer(movement, call.simulated.payment, simulation=body.simulation)
    return 202, {"executionId": execution_id(row)}


def _rule_executions(call: Call) -> tuple[int, Answer]:
    wanted = read_query(Paging, call.request.query)
    rule = call.rule()
    query = _executions_of(rule)
    page = call.ledger.numbered_page(rule.organization_id, query, number=wanted.page, size=wanted.page_size)
    return 200, _list([shapes.execution(row, rule) for row in page.rows], wanted, has_next_page=page.has_next_page)


def _rule_execution(call: Call) -> tuple[int, Answer]:
    read_query(Parameters, call.request.query)
    rule = call.rule()
    query = replace(_executions_of(rule), only_id=transfer_id_of(call.ids[1]))
    page = call.ledger.numbered_page(rule.organization_id, query, number=1, size=1)
    if not page.rows:
        raise PlatformError(Code.RULE_EXECUTION_NOT_FOUND, "Rule execution not found")
    return 200, shapes.execution(page.rows[0], rule)


def _executions_of(rule: Rule) -> TransferQuery:
    between = (rule.source.id, rule.destination.id)
    return TransferQuery(activity_types=(ActivityType.RULE,), between=between, simulations=None)


def _cut(items: Sequence[BaseModel], wanted: Paging) -> dict[str, JsonValue]:
    start = (wanted.page - 1) * wanted.page_size
    end = start + wanted.page_size
    return _list(items[start:end], wanted, has_next_page=len(items) > end)


def _list(items: Sequence[BaseModel], wanted: Paging, *, has_next_page: bool) -> dict[str, JsonValue]:
    pagination = shapes.Pagination(page=wanted.page, page_size=wanted.page_size, has_next_page=has_next_page)
    return {
        "items": [one.model_dump(by_alias=True, mode="json") for one in items],
        "pagination": pagination.model_dump(by_alias=True),
    }


def _route(
    endpoint: str, operation: str, permission: Permission, handler: Handler, *, in_progress: Code | None = None
) -> _Route:
    method, path = endpoint.split()
    pattern = re.compile(path.replace("{id}", "([^/]+)"))
    return _Route(method, pattern, f"Platform{operation}", permission, handler, in_progress)


_ROUTES = (
    _route("GET /accounts", "Accounts", Permission.READ_ACCOUNTS, _accounts),
    _route("GET /accounts/{id}", "Account", Permission.READ_ACCOUNTS, _account),
    _route("GET /accounts/{id}/transfers", "AccountTransfers", Permission.READ_TRANSFERS, _account_transfers),
    _route("GET /transfers", "Transfers", Permission.READ_TRANSFERS, _transfers),
    _route("GET /transfers/{id}", "Transfer", Permission.READ_TRANSFERS, _transfer),
    _route(
        "POST /transfers",
        "CreateTransfer",
        Permission.MANUAL_TRANSFER,
        _create_transfer,
        in_progress=Code.TRANSFER_IN_PROGRESS,
    ),
    _route("GET /rules", "Rules", Permission.READ_RULES, _rules),
    _route("GET /rules/{id}", "Rule", Permission.READ_RULES, _rule),
    _route("GET /rules/{id}/executions", "RuleExecutions", Permission.READ_RULES, _rule_executions),
    _route("GET /rules/{id}/executions/{id}", "RuleExecution", Permission.READ_RULES, _rule_execution),
    _route(
        "POST /rules/{id}/trigger",
        "TriggerRule",
        Permission.TRIGGER_RULES,
        _trigger_rule,
        in_progress=Code.RULE_EXECUTION_IN_PROGRESS,
    ),
)
