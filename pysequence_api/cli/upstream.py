"""Opening the account for a command. Commands that only read the data directory load no HTTP client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pysequence_api.cli.running import status_shown
from pysequence_api.gateway import Gateway, open_gateway
from pysequence_api.settings import Settings


@asynccontextmanager
async def open_with_status(settings: Settings) -> AsyncIterator[Gateway]:
    """Open the gateway, and show a status line while its requests wait."""
    async with open_gateway(settings, is_owner=True) as gateway:
        with status_shown():
            yield gateway
