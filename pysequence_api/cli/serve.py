"""``serve``: the HTTP server. The only command that loads the web framework."""

import asyncio
import shlex
import socket
from contextlib import suppress
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import typer

from pysequence_api.cli.logs import log_for_server
from pysequence_api.cli.running import run_server
from pysequence_api.cli.terminal import ReaderGoneError, print_line, warn
from pysequence_api.collector import collect_from_now, collector_paused
from pysequence_api.errors import GatewayError
from pysequence_api.gateway import Gateway
from pysequence_api.local_server import page_url
from pysequence_api.money import format_cents
from pysequence_api.serving import required_settings
from pysequence_api.serving import serve as serve_api
from pysequence_api.settings import SANDBOX_DEFAULTS, Settings, variable

EXAMPLE_CENTS = 5000
ANY_PORT = 0
LOCAL_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
"""How this machine reaches a server that listens on all addresses."""


class UpstreamChoice(StrEnum):
    """The APIs of Sequence, as an option names them."""

    GRAPHQL = "graphql"
    PLATFORM = "platform"


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. (SEQUENCE_SERVER_HOST)")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on. (SEQUENCE_SERVER_PORT)", min=1, max=65535)
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Use the simulated Sequence, without real money. (SEQUENCE_SANDBOX)")
    ] = False,
    upstream: Annotated[
        UpstreamChoice | None,
        typer.Option(help="API of Sequence to use. By default platform, if there is a key. (SEQUENCE_UPSTREAM)"),
    ] = None,
) -> None:
    """Run the HTTP server.

    Runs until Ctrl-C or SIGTERM. Waits for transfers that were sent, and releases those that wait. With
    SEQUENCE_OWNER_PORT, and with --sandbox, also the owner's page, on a port of its own.

    \b
    Example:
      pysequence-api serve --sandbox
      pysequence-api serve --sandbox --upstream platform
      SEQUENCE_API_KEY=... pysequence-api serve --host 127.0.0.1 --port 8720
    """
    settings = Settings.load_strictly(
        required_settings,
        server_host=host,
        server_port=port,
        sandbox=sandbox or None,
        upstream=upstream and upstream.value,
    )
    settings = _with_page(settings)
    log_for_server(settings)
    welcome = _Welcome()
    with collector_paused():  # until it listens
        run_server(lambda: serve_api(settings, on_ready=welcome.show))


def _with_page(settings: Settings) -> Settings:
    """In the sandbox, offer the owner's page, unless the settings say where, or that there is none.

    If the server has its default port, the page has the next one. Otherwise, it has a free one, because the next port
    may be meant for something else.
    """
    if not settings.sandbox or settings.owner_port is not None:
        return settings
    is_usual = settings.server_port == Settings.model_fields["server_port"].default
    return settings.model_copy(
        update={"owner_port": _free_port(settings, settings.server_port + 1 if is_usual else ANY_PORT)}
    )


def _free_port(settings: Settings, wanted: int) -> int:
    for port in (wanted, ANY_PORT):
        with suppress(OSError), socket.create_server((settings.owner_host, port)) as probe:
            return int(probe.getsockname()[1])
    return wanted


class _Welcome:
    """What the server prints once it listens."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def show(self, gateway: Gateway, url: str) -> None:
        """Start to print it; the examples need ids, which must be read first."""
        collect_from_now()  # what serving needs stays, and is not looked at with every full collection
        self._task = asyncio.get_running_loop().create_task(_print_welcome(gateway, _local_url(url)))


async def _print_welcome(gateway: Gateway, url: str) -> None:
    try:
        if gateway.settings.sandbox:
            await _print_examples(gateway, url)
        else:
            settings, upstream = gateway.settings, urlsplit(gateway.settings.upstream_url).netloc
            print_line(f"Listening on {url}, {_limits(settings)}, data in {_directory(settings)}, upstream {upstream}")
    except (ReaderGoneError, GatewayError) as error:
        warn(f"Could not print the welcome text: {error or 'standard output is closed'}")


async def _print_examples(gateway: Gateway, url: str) -> None:
    settings = gateway.settings
    header = f"X-API-Key: {_shown_key(settings)}"
    print_line(f"Listening on {url}, SANDBOX: NO REAL MONEY")
    print_line(f"Key: {_shown_key(settings)}   Limits: {_limits(settings)}   Data: {_directory(settings)}")
    print_line("Try it in a second terminal:")
    print_line()
    curl = f'  curl{_curl_options(settings)} -H "{header}"'
    url = "http://localhost" if settings.server_socket is not None else url
    print_line(f"{curl} {shlex.quote(f'{url}/api/pods')}")
    print_line(f"{curl} {shlex.quote(f'{url}/api/limits')}")
    pods = await gateway.client.pods()
    richest_first = sorted(pods, key=lambda pod: pod.balance_cents or 0, reverse=True)
    source, destination = richest_first[0].id, richest_first[1].id
    order = f'{{"source_id": "{source}", "destination_id": "{destination}", "amount_cents": {EXAMPLE_CENTS}}}'
    print_line(f"{curl} -H 'Content-Type: application/json' -d '{order}' {shlex.quote(f'{url}/api/transfers')}")
    print_line()
    _print_page(gateway)
    print_line("Press Ctrl-C to stop.")


def _print_page(gateway: Gateway) -> None:
    if not gateway.settings.has_page:
        return
    print_line(f"The owner's page: {page_url(gateway.settings)}")
    from pysequence_api.demo import showcase_of  # noqa: PLC0415 - loads the page

    showcase = showcase_of(gateway)
    if showcase is not None:
        print_line(f"Password: {showcase.password}   Code: {showcase.next_code() or 'on the page'}")
    print_line()


def _local_url(url: str) -> str:
    host = urlsplit(url).hostname or ""
    return url.replace(f"[{host}]" if ":" in host else host, LOCAL_HOSTS[host], 1) if host in LOCAL_HOSTS else url


def _curl_options(settings: Settings) -> str:
    if settings.server_socket is not None:
        return f" --unix-socket {shlex.quote(str(settings.server_socket.absolute()))}"
    return "" if settings.tls_certificate is None else f" --cacert {shlex.quote(str(settings.tls_certificate))}"


def _shown_key(settings: Settings) -> str:
    # A key of the operator's may be a real one; the shell fills it in when the line is pasted.
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    return key if key == SANDBOX_DEFAULTS["api_key"] else f"${variable('api_key')}"


def _limits(settings: Settings) -> str:
    per_transfer, per_day = settings.max_transfer_cents, settings.max_daily_transfer_cents
    return f"{format_cents(per_transfer)} per transfer, {format_cents(per_day)} per day"


def _directory(settings: Settings) -> str:
    return str(settings.data_directory.absolute())
