"""What is drawn, for a person and for a pipe."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import pytest

from pysequence_api.cli.output import Column, note, print_bar, print_facts, print_json, print_table, safe
from tests.cli.in_process import Screen

EVIL = "[red]Rent[/red] \x1b[2J\x9b31m\u202eevil\nError: no :smile:"
WRITTEN_OUT = "[red]Rent[/red] \\x1b[2J\\x9b31m\\u202eevil\\nError: no :smile:"


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


def test_what_would_steer_a_terminal_is_written_out() -> None:
    assert safe(EVIL) == WRITTEN_OUT
    assert safe("Café ☕ 50% / 日本 👩\u200d🚀") == "Café ☕ 50% / 日本 👩\u200d🚀"


def test_a_pipe_gets_aligned_text_of_which_nothing_is_cut_off() -> None:
    rows = [("日本" * 60, "$1.00"), ("b" * 3, "$10.00")]
    heading, first, second = to_pipe(print_table, (Column("Name"), Column("Balance", right=True)), rows).splitlines()
    assert first == "日本" * 60 + "    $1.00"
    assert second == "bbb" + " " * 237 + "   $10.00"
    assert heading.split() == ["NAME", "BALANCE"]


def test_names_are_no_markup_in_a_table_for_a_person() -> None:
    drawn = to_screen(print_table, (Column("Name"),), [(EVIL,)])
    flat = "".join(character for character in drawn if character not in " │\n")
    assert "[red]Rent[/red]" in flat
    assert ":smile:" in flat
    assert "\x1b[2J" not in drawn
    assert "\x9b" not in drawn
    assert "\u202e" not in drawn


def test_nothing_is_cut_off_in_a_narrow_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    drawn = to_screen(print_table, (Column("Name"), Column("Id")), [("x" * 30, "y" * 30)], total=("Total", "1"))
    assert (drawn.count("x"), drawn.count("y")) == (30, 30)
    assert "…" not in drawn


def test_facts_are_no_markup_either() -> None:
    assert to_pipe(print_facts, [("Name", EVIL)]) == f"Name  {WRITTEN_OUT}\n"
    assert "[red]" in to_screen(print_facts, [("Name", EVIL)])


def test_a_terminal_that_only_prints_gets_a_plain_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert to_screen(print_table, (Column("Name"),), [("Rent",)]) == "NAME\nRent\n"


@pytest.mark.parametrize(("used", "maximum"), [(0, 0), (5, 0), (0, 100), (100, 100), (300, 100)])
def test_a_bar_can_be_drawn_of_any_limit(used: int, maximum: int) -> None:
    assert to_screen(print_bar, used, maximum).endswith("\n")
    assert to_pipe(print_bar, used, maximum) == ""


def test_json_is_one_document_that_steers_no_terminal() -> None:
    written = to_pipe(print_json, {"name": EVIL})
    assert json.loads(written) == {"name": EVIL}
    assert written.replace("\n", "").isprintable()
    assert written.isascii()


def test_a_note_nobody_can_read_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    note("hello")
