"""``sandbox serve``: the simulated Sequence on its own, over HTTP."""

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pysequence_api import sandbox
from pysequence_api.cli.logs import log_for_server
from pysequence_api.cli.running import run_server
from pysequence_api.cli.terminal import print_line
from pysequence_api.errors import SettingsError
from pysequence_api.files import prepare_directory
from pysequence_api.gateway import SANDBOX_DATABASE_NAME
from pysequence_api.sandbox.server import serve as serve_sandbox
from pysequence_api.settings import Settings, variable

PORT = 8721
CLIENT_DIRECTORY_NAME = "client"
LIFETIME_SECONDS = 86_400
MAX_LIFETIME_SECONDS = 315_360_000


def serve(
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.", min=0, max=65535)] = PORT,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data directory; the database goes to sandbox/ in it. (SEQUENCE_DATA_DIR)")
    ] = None,
    lifetime_seconds: Annotated[
        int, typer.Option(help="Lifetime of the access token.", min=0, max=MAX_LIFETIME_SECONDS)
    ] = LIFETIME_SECONDS,
) -> None:
    """Run the simulated Sequence over HTTP.

    Runs until Ctrl-C or SIGTERM. Prints its address, an access token, a refresh token, the address and a key of its
    Platform API, and the variables that connect the gateway to it, ready for a shell or for a file that --env-file
    names.

    \b
    Example:
      pysequence-api sandbox serve --port 8721
    """
    settings = Settings.load(sandbox=True, data_dir=data_dir)
    prepare_directory(settings.data_directory)  # creates the directory, readable only by its owner
    log_for_server(settings)
    _serve(settings.data_directory.absolute(), host, port, lifetime_seconds)


def _serve(directory: Path, host: str, port: int, lifetime_seconds: int) -> None:
    try:
        simulated = sandbox.Sandbox(directory / SANDBOX_DATABASE_NAME)
        tokens = simulated.issue_tokens(lifetime_seconds)
        on_ready = partial(_print_variables, tokens, directory)
        run_server(lambda: serve_sandbox(simulated, host=host, port=port, on_ready=on_ready))
    except sandbox.SandboxFileError as error:
        raise SettingsError(str(error)) from error
    except ValueError as error:
        raise SettingsError(f"The sandbox cannot listen: {error}. Choose another --host.") from error
    except OSError as error:
        raise SettingsError(
            f"The sandbox cannot run on port {port} of {host} with its data in {directory} ({error.strerror})."
            " Choose another --port or --data-dir."
        ) from error


def _print_variables(tokens: sandbox.IssuedTokens, directory: Path, url: str) -> None:
    print_line(f"# The simulated Sequence listens on {url}. NO REAL MONEY. Press Ctrl-C to stop.")
    print_line(f"# Access token: {tokens.access_token}")
    print_line(f"# Refresh token: {tokens.refresh_token}")
    print_line(f"# Platform API: {url}{sandbox.PLATFORM_PATH} with the key {sandbox.PLATFORM_KEY}")
    print_line("# To connect pysequence-api to it, with a data directory of its own, set:")
    values = {
        "graphql_url": f"{url}/api/graphql",
        "auth_url": url,
        "app_url": url,
        "email": sandbox.EMAIL,
        "password": sandbox.PASSWORD,
        "totp": sandbox.TOTP_SECRET,
        "access_token": tokens.access_token,
        "org_id": sandbox.ORGANIZATION_ID,
        "kyc_id": sandbox.KYC_ID,
        "auth0_client_id": sandbox.CLIENT_ID,
        "data_dir": str(directory / CLIENT_DIRECTORY_NAME),
    }
    for name, value in values.items():
        print_line(f"{variable(name)}={shlex.quote(value)}")
