"""Null or missing data is accepted anywhere, a wrong type spoils only its field, and no answer ends in a crash."""

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysequence_api.errors import GatewayError, NotFoundError, RefusedError, UnreadableAnswerError
from pysequence_api.models import Accounts, ActivityPage, PodDetail, Transfer, TransferReceipt
from pysequence_api.sandbox import ORGANIZATION_ID
from pysequence_api.sequence.graphql.answers import Answer
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.sequence.graphql.parsing import (
    read_accounts,
    read_activity,
    read_payment,
    read_pod_detail,
    read_summary,
    read_transfer_detail,
)
from pysequence_api.sequence.nodes import Gaps, Node
from pysequence_api.text import mask_number, plain_text
from tests.sequence.conftest import DESTINATION_ID, ClientWorld, order_of, transfer

pytestmark = pytest.mark.anyio

Read = Callable[[GraphQLSequenceClient, str], Awaitable[object]]
OPERATIONS: dict[str, Read] = {
    "SelectSourceAndDestination": lambda client, _: client.accounts(),
    "PodDrawerContent": lambda client, _: client.pod_detail(ORGANIZATION_ID, DESTINATION_ID),
    "ActivitySummary": lambda client, _: client.activity_summary(),
    "ActivityLogV2Transfers": lambda client, _: client.activity(ORGANIZATION_ID, first=5),
    "TransferReferenceDrawerContentV2": lambda client, identifier: client.transfer_detail(ORGANIZATION_ID, identifier),
    "CreatePayment": lambda client, _: transfer(client, order_of()),
}
PARSERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "SelectSourceAndDestination": lambda data: read_accounts(answer_of(data), None),
    "PodDrawerContent": lambda data: read_pod_detail(answer_of(data), "organization", "pod"),
    "ActivitySummary": lambda data: read_summary(answer_of(data)),
    "ActivityLogV2Transfers": lambda data: read_activity(answer_of(data), "organization"),
    "TransferReferenceDrawerContentV2": lambda data: read_transfer_detail(answer_of(data), "organization", "transfer"),
    "CreatePayment": lambda data: read_payment(answer_of(data)),
}
UNUSABLE = {
    "SelectSourceAndDestination": {"me", "me.memberships"},
    "PodDrawerContent": {"organization", "organization.pod"},
    "ActivitySummary": {"activitySummary"},
    "ActivityLogV2Transfers": {
        "organization",
        "organization.transferReferences",
        "organization.transferReferences.edges",
    },
    "TransferReferenceDrawerContentV2": {"organization", "organization.transferReference"},
    "CreatePayment": {"forKYC", "forKYC.createPayment", "forKYC.createPayment.ok", "forKYC.createPayment.error"},
}
"""Without these, nothing of an answer can be used."""


def answer_of(data: dict[str, Any]) -> Answer:
    return Answer("Operation", data, (), "a-secret")


