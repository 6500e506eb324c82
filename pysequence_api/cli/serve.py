"""``serve``: the HTTP server."""

import asyncio
import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from pysequence_api.cli.logs import log_for_server
from pysequence_api.cli.output import ReaderGoneError, print_line, warn
from pysequence_api.cli.running import run_server
from pysequence_api.errors import GatewayError, SettingsError
from pysequence_api.money import format_cents
from pysequence_api.settings import SANDBOX_DEFAULTS, Settings, variable

if TYPE_CHECKING:
    from pysequence_api.gateway import Gateway

EXAMPLE_CENTS = 5000
ANY_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
"""Where a server that listens on every address is reached from here."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. (SEQUENCE_SERVER_HOST)")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on. (SEQUENCE_SERVER_PORT)", min=1, max=65535)
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Use the simulated Sequence, where no real money is. (SEQUENCE_SANDBOX)")
    ] = False,
) -> None:
    """Run the HTTP server, until Ctrl-C or SIGTERM; transfers that are under way are finished first.

    \b
    Example:
      pysequence-api serve --sandbox
      SEQUENCE_API_KEY=... pysequence-api serve --host 127.0.0.1 --port 8720
    """
    from pysequence_api.serving import serve as run_api  # noqa: PLC0415 - the web framework, for this command only

    settings = load_settings(host, port, sandbox)
    log_for_server(settings)
    screen = _FirstScreen()
    run_server(lambda: run_api(settings, on_ready=screen.show))


def load_settings(host: str | None, port: int | None, sandbox: bool) -> Settings:
    """Read the settings with all that serving needs; the sandbox needs less.

    Raises:
        SettingsError: something is missing or wrong.
    """
    from pysequence_api.serving import REQUIRED_SANDBOX_SETTINGS, REQUIRED_SETTINGS  # noqa: PLC0415

    load = partial(Settings.load, server_host=host, server_port=port, sandbox=sandbox or None)
    try:
        is_sandbox = load().sandbox
    except SettingsError:
        is_sandbox = sandbox  # what is wrong is reported below, with all that is missing
    return load(required=REQUIRED_SANDBOX_SETTINGS if is_sandbox else REQUIRED_SETTINGS)


class _FirstScreen:
    """What a server says when it listens."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def show(self, gateway: "Gateway", url: str) -> None:
        """Begin to say it; the examples need ids, which must be read first."""
        self._task = asyncio.get_running_loop().create_task(_say(gateway, _from_here(url)))


async def _say(gateway: "Gateway", url: str) -> None:
    try:
        if gateway.settings.sandbox:
            await _say_for_sandbox(gateway, url)
        else:
            print_line(f"Listening on {url}, {_limits(gateway.settings)}, data in {_directory(gateway.settings)}")
    except (ReaderGoneError, GatewayError) as error:
        # A server does not stop because nobody reads its first screen.
        warn(f"The first screen is not complete: {error or 'nobody reads it'}")


async def _say_for_sandbox(gateway: "Gateway", url: str) -> None:
    settings = gateway.settings
    header = f"X-API-Key: {_shown_key(settings)}"
    print_line(f"Listening on {url} with the simulated Sequence. NO REAL MONEY is here.")
    print_line(f"Key: {_shown_key(settings)}   Limits: {_limits(settings)}   Data: {_directory(settings)}")
    print_line("Try it, in a second terminal:")
    print_line()
    curl = f'  curl -H "{header}"'
    print_line(f"{curl} {shlex.quote(f'{url}/api/pods')}")
    print_line(f"{curl} {shlex.quote(f'{url}/api/limits')}")
    pods = await gateway.client.pods()
    richest_first = sorted(pods, key=lambda pod: pod.balance_cents or 0, reverse=True)
    source, destination = richest_first[0].id, richest_first[1].id
    order = f'{{"source_id": "{source}", "destination_id": "{destination}", "amount_cents": {EXAMPLE_CENTS}}}'
    print_line(f"{curl} -H 'Content-Type: application/json' -d '{order}' {shlex.quote(f'{url}/api/transfers')}")
    print_line()
    print_line("Ctrl-C ends it.")


def _from_here(url: str) -> str:
    host = urlsplit(url).hostname or ""
    return url.replace(f"[{host}]" if ":" in host else host, ANY_HOSTS[host], 1) if host in ANY_HOSTS else url


def _shown_key(settings: Settings) -> str:
    # A key that somebody chose may be their real one; the shell fills it in where the line is pasted.
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    return key if key == SANDBOX_DEFAULTS["api_key"] else f"${variable('api_key')}"


def _limits(settings: Settings) -> str:
    per_transfer, per_day = settings.max_transfer_cents, settings.max_daily_transfer_cents
    return f"{format_cents(per_transfer)} a transfer, {format_cents(per_day)} a day"


def _directory(settings: Settings) -> str:
    return str(settings.data_directory.absolute())
