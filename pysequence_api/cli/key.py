"""``key new``: a key for programs that call the HTTP API."""

import secrets

from pysequence_api.cli.terminal import note, print_line
from pysequence_api.settings import variable

KEY_BYTES = 32


def new() -> None:
    """Print a new API key.

    The key has 256 random bits, in characters that are safe in URLs and headers. It is not stored anywhere.

    \b
    Example:
      pysequence-api key new
      export SEQUENCE_API_KEY=$(pysequence-api key new)
    """
    print_line(secrets.token_urlsafe(KEY_BYTES))
    name = variable("api_key")
    note(f"Set it for the server as {name}: in the environment, in the file that `init` wrote, or in /run/secrets.")
    note("Then restart the server. Programs send the key in the header X-API-Key. It is not shown again.")
