"""Asking the person at the terminal, on standard error."""

import os
import sys
import termios

import anyio

from pysequence_api.cli.output import ask_without_line_end, is_terminal, note

MAX_ANSWER_BYTES = 1024
YES = {"y", "yes"}


def can_ask() -> bool:
    """Say whether somebody is there who sees a question and can answer it."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


async def confirm(question: str) -> bool:
    """Ask, and take nothing but a yes for a yes.

    Waiting for the answer can be cancelled, which a blocking ``input`` could not.

    Args:
        question: without its ``[y/N]``.
    """
    descriptor = sys.stdin.fileno()
    termios.tcflush(descriptor, termios.TCIFLUSH)  # what was typed before the question is no answer to it
    ask_without_line_end(f"{question} [y/N]")
    try:
        await anyio.wait_readable(descriptor)
    except BaseException:
        note("")  # the question's line has no end yet
        raise
    answer = os.read(descriptor, MAX_ANSWER_BYTES)
    if not answer.endswith(b"\n"):
        note("")
    return answer.decode("utf-8", "replace").strip().lower() in YES
