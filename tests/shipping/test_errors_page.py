"""``docs/errors.md`` names every code, with the HTTP status and the exit code that the program uses."""

import pytest

from pysequence_api.errors import Code, GatewayError
from pysequence_api.safeguards.judge import PolicyCode
from tests.shipping.documented import table_rows
from tests.shipping.files import ERRORS
from tests.shipping.test_documentation import error_classes

NO_VALUE = "--"
OF_THE_LISTENER = {
    Code.METHOD_NOT_ALLOWED,
    Code.HOST_NOT_ALLOWED,
    Code.ORIGIN_NOT_ALLOWED,
    Code.BODY_TOO_LATE,
    Code.BODY_TOO_LARGE,
}
"""Codes without an exception: they are answered before a request reaches the gateway."""
OF_NO_COMMAND = OF_THE_LISTENER | {Code.NOT_READY}
"""Codes that no command ends with."""
OF_THE_POLICY = {Code(code.value) for code in PolicyCode}
OF_A_BASE = {Code.OVER_MAX, Code.EQUAL_UNKNOWN} | OF_THE_POLICY
"""Codes that share a class with another code."""


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """The rows of the table, by code."""
    return {row[0].strip("`"): row[1:] for row in table_rows(ERRORS, "Errors")}


def test_the_page_has_every_code_once_and_in_order(rows: dict[str, list[str]]) -> None:
    assert [row[0] for row in table_rows(ERRORS, "Errors")] == [f"`{code.value}`" for code in Code]
    assert all(cell for row in rows.values() for cell in row)


@pytest.mark.parametrize("error", list(error_classes()), ids=lambda error: error.__name__)
def test_the_page_has_the_status_and_exit_code_of_a_class(
    rows: dict[str, list[str]], error: type[GatewayError]
) -> None:
    exit_code = NO_VALUE if error.code in OF_NO_COMMAND else str(error.exit_code)
    assert rows[error.code.value][:2] == [str(error.status), exit_code]


def test_every_code_without_a_class_is_known(rows: dict[str, list[str]]) -> None:
    assert {code for code, row in rows.items() if row[1] == NO_VALUE} == OF_NO_COMMAND
    of_classes = {error.code for error in error_classes()}
    assert set(Code) - of_classes == OF_THE_LISTENER | (OF_A_BASE - of_classes)
