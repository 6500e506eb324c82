"""``notify``: messages to the owner. The commands send no request to Sequence."""

import asyncio

import typer

from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.terminal import note, print_line
from pysequence_api.errors import SettingsError
from pysequence_api.notify.channels import Outcome, open_channels
from pysequence_api.notify.messages import of_test
from pysequence_api.settings import Settings, variable

NOT_DELIVERED = 1


def test() -> None:
    """Send a test message to each of SEQUENCE_NOTIFY_URLS.

    Prints the result for each URL: only its scheme and host, because the rest can be secret. A message that failed is
    sent a second time after five seconds. One that timed out is not, because it may have arrived.

    \b
    Example:
      pysequence-api notify test

    \b
    Exit codes:
      0  all messages were sent
      1  at least one was not sent
      2  no URL is set, Apprise is not installed, or it cannot use a URL
    """
    channels = open_channels(Settings.load().notify_urls)
    if not channels:
        raise SettingsError(f"{variable('notify_urls')} is not set. Set it to the URLs that messages go to.")

    async def send_all(_: Interrupts) -> list[Outcome]:
        return await asyncio.gather(*(channel.send(of_test()) for channel in channels))

    outcomes = run(send_all, if_interrupted="The messages may have been sent.")
    for channel, outcome in zip(channels, outcomes, strict=True):
        print_line(f"{channel.name}: {outcome}")
    if set(outcomes) != {Outcome.SENT}:
        note("To see why, run Apprise itself with that URL: apprise -vv -b test URL")
        raise typer.Exit(NOT_DELIVERED)
