"""Drawing on a terminal and into a pipe."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import pytest

from pysequence_api.cli.drawing import Column, print_bar, print_facts, print_table
from pysequence_api.cli.terminal import note, print_json, safe
from tests.cli.commands import Screen

EVIL = "[red]Rent[/red] \x1b[2J\x9b31m\u202eevil\nError: no :smile:"
ESCAPED = "[red]Rent[/red] \\x1b[2J\\x9b31m\\u202eevil\\nError: no :smile:"


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)


def to_screen(draw: Callable[..., None], *arguments: Any, **more: Any) -> str:
    with redirect_stdout(Screen()) as screen:
        draw(*arguments, **more)
    return screen.getvalue()


def to_pipe(draw: Callable[..., None], *arguments: Any, **more: Any) -> str:
    with redirect_stdout(io.StringIO()) as pipe:
        draw(*arguments, **more)
    return pipe.getvalue()


def test_control_characters_are_escaped() -> None:
    assert safe(EVIL) == ESCAPED
    assert safe("Café ☕ 50% / 日本 👩\u200d🚀") == "Café ☕ 50% / 日本 👩\u200d🚀"


def test_a_table_in_a_pipe_is_aligned_and_complete() -> None:
    rows = [("日本" * 60, "$1.00"), ("b" * 3, "$10.00")]
    heading, first, second = to_pipe(print_table, (Column("Name"), Column("Balance", right=True)), rows).splitlines()
    assert first == "日本" * 60 + "    $1.00"
    assert second == "bbb" + " " * 237 + "   $10.00"
    assert heading.split() == ["NAME", "BALANCE"]


def test_names_are_not_markup_in_a_table_on_a_terminal() -> None:
    drawn = to_screen(print_table, (Column("Name"),), [(EVIL,)])
    flat = "".join(character for character in drawn if character not in " │\n")
    assert "[red]Rent[/red]" in flat
    assert ":smile:" in flat
    assert "\x1b[2J" not in drawn
    assert "\x9b" not in drawn
    assert "\u202e" not in drawn


def test_a_table_in_a_narrow_window_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    drawn = to_screen(print_table, (Column("Name"), Column("Id")), [("x" * 30, "y" * 30)], total=("Total", "1"))
    assert (drawn.count("x"), drawn.count("y")) == (30, 30)
    assert "…" not in drawn


def test_names_are_not_markup_in_facts() -> None:
    assert to_pipe(print_facts, [("Name", EVIL)]) == f"Name  {ESCAPED}\n"
    assert "[red]" in to_screen(print_facts, [("Name", EVIL)])


def test_a_dumb_terminal_gets_a_plain_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert to_screen(print_table, (Column("Name"),), [("Rent",)]) == "NAME\nRent\n"


@pytest.mark.parametrize(("used", "maximum"), [(0, 0), (5, 0), (0, 100), (100, 100), (300, 100)])
def test_a_bar_is_drawn_for_any_limit_but_only_on_a_terminal(used: int, maximum: int) -> None:
    assert to_screen(print_bar, used, maximum).endswith("\n")
    assert to_pipe(print_bar, used, maximum) == ""


def test_json_is_one_document_without_control_characters() -> None:
    written = to_pipe(print_json, {"name": EVIL})
    assert json.loads(written) == {"name": EVIL}
    assert written.replace("\n", "").isprintable()
    assert written.isascii()


def test_a_note_without_standard_error_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    note("hello")
