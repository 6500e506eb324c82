"""``open``: Sequence's own page."""

import typer

from pysequence_api.cli.terminal import print_line
from pysequence_api.settings import Settings


def open_page() -> None:
    """Open Sequence's own page in a browser, and print its address.

    \b
    Example:
      pysequence-api open
    """
    url = str(Settings.load().app_url)
    print_line(url)
    typer.launch(url)
