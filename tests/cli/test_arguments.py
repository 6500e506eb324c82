"""Amounts on the command line, and the answer to the confirmation."""

import os
import pty
import select

import anyio
import pytest

from pysequence_api.cli.running import confirm
from pysequence_api.cli.transfer import amount_in_cents
from pysequence_api.errors import InvalidRequestError
from tests.cli.commands import Screen
from tests.processes import TIMEOUT_SECONDS


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
def test_dollars_need_a_dollar_sign_or_cents(text: str, cents: int) -> None:
    assert amount_in_cents(text, None) == cents


@pytest.mark.parametrize(
    "text",
    [
        *("5000", "50", "0", "", " ", "5,000"),  # neither a sign nor cents
        *("$0", "0.00", "-$5", "$-5", "21474836.48", "$999999999999"),  # too small or too large
        *("50.0", "50.000", "1,25.00", "5e3", "$5k", "€5.00", "$ 5", "nan", "\u0665.00"),  # not an amount
    ],
)
def test_other_text_is_not_an_amount_in_dollars(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        amount_in_cents(text, None)


def test_the_error_for_a_bare_number_shows_how_to_write_both_meanings() -> None:
    with pytest.raises(InvalidRequestError, match=r"write 5000\.00, or 50\.00 if it is in cents"):
        amount_in_cents("5000", None)


@pytest.mark.parametrize(("text", "cents"), [("1", 1), ("2500", 2500), ("2147483647", 2_147_483_647)])
def test_cents_are_a_whole_number(text: str, cents: int) -> None:
    assert amount_in_cents(None, text) == cents


@pytest.mark.parametrize(
    "text", ["5.00", "5.0", "0", "00", "-5", "+5", "", " 5", "5_0", "1e3", "$5", "2147483648", "9" * 5000, "\u0665"]
)
def test_other_text_is_not_a_number_of_cents(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        amount_in_cents(None, text)


@pytest.mark.parametrize(("dollars", "cents"), [(None, None), ("$50", "5000")])
def test_exactly_one_amount_is_required(dollars: str | None, cents: str | None) -> None:
    with pytest.raises(InvalidRequestError):
        amount_in_cents(dollars, cents)


@pytest.mark.parametrize(
    ("answer", "is_yes"),
    [("y\n", True), (" YES \n", True), *((no, False) for no in ("n\n", "yep\n", "\n", "\x04"))],
)
def test_only_yes_after_the_question_confirms(monkeypatch: pytest.MonkeyPatch, answer: str, is_yes: bool) -> None:
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
            os.write(ours, b"n\n" if is_yes else b"y\n")  # typed before the question
            assert select.select([keyboard], [], [], TIMEOUT_SECONDS)[0]
            assert anyio.run(confirm, "Send $25.00?") is is_yes
    finally:
        os.close(ours)
