"""One channel for each URL: it sends a message through Apprise, within a deadline.

The URLs hold passwords and tokens. Outside of Apprise, only `Channel.name` is shown, and Apprise logs nothing.
"""

import asyncio
import logging
import re
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import SecretStr

from pysequence_api.errors import SettingsError
from pysequence_api.notify.messages import Message
from pysequence_api.settings import variable

if TYPE_CHECKING:
    from apprise import AppriseAsset, NotifyBase

SEND_SECONDS = 20.0
"""The deadline of a message to a channel. Apprise itself pauses up to 5.5 seconds between two messages."""
RETRY_SECONDS = 5.0
"""The pause before the second try, after a failure that was not a timeout."""
LOGGERS = ("apprise", "urllib3")
"""They log URLs."""
SILENT = logging.CRITICAL + 1

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,19}(?=://)")


class Outcome(StrEnum):
    """The result of a message."""

    SENT = "sent"
    FAILED = "failed"
    TIMED_OUT = "timed out"


class Channel:
    """A way to the owner. Create it with `open_channels`.

    Args:
        name: the scheme and the host of its URL, to be shown.
        plugin: Apprise's part.
        label: stands before the title of every message.
    """

    def __init__(self, name: str, plugin: "NotifyBase", label: str = "") -> None:
        self.name = name
        self._plugin = plugin
        self._label = label
        self._sending: asyncio.Future[bool] | None = None

    async def send(self, message: Message) -> Outcome:
        """Send a message. After a failure, try once more; not after a timeout, because that message may have arrived.

        A try that hangs keeps its thread, which does not keep the program from ending. This channel sends nothing else
        until it ends, so there is never more than one.
        """
        started_at = time.monotonic()
        outcome = await self._try(message)
        if outcome is Outcome.FAILED and time.monotonic() - started_at < self._least_timeout_seconds():
            await asyncio.sleep(RETRY_SECONDS)
            outcome = await self._try(message)
        return outcome

    async def finish(self, timeout_seconds: float) -> Outcome:
        """Wait for the message that is being sent, and return the result of the last one."""
        if self._sending is None:
            return Outcome.SENT
        if not self._sending.done():
            await asyncio.wait([self._sending], timeout=timeout_seconds)
        if not self._sending.done():
            return Outcome.TIMED_OUT
        return Outcome.SENT if self._sending.result() else Outcome.FAILED

    async def _try(self, message: Message) -> Outcome:
        give_up_at = time.monotonic() + SEND_SECONDS
        if await self.finish(SEND_SECONDS) is Outcome.TIMED_OUT:
            return Outcome.TIMED_OUT
        self._sending = asyncio.get_running_loop().create_future()
        work = threading.Thread(target=self._work, args=(message, self._sending), name="notify", daemon=True)
        work.start()
        return await self.finish(max(0.0, give_up_at - time.monotonic()))

    def _work(self, message: Message, sending: asyncio.Future[bool]) -> None:
        try:
            title = f"{self._label}{message.title}"
            sent = bool(self._plugin.notify(body=message.body, title=title, body_format="text"))
        except Exception:  # noqa: BLE001 - its text may hold the URL
            sent = False
        with suppress(RuntimeError):  # the program has ended
            sending.get_loop().call_soon_threadsafe(_finish, sending, sent)

    def _least_timeout_seconds(self) -> float:
        return min(self._plugin.socket_connect_timeout, self._plugin.socket_read_timeout)


def _finish(sending: asyncio.Future[bool], sent: bool) -> None:
    if not sending.done():
        sending.set_result(sent)


def open_channels(urls: Sequence[SecretStr], label: str = "") -> list[Channel]:
    """Open a channel for each URL. This sends nothing.

    Args:
        urls: the URLs, as Apprise reads them.
        label: stands before the title of every message.

    Raises:
        SettingsError: Apprise is not installed, or cannot use a URL. No URL is in the message.
    """
    if not urls:
        return []
    try:
        from apprise import AppriseAsset  # noqa: PLC0415 - an extra, needed by nobody else
    except ImportError:
        raise SettingsError(
            f"{variable('notify_urls')} is set, but Apprise is not installed. Install it, or the extra `notify` of"
            " pysequence-api: pip install apprise"
        ) from None
    for name in LOGGERS:
        logging.getLogger(name).setLevel(SILENT)
    asset = AppriseAsset(
        app_id="pysequence-api",
        app_desc="pysequence-api",
        app_url="",
        image_path_mask=False,
        http_redirects=False,
        storage_mode="memory",
    )
    channels: list[Channel] = []
    for number, secret in enumerate(urls, start=1):
        url = secret.get_secret_value()
        plugin = _plugin_of(url, asset)
        scheme = _SCHEME.match(url)
        if plugin is None:
            which = f"{number} ({scheme[0]})" if scheme else f"{number}"
            raise SettingsError(
                f"{variable('notify_urls')}: Apprise cannot use URL {which}. See"
                " https://github.com/caronc/apprise/wiki for how to write it."
            )
        name = _shown(scheme[0].lower() if scheme else "unknown", plugin)
        taken = sum(channel.name.partition(" ")[0] == name for channel in channels)
        channels.append(Channel(f"{name} ({taken + 1})" if taken else name, plugin, label))
    return channels


def _plugin_of(url: str, asset: "AppriseAsset") -> "NotifyBase | None":
    from apprise import Apprise  # noqa: PLC0415 - see `open_channels`

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the first call imports every service of Apprise
        try:
            return Apprise.instantiate(url, asset=asset)
        except Exception:  # noqa: BLE001 - its text may hold the URL
            return None


def _shown(scheme: str, plugin: "NotifyBase") -> str:
    """Return the scheme and the host. Some URLs have a token or a topic in place of the host: then, only the scheme."""
    host = str(plugin.host or "") if "host" in plugin.template_tokens else ""
    return f"{scheme}://{host}" if host == "localhost" or "." in host or ":" in host else f"{scheme}://"
