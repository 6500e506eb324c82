"""Reading the account for a command. Commands that only read the data directory load no HTTP client."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated

import typer

from pysequence_api.account.scoped import ScopedReads
from pysequence_api.cli.running import status_shown
from pysequence_api.cli.terminal import is_terminal, note
from pysequence_api.gateway import Gateway, open_gateway
from pysequence_api.settings import Settings, variable

Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh", help=f"Ask Sequence, even if an answer is younger than {variable('read_max_age_seconds')}."
    ),
]
"""The option of every command that reads the account."""


def is_fresh(context: typer.Context, *, fresh: bool) -> bool:
    """Say whether ``--fresh`` was passed to a command, or to the group before it."""
    return fresh or (context.parent is not None and context.parent.params["fresh"])


@asynccontextmanager
async def open_with_status(settings: Settings) -> AsyncIterator[Gateway]:
    """Open the gateway, and show a status line while its requests wait."""
    async with open_gateway(settings, is_owner=True) as gateway:
        with status_shown():
            yield gateway


@contextmanager
def reading(gateway: Gateway, *, fresh: bool) -> Iterator[ScopedReads]:
    """Read the account for a person, and say how old an answer is that was used again.

    Args:
        gateway: of this command.
        fresh: ask Sequence in any case.
    """
    ages_seconds: list[float] = []
    try:
        yield gateway.reads_of_owner(again=not fresh, on_age=ages_seconds.append)
    finally:
        if ages_seconds and is_terminal(sys.stderr):
            seconds = int(max(ages_seconds))
            note(f"From {seconds} second{'' if seconds == 1 else 's'} ago. --fresh asks Sequence again.")
