"""The one resolver of names, which the command line and the HTTP API share."""

from pathlib import Path
from urllib.parse import quote

import pytest

from pysequence_api.account.names import find_counterparty, find_pod, find_pod_by_name
from pysequence_api.errors import NotFoundError
from pysequence_api.models import Accounts, AccountType, ExternalAccount, Pod, Port
from tests.world import open_world


def pod(pod_id: str, name: str | None) -> Pod:
    return Pod(id=pod_id, name=name, organization_id="o", balance_cents=None)


ACCOUNTS = Accounts(
    pods=(
        pod("p-1", "Rent"),
        pod("p-2", "Rent Reserve"),
        pod("p-3", "Vacation / Travel"),
        pod("p-4", "50% Rule"),
        pod("p-5", "Café ☕"),
        pod("p-6", None),
        pod("p-7", "p-1"),
        pod("p-8", "Checking"),
    ),
    ports=(Port(id="i-1", name="Salary", organization_id="o", balance_cents=5),),
    accounts=(
        ExternalAccount(id="a-1", name="Checking", organization_id="o", balance_cents=7, can_be_source=False),
        ExternalAccount(id="a-2", name="Landlord [red]", organization_id="o", balance_cents=None),
    ),
    organization_ids=("o",),
    complete=True,
)
POD_NAMES = [
    ("rent", "p-1"),  # a full name takes precedence over a part of a name
    ("RESERVE", "p-2"),
    ("vacation / travel", "p-3"),
    ("50%", "p-4"),
    ("cafe\u0301 ☕", "p-5"),  # the same letter, encoded as two characters
    ("CAFÉ", "p-5"),
]


@pytest.mark.parametrize(("name", "found"), [*POD_NAMES, ("p-1", "p-7")])
def test_a_pod_is_found_by_its_name(name: str, found: str) -> None:
    assert find_pod_by_name(name, ACCOUNTS.pods).id == found


@pytest.mark.parametrize(
    ("wanted", "found"),
    [*POD_NAMES, ("p-1", "p-1")],  # an id takes precedence over a name
)
def test_a_pod_is_found_by_its_id_or_name(wanted: str, found: str) -> None:
    assert find_pod(wanted, ACCOUNTS.pods).id == found
    assert find_counterparty(wanted, ACCOUNTS, None).id == found


@pytest.mark.parametrize(
    ("wanted", "kind", "found"),
    [
        ("salary", None, ("i-1", AccountType.PORT)),
        ("landlord", None, ("a-2", AccountType.ACCOUNT)),
        ("checking", AccountType.ACCOUNT, ("a-1", AccountType.ACCOUNT)),
        ("checking", AccountType.POD, ("p-8", AccountType.POD)),
    ],
)
def test_a_counterparty_has_the_kind_of_what_was_found(
    wanted: str, kind: AccountType | None, found: tuple[str, AccountType]
) -> None:
    counterparty = find_counterparty(wanted, ACCOUNTS, kind)
    assert (counterparty.id, counterparty.type) == found


def test_a_counterparty_knows_its_balance_and_whether_money_can_come_from_it() -> None:
    account = find_counterparty("checking", ACCOUNTS, AccountType.ACCOUNT)
    assert (account.balance_cents, account.can_be_source, account.is_listed) == (7, False, True)


@pytest.mark.parametrize(
    ("wanted", "kind", "named"),
    [
        ("checking", None, ["p-8", "a-1"]),
        ("ren", None, ["p-1", "p-2"]),
        ("r", AccountType.POD, ["p-1", "p-2", "p-3", "p-4"]),
        ("salary", AccountType.POD, ["is a port"]),
        ("p-1", AccountType.ACCOUNT, ["is a pod"]),
        ("Salery", AccountType.PORT, ["'Salary'"]),
        ("nothing", None, ["'nothing'"]),
        ("", None, []),
        ("  ", AccountType.POD, []),
    ],
)
def test_an_unclear_counterparty_is_not_found_and_the_error_names_candidates(
    wanted: str, kind: AccountType | None, named: list[str]
) -> None:
    with pytest.raises(NotFoundError) as error:
        find_counterparty(wanted, ACCOUNTS, kind)
    assert all(each in str(error.value) for each in named)


@pytest.mark.parametrize("name", ["ren", "nothing", "", "  "])
def test_an_unclear_pod_is_not_found(name: str) -> None:
    for find in (find_pod, find_pod_by_name):
        with pytest.raises(NotFoundError):
            find(name, ACCOUNTS.pods)


def test_an_unlisted_id_needs_a_kind_and_is_used_unchanged() -> None:
    counterparty = find_counterparty("Unlisted-Id", ACCOUNTS, AccountType.PORT)
    assert (counterparty.id, counterparty.type, counterparty.is_listed) == ("Unlisted-Id", AccountType.PORT, False)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["Café ☕", "Cafe\u0301 ☕", "CAFE\u0301", "café"])
async def test_http_finds_a_name_however_its_accents_are_encoded(tmp_path: Path, name: str) -> None:
    async with open_world(tmp_path) as world, world.http() as client:
        answer = await client.get(f"/api/pods/{quote(name)}/balance")
    assert answer.status_code == 200, answer.text
    assert answer.json()["name"] == "Café ☕"
