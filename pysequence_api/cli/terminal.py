"""Plain text on the terminal. Every command loads this, so it does without Rich; `drawing` has tables and bars.

Results go to standard output, everything else to standard error. Text from outside cannot send control characters to
the terminal. All output passes through `write`, so a reader that has closed the pipe is noticed in one place.
"""

import json
import os
import sys
import unicodedata
from typing import Any, TextIO

import typer

from pysequence_api.errors import GatewayError

COLUMN_GAP = "  "
UNKNOWN = "unknown"
_JOINERS = "\u200c\u200d"  # invisible, but a part of emoji and of words in some scripts
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_state = {"color": True, "status": False}


class ReaderGoneError(Exception):
    """The reader of standard output closed it, as ``head`` does. This ends the output, and is not an error."""


def is_terminal(stream: TextIO | None) -> bool:
    """Check whether a stream is a terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def is_interactive(stream: TextIO | None) -> bool:
    """Check whether a stream is a terminal that understands escape sequences."""
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def allow_color(allowed: bool) -> None:
    """Allow colors or forbid them; ``NO_COLOR`` in the environment forbids them in any case."""
    _state["color"] = allowed


def is_color_allowed() -> bool:
    """Check whether colors may be used."""
    return _state["color"] and not os.environ.get("NO_COLOR")


def safe(text: str) -> str:
    """Escape invisible and control characters, as in ``\\x1b``."""
    if text.isascii() and text.isprintable():
        return text  # as almost every line of the server's log is
    return "".join(_escaped(character) for character in text)


def print_line(text: str = "") -> None:
    """Print a line of the result."""
    write(sys.stdout, safe(text) + "\n")


def print_json(document: Any) -> None:
    """Print the result as one JSON document, in ASCII, so no name in it can control the terminal."""
    write(sys.stdout, json.dumps(document, indent=2) + "\n")


def print_json_line(document: Any) -> None:
    """Print a part of the result as one line of JSON."""
    write(sys.stdout, json.dumps(document) + "\n")


def note(text: str, *, color: str | None = None, bold: bool = False, reverse: bool = False) -> None:
    """Print a line on standard error."""
    line = "\n".join(map(safe, text.split("\n")))
    if (color or bold or reverse) and is_interactive(sys.stderr):  # a line of the log does not ask the system
        line = typer.style(line, color if is_color_allowed() else None, bold=bold or None, reverse=reverse or None)
    write(sys.stderr, f"{line}\n")


def warn(text: str) -> None:
    """Print a warning."""
    note(f"Warning: {text}", color="yellow")


def fail(text: str) -> None:
    """Print the error that ends the program."""
    note(f"Error: {text}", color="red", bold=True)


def ask(question: str) -> None:
    """Print a question, and leave the cursor behind it."""
    write(sys.stderr, f"{safe(question)} ")


def show_status(text: str, columns: int) -> None:
    """Show a status line on standard error. The next output of any kind replaces it."""
    end_status()
    write(sys.stderr, f"\r{safe(text)[: columns - 1]}")  # the last column would make some terminals wrap
    _state["status"] = True


def end_status() -> None:
    """Remove the status line, if there is one."""
    if _state["status"]:
        _state["status"] = False
        write(sys.stderr, "\r\x1b[K")


def write(stream: TextIO | None, text: str) -> None:
    """Write text that is safe already. Failures on standard error are ignored: a transfer must not stop for them.

    Raises:
        ReaderGoneError: the reader of standard output closed it.
        GatewayError: standard output cannot be written.
    """
    end_status()
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        _discard_output(stream)
        if stream is sys.stderr:
            return
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError from error
        raise GatewayError(f"Cannot write the result to standard output ({error.strerror}).") from error


def _discard_output(stream: TextIO) -> None:
    # The rest of the buffer would fail again when the interpreter exits, with a traceback.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _escaped(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _INVISIBLE:
        return character
    return character.encode("unicode_escape").decode("ascii")
