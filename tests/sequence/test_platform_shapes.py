"""Whatever an answer of the Platform API holds, it is read, or ends in one of our errors."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysequence_api.errors import GatewayError, InvalidRequestError, SequenceError, UnreadableAnswerError
from pysequence_api.models import ActivityFilter, TransferDetail
from pysequence_api.sequence.platform.activity import ActivityQuery, Cursor
from pysequence_api.sequence.platform.answers import Answer, read_answer, read_creation
from pysequence_api.sequence.platform.parsing import (
    read_account,
    read_created,
    read_page,
    read_pod_detail,
    read_summaries,
    read_transfer_detail,
    read_transfers,
)
from pysequence_api.sequence.transport import HttpAnswer
from tests.sequence.platform_world import ORGANIZATION, platform_order

ACCOUNT: dict[str, Any] = {
    "id": "a",
    "name": "Rent",
    "type": "POD",
    "externalAccountType": None,
    "institutionName": None,
    "canBeSource": True,
    "linkedAccount": {"id": "b", "name": "Card"},
    "routingNumber": "021000021",
    "bankAccountNumber": "000123454821",
    "savingsTargetInCents": 5,
    "balance": {"balanceInCents": 7, "error": None, "balanceLastUpdatedAt": "2026-11-29T00:00:00Z"},
}
ORDER = platform_order(2_500)
TRANSFER: dict[str, Any] = {
    "id": "t",
    "amountInCents": 2_500,
    "direction": "INTERNAL",
    "origin": "USER",
    "source": {"id": ORDER.source_id, "name": "A", "type": "POD", "isDeleted": False},
    "destination": {"id": ORDER.destination_id, "name": "B", "type": "POD", "isDeleted": False},
    "status": "COMPLETE",
    "executionMode": "LIVE",
    "errorCode": None,
    "createdAt": "2026-11-29T00:00:00.000Z",
    "completedAt": "2026-11-29T00:00:10.000Z",
}


def a_list(item: Any) -> dict[str, Any]:
    return {"items": [item], "pagination": {"page": 1, "pageSize": 100, "hasNextPage": False}}


def read_list_of_accounts(data: dict[str, Any]) -> object:
    summaries, _ = read_summaries(Answer("GET /accounts", data))
    return [read_account(one, one.node, ORGANIZATION) for one in summaries]


def read_pod(data: dict[str, Any]) -> object:
    answer = Answer("GET /accounts/{id}", data)
    return read_pod_detail(answer, "a", ORGANIZATION, answer.unread(), Answer("x", a_list(TRANSFER)))


def read_activity(data: dict[str, Any]) -> object:
    return read_transfers(read_page(Answer("GET /transfers", data)).items)


def read_one(data: dict[str, Any]) -> TransferDetail:
    return read_transfer_detail(Answer("GET /transfers/{id}", data), "t")


def read_new(data: dict[str, Any]) -> object:
    return read_created(Answer("POST /transfers", data), ORDER, ORGANIZATION)


READS: list[tuple[Callable[[dict[str, Any]], object], dict[str, Any]]] = [
    (read_list_of_accounts, a_list(ACCOUNT)),
    (read_pod, ACCOUNT),
    (read_activity, a_list(TRANSFER)),
    (read_one, TRANSFER),
    (read_new, TRANSFER),
]
ODD: list[Any] = [None, True, 0, -1, 1.5, 10**30, "", "text", "\ud800", [], [None], {}, {"id": 5}]


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the path of each value in a document."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from paths_of(child, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy with another value at a path."""
    if not path:
        return value
    result = copy.deepcopy(document)
    below = result
    for key in path[:-1]:
        below = below[key]
    below[path[-1]] = value
    return result


@pytest.mark.parametrize(("read", "data"), READS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_value_anywhere_ends_in_no_crash(
    read: Callable[[dict[str, Any]], object], data: dict[str, Any]
) -> None:
    read(data)
    for path in [path for path in paths_of(data) if path]:
        for odd in ODD:
            try:
                result = read(changed(data, path, odd))
            except GatewayError:
                continue
            text = json.dumps([one.model_dump(mode="json") for one in _models(result)])
            assert "000123454821" not in text
            text.encode()


def _models(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (list, tuple)) else [result]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", None),
        ("id", ""),
        ("amountInCents", 2_499),
        ("amountInCents", "2500"),
        ("amountInCents", None),
        ("source", None),
        ("source", TRANSFER["destination"]),
        ("destination", {"id": None, "name": "B", "type": "EXTERNAL_ENTITY"}),
        ("executionMode", "SIMULATION"),
    ],
)
def test_a_created_transfer_must_be_the_ordered_one(key: str, value: Any) -> None:
    with pytest.raises(UnreadableAnswerError):
        read_new(TRANSFER | {key: value})


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4),
    max_leaves=12,
)


@given(status=st.sampled_from([200, 201, 204, 301, 400, 401, 403, 404, 409, 418, 429, 500]), body=_json)
def test_any_body_is_an_answer_or_one_of_our_errors(status: int, body: Any) -> None:
    answer = HttpAnswer(status, json.dumps(body).encode(), None, None)
    for read in (read_answer, read_creation):
        try:
            read("GET /x", answer, secret="sk_secret")
        except SequenceError as error:
            certain = error.nothing_moved
            assert not certain or status in {400, 401, 403, 404, 429}


@given(text=st.text(max_size=80))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        cursor = Cursor.read(text)
    except InvalidRequestError:
        return
    assert Cursor.read(cursor.text()) == cursor
    ActivityQuery(ActivityFilter(), cursor.until).parameters()
