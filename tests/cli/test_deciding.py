"""What is meant by an amount, by a name and by an answer, before anything is sent."""

import os
import pty
import select

import anyio
import pytest

from pysequence_api.cli.asking import confirm
from pysequence_api.cli.parties import find_side
from pysequence_api.cli.transfer import amount_in_cents
from pysequence_api.errors import InvalidRequestError, NotFoundError
from pysequence_api.models import Accounts, AccountType, ExternalAccount, Pod, Port
from tests.cli.in_process import Screen
from tests.cli.processes import TIMEOUT_SECONDS


@pytest.mark.parametrize(
    ("text", "cents"),
    [
        ("$50", 5_000),
        ("50.00", 5_000),
        ("1,250.50", 125_050),
        ("$1,250.50", 125_050),
        ("$0.01", 1),
        ("$5000", 500_000),
        ("21474836.47", 2_147_483_647),
    ],
)
def test_an_amount_in_dollars_looks_like_it(text: str, cents: int) -> None:
    assert amount_in_cents(text, None) == cents


@pytest.mark.parametrize(
    "text",
    [
        *("5000", "50", "0", "", " ", "5,000"),  # no sign and no cents
        *("$0", "0.00", "-$5", "$-5", "21474836.48", "$999999999999"),  # too little, too much
        *("50.0", "50.000", "1,25.00", "5e3", "$5k", "€5.00", "$ 5", "nan", "\u0665.00"),  # no amount
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        amount_in_cents(text, None)


def test_a_bare_number_is_told_how_to_be_clear() -> None:
    with pytest.raises(InvalidRequestError, match=r"\$5000 or --cents 5000"):
        amount_in_cents("5000", None)


@pytest.mark.parametrize(("text", "cents"), [("1", 1), ("2500", 2500), ("2147483647", 2_147_483_647)])
def test_cents_are_a_whole_number(text: str, cents: int) -> None:
    assert amount_in_cents(None, text) == cents


@pytest.mark.parametrize(
    "text", ["5.00", "5.0", "0", "00", "-5", "+5", "", " 5", "5_0", "1e3", "$5", "2147483648", "9" * 5000, "\u0665"]
)
def test_nothing_else_is_a_number_of_cents(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        amount_in_cents(None, text)


@pytest.mark.parametrize(("dollars", "cents"), [(None, None), ("$50", "5000")])
def test_there_is_exactly_one_amount(dollars: str | None, cents: str | None) -> None:
    with pytest.raises(InvalidRequestError, match="either"):
        amount_in_cents(dollars, cents)


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


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("p-1", "p-1"),  # an id goes before a name
        ("rent", "p-1"),  # a whole name goes before a part of one
        ("RESERVE", "p-2"),
        ("vacation / travel", "p-3"),
        ("50%", "p-4"),
        ("cafe\u0301 ☕", "p-5"),  # the same letter, written in two characters
        ("CAFÉ", "p-5"),
        ("salary", "i-1"),
        ("landlord", "a-2"),
    ],
)
def test_a_name_finds_what_is_meant(wanted: str, found: str) -> None:
    assert find_side(wanted, ACCOUNTS, None).id == found


def test_the_kind_follows_from_what_was_found() -> None:
    assert find_side("salary", ACCOUNTS, None).type is AccountType.PORT
    assert find_side("landlord", ACCOUNTS, None).type is AccountType.ACCOUNT
    assert find_side("checking", ACCOUNTS, AccountType.ACCOUNT).can_be_source is False


@pytest.mark.parametrize(
    ("wanted", "kind", "message"),
    [
        ("checking", None, r"2 match 'checking': 'Checking' \(pod p-8\), 'Checking' \(account a-1\)"),
        ("ren", None, r"p-1.*p-2"),
        ("r", AccountType.POD, "match 'r'"),
        ("nothing", None, "Nothing is named 'nothing'"),
        ("salary", AccountType.POD, "'salary' is a port, not a pod"),
        ("p-1", AccountType.ACCOUNT, "'p-1' is a pod, not an account"),
        ("", None, "Nothing is named"),
        ("  ", AccountType.POD, "Nothing is named"),
        ("9f7c2d1e", None, "--source-type"),
    ],
)
def test_what_is_not_clear_is_refused(wanted: str, kind: AccountType | None, message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        find_side(wanted, ACCOUNTS, kind)


def test_an_id_that_is_not_listed_needs_a_kind_and_passes_as_it_is() -> None:
    side = find_side("Unlisted-Id", ACCOUNTS, AccountType.PORT)
    assert (side.id, side.type, side.is_listed, side.shown_balance) == (
        "Unlisted-Id",
        AccountType.PORT,
        False,
        "unknown",
    )


@pytest.mark.parametrize(
    ("answer", "is_yes"),
    [("y\n", True), (" YES \n", True), *((no, False) for no in ("n\n", "yep\n", "\n", "\x04"))],
)
def test_only_a_yes_to_the_question_is_a_yes(monkeypatch: pytest.MonkeyPatch, answer: str, is_yes: bool) -> None:
    ours, theirs = pty.openpty()

    class Asked(Screen):
        def write(self, text: str) -> int:
            if "[y/N]" in text:
                os.write(ours, answer.encode())
            return super().write(text)

    try:
        with os.fdopen(theirs) as keyboard:
            monkeypatch.setattr("sys.stdin", keyboard)
            monkeypatch.setattr("sys.stderr", Asked())
            os.write(ours, b"n\n" if is_yes else b"y\n")  # too early to be an answer
            assert select.select([keyboard], [], [], TIMEOUT_SECONDS)[0]
            assert anyio.run(confirm, "Send $25.00?") is is_yes
    finally:
        os.close(ours)
