"""``open``: Sequence's own page in a browser."""

import pytest
import typer

from tests.cli.commands import call

pytestmark = pytest.mark.usefixtures("directory")


def test_the_page_is_opened_and_its_address_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(typer, "launch", opened.append)
    shown = call("open").stdout
    assert opened == [shown.strip()]
    assert shown.startswith("https://")
