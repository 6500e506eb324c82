"""``key new``: the key that programs send."""

import secrets

import typer

from pysequence_api.cli.output import note, print_line
from pysequence_api.settings import variable

KEY_BYTES = 32

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The key that programs send.")


@app.callback()
def _key() -> None:
    """Keep `new` a command of its own, also while it is the only one."""


@app.command("new")
def new() -> None:
    """Print a fresh API key: 256 random bits in letters that fit into a URL and a header. It is stored nowhere.

    \b
    Example:
      pysequence-api key new
      echo "SEQUENCE_API_KEY=$(pysequence-api key new)" >> .env
    """
    print_line(secrets.token_urlsafe(KEY_BYTES))
    name = variable("api_key")
    note(f"Put it where the server reads it: {name}=... in .env, or a file /run/secrets/{name.lower()}.")
    note("Start the server anew. Programs send it in the header X-API-Key. It is not shown again.")