class Recorder(httpx.AsyncBaseTransport):
    """Keeps the data of the latest answer."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.data: dict[str, Any] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        content = await answer.aread()
        self.data = json.loads(content)["data"]
        headers = {"date": answer.headers["date"]}
        return httpx.Response(answer.status_code, headers=headers, stream=httpx.ByteStream(content))


async def answer_data(world: ClientWorld, operation: str, identifier: str) -> dict[str, Any]:
    recorder = Recorder(world.sandbox.transport())
    client = GraphQLSequenceClient.open(world.settings, world.files.path, recorder)
    await OPERATIONS[operation](client, identifier)
    await client.aclose()
    return recorder.data


def paths_of(value: object, path: str = "") -> Iterator[str]:
    """List every path of an answer, with ``*`` for all entries of a list and ``0`` for the first."""
    below: list[tuple[str, object]] = []
    if isinstance(value, dict):
        below = list(value.items())
    elif isinstance(value, list):
        below = [(step, entry) for entry in value for step in ("*", "0")]
    for step, entry in below:
        yield f"{path}{step}"
        yield from paths_of(entry, f"{path}{step}.")


async def a_transfer(world: ClientWorld) -> str:
    page = await world.client().activity(ORGANIZATION_ID, first=100)
    return next(one.id for one in page.transfers if one.activity_type == "RULE")


@pytest.mark.parametrize("operation", PARSERS)
async def test_nulls_everywhere(world: ClientWorld, operation: str) -> None:
    data = await answer_data(world, operation, await a_transfer(world))
    paths = sorted(set(paths_of(data)))
    assert len(paths) >= 4
    for path in paths:
        for missing in (False, True):
            try:
                result = PARSERS[operation](changed(data, path.split("."), MISSING if missing else None))
            except NotFoundError:
                assert path in {"organization", "organization.pod", "organization.transferReference"}
            except UnreadableAnswerError:
                assert operation == "CreatePayment"
                assert path in {"forKYC", "forKYC.createPayment", "forKYC.createPayment.ok"}
            else:
                check(path, result, missing=missing)


MISSING = object()


def changed(value: Any, path: list[str], new: object) -> Any:
    """Copy a value, with another one or `MISSING` at a path, in which ``*`` stands for all entries of a list."""
    first, *rest = path
    if isinstance(value, dict):
        if first not in value:
            return value
        entry = changed(value[first], rest, new) if rest else new
        return {key: other for key, other in (value | {first: entry}).items() if other is not MISSING}
    if not isinstance(value, list):
        return value
    entries = [
        (changed(entry, rest, new) if rest else new) if first in {"*", str(number)} else entry
        for number, entry in enumerate(value)
    ]
    return [entry for entry in entries if entry is not MISSING]


def leaves_gap(path: list[str], missing: bool) -> bool:
    """Return whether an entry is visibly missing. An entry that was never in the list cannot be noticed."""
    match path:
        case [*_, "kycs", "*" | "0"] | [*_, "kycs", "*" | "0", "id"]:
            return False  # without KYC ids, the KYC id of a transfer is not checked
        case [*_, "*" | "0"]:
            return not missing
        case [*_, before, "id"]:
            return before in {"*", "0", "organization", "node"}
    return path[-1] in STRUCTURE


def check(path: str, result: object, *, missing: bool) -> None:
    """Check that missing data is reported as missing."""
    gone = path.split(".")
    if isinstance(result, Accounts):
        assert result.complete != leaves_gap(gone, missing)
        if gone[-1] in {"metadata", "balance", "cents"} and "pods" in gone:
            assert any(pod.balance_cents is None and pod.balance is None for pod in result.pods)
    if isinstance(result, ActivityPage):
        assert result.complete != leaves_gap(gone, missing)
        if gone[-1] in {"amount", "cents"}:
            assert any(transfer.amount_cents is None and transfer.amount is None for transfer in result.transfers)
    if isinstance(result, PodDetail) and gone[-1] in {"metadata", "balance"} and "liabilityMetadata" not in gone:
        assert (result.balance_cents, result.balance) == (None, None)
    if isinstance(result, TransferReceipt) and gone[-1] == "organization":
        assert (result.organization_id, result.transfers) == (None, ())


STRUCTURE = {
    "me", "memberships", "organization", "pods", "ports", "accounts",
    "transferReferences", "edges", "node", "pageInfo", "endCursor", "hasNextPage",
}  # fmt: skip


WRONG: list[object] = ["text", 5, 1.5, True, [], {}, ["text"], "\ud800", 10**400, -0.0]


@pytest.mark.parametrize("operation", PARSERS)
async def test_wrong_types_everywhere(world: ClientWorld, operation: str) -> None:
    data = await answer_data(world, operation, await a_transfer(world))
    for path in sorted({path for path in paths_of(data) if "*" not in path}):
        for wrong in WRONG:
            before = value_at(data, path)
            try:
                result = PARSERS[operation](changed(data, path.split("."), wrong))
            except (UnreadableAnswerError, NotFoundError):
                assert path in UNUSABLE[operation]
            except RefusedError:
                assert path == "forKYC.createPayment.error"
            else:
                json.dumps(result.model_dump(mode="json") if hasattr(result, "model_dump") else str(result)).encode()
                if before is not None and type(before) is not type(wrong) and hasattr(result, "complete"):
                    assert result.complete == ("kycs" in path or path.endswith(".cursor"))  # these are not shown


def value_at(value: Any, path: str) -> object:
    """Return what is at a path; ``None`` if only another entry of the list has it."""
    for step in path.split("."):
        if isinstance(value, list):
            value = value[int(step)]
        elif isinstance(value, dict):
            value = value.get(step)
    found: object = value
    return found


def objects_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = ["me", "memberships", "organization", "pods", "id", "metadata", "balance", "cents", "transferReferences"]
    keys += ["edges", "node", "amount", "createdAt", "forKYC", "createPayment", "ok", "error", "details", "__typename"]
    return st.dictionaries(st.sampled_from(keys), inner)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | objects_of(inner),
    max_leaves=12,
)


@given(data=objects_of(JSON), operation=st.sampled_from(sorted(PARSERS)))
def test_any_answer_ends_in_a_result_or_a_gateway_error(data: dict[str, Any], operation: str) -> None:
    with suppress(GatewayError):
        PARSERS[operation](data)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T10:00:00.000Z", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("2026-11-23T10:00:00+02:00", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23", date(2026, 11, 23)),
        ("2026-11-23T10:00:00", None),
        ("2026-02-30", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("soon", None),
        ("", None),
    ],
)
def test_times(text: str, moment: object) -> None:
    gaps = Gaps()
    read = Node({"at": text}, gaps).moment("at")
    assert (read, type(read)) == (moment, type(moment))
    assert bool(gaps) == (moment is None and text != "")


def test_unknown_values_pass_through() -> None:
    edges = [{"node": {"id": "a", "status": "ON_HOLD", "source": {"__typename": "Robot", "name": "R"}}}]
    data = {"organization": {"transferReferences": {"edges": edges}}}
    (transfer,) = read_activity(answer_of(data), "o").transfers
    assert isinstance(transfer, Transfer)
    assert (transfer.status, transfer.source.name, transfer.source.type) == ("ON_HOLD", "R", None)


@pytest.mark.parametrize(
    ("number", "masked"), [("000123456789", "••••6789"), ("12345", "••••2345"), ("1234", "••••"), ("", "••••")]
)
def test_account_numbers_are_masked(number: str, masked: str) -> None:
    assert mask_number(number) == masked


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Insufficient funds", "Insufficient funds"),
        ("two\r\nlines\x1b[31m\u202e\x00", "two lines [31m"),
        ("account 000123456789 is closed", "account ••••6789 is closed"),
        ("12\u200b3456\u200b789", "••••6789"),
        ("card 4111 1111 1111 1234 or 4111-1111-1111-1234", "card ••••1234 or ••••1234"),
        ("on 2026-11-23 you had $1,500.00", "on 2026-11-23 you had $1,500.00"),
        ("pod 3f2b8a52-5d0e-4d8e-9b57-123456789012", "pod 3f2b8a52-5d0e-4d8e-9b57-123456789012"),
        ("Authorization: Bearer abc.def was bad", "Authorization: (removed) was bad"),
        ("token eyJhbGciOi.eyJzdWIi.c2ln.", "token (removed)"),
        ("a-known-secret is known", "(removed) is known"),
        ("<!DOCTYPE html><html>", "(an HTML page)"),
        ("try <b>again</b>", "(an HTML page)"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        (" \n ", "(no text)"),
        ("x" * 5000, "x" * 199 + "…"),
    ],
)
def test_plain_text(text: str, plain: str) -> None:
    assert plain_text(text, secrets=["a-known-secret", "is"]) == plain


@given(text=st.text(max_size=3000), limit=st.integers(20, 300))
def test_plain_text_is_one_short_printable_line(text: str, limit: int) -> None:
    plain = plain_text(text, limit)
    assert len(plain) <= limit
    assert plain == " ".join(plain.split())
    plain.encode()
