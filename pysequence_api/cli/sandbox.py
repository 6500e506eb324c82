"""``sandbox serve``: the simulated Sequence alone, over HTTP."""

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pysequence_api.cli.logs import log_for_server
from pysequence_api.cli.output import print_line
from pysequence_api.cli.running import run_server
from pysequence_api.errors import SettingsError
from pysequence_api.gateway import SANDBOX_DATABASE_NAME, open_records
from pysequence_api.settings import Settings, variable

if TYPE_CHECKING:
    from pysequence_api.sandbox import IssuedTokens

PORT = 8721
CLIENT_DIRECTORY_NAME = "client"
LIFETIME_SECONDS = 86_400
MAX_LIFETIME_SECONDS = 315_360_000

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The simulated Sequence, where no real money is.")


@app.callback()
def _sandbox() -> None:
    """Keep `serve` a command of its own, also while it is the only one."""


@app.command("serve")
def serve(
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any free one.", min=0, max=65535)] = PORT,
    data_dir: Annotated[
        Path | None, typer.Option(help="The database is in sandbox/ in here. (SEQUENCE_DATA_DIR)")
    ] = None,
    lifetime_seconds: Annotated[
        int, typer.Option(help="How long the access token is valid.", min=0, max=MAX_LIFETIME_SECONDS)
    ] = LIFETIME_SECONDS,
) -> None:
    """Run the simulated Sequence over HTTP, until Ctrl-C or SIGTERM.

    Prints its address, an access and a refresh token, and the variables that point the gateway at it, as lines for a
    shell or for .env.

    \b
    Example:
      pysequence-api sandbox serve --port 8721
    """
    settings = Settings.load(sandbox=True, data_dir=data_dir)
    open_records(settings)  # creates the directory, for its owner alone
    log_for_server(settings)
    _serve(settings.data_directory.absolute(), host, port, lifetime_seconds)


def _serve(directory: Path, host: str, port: int, lifetime_seconds: int) -> None:
    from pysequence_api import sandbox  # noqa: PLC0415 - a web server and a GraphQL engine, for this command only

    try:
        simulated = sandbox.Sandbox(directory / SANDBOX_DATABASE_NAME)
        tokens = simulated.issue_tokens(lifetime_seconds)
        say = partial(_say, tokens, directory)
        run_server(lambda: sandbox.serve(simulated, host=host, port=port, on_ready=say))
    except sandbox.SandboxFileError as error:
        raise SettingsError(str(error)) from error
    except ValueError as error:
        raise SettingsError(f"The sandbox cannot listen: {error}. Choose another --host.") from error
    except OSError as error:
        raise SettingsError(
            f"The sandbox cannot run on port {port} of {host} with its data in {directory} ({error.strerror})."
            " Choose another --port or --data-dir."
        ) from error


def _say(tokens: "IssuedTokens", directory: Path, url: str) -> None:
    from pysequence_api.sandbox import (  # noqa: PLC0415
        CLIENT_ID,
        EMAIL,
        KYC_ID,
        ORGANIZATION_ID,
        PASSWORD,
        TOTP_SECRET,
    )

    print_line(f"# The simulated Sequence listens on {url}. NO REAL MONEY is here. Ctrl-C ends it.")
    print_line(f"# Access token: {tokens.access_token}")
    print_line(f"# Refresh token: {tokens.refresh_token}")
    print_line("# These lines point pysequence-api at it, on a data directory of their own:")
    values = {
        "graphql_url": f"{url}/api/graphql",
        "auth_url": url,
        "app_url": url,
        "email": EMAIL,
        "password": PASSWORD,
        "totp": TOTP_SECRET,
        "access_token": tokens.access_token,
        "org_id": ORGANIZATION_ID,
        "kyc_id": KYC_ID,
        "auth0_client_id": CLIENT_ID,
        "data_dir": str(directory / CLIENT_DIRECTORY_NAME),
    }
    for name, value in values.items():
        print_line(f"{variable(name)}={shlex.quote(value)}")
