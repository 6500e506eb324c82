"""The settings, if they can be loaded."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from pysequence_api.doctor.finding import Finding, ok, problem, warning
from pysequence_api.env_files import files_read
from pysequence_api.errors import SettingsError
from pysequence_api.money import format_cents
from pysequence_api.notify.channels import open_channels
from pysequence_api.records.callers import has_callers
from pysequence_api.sequence.proxies import proxy_for
from pysequence_api.settings import SHORT_API_KEY_CHARACTERS, Settings, is_loopback, unknown_variables, variable

NAME = "settings"
SEQUENCE_DOMAIN = "getsequence.io"
NEW_KEY = "Create a key: pysequence-api key new"


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Check whether everything is set that some command needs, and whether it is safe."""
    found = [*_unknown(), *_missing(settings), *check_exposure(settings)]
    yield from found
    if not found:
        per_transfer, per_day = settings.max_transfer_cents, settings.max_daily_transfer_cents
        where = "the sandbox" if settings.sandbox else "the real account"
        files = " and ".join(str(file.path) for file in files_read())
        source = f"; read from {files}" if files else ""
        limits = f"at most {format_cents(per_transfer)} per transfer, {format_cents(per_day)} per day"
        yield ok(NAME, f"{where}; {limits}{source}")


def check_exposure(settings: Settings) -> Iterator[Finding]:
    """Check who could read or guess secrets. The server reports these findings at every start."""
    is_local = is_loopback(settings.server_host) or settings.server_socket is not None
    exposed = not settings.sandbox and not is_local
    key = settings.api_key
    if key is not None and not settings.sandbox and len(key.get_secret_value()) < SHORT_API_KEY_CHARACTERS:
        said = f"{variable('api_key')} has fewer than {SHORT_API_KEY_CHARACTERS} characters and can be guessed"
        yield problem(NAME, said, NEW_KEY, SettingsError) if exposed else warning(NAME, said, NEW_KEY)
    if exposed and settings.tls_key is None:
        said = f"the server listens on {settings.server_host} without TLS, so others on the network can read the key"
        fix = (
            f"Set {variable('tls_certificate')} and {variable('tls_key')}, put a proxy with TLS in front, or set"
            f" {variable('server_host')} to 127.0.0.1."
        )
        yield warning(NAME, said, fix)
    for file in files_read():
        if not file.is_private:
            yield warning(NAME, f"others can read {file.path}", f"chmod 600 {file.path}")


def check_hosts(settings: Settings) -> Iterator[Finding]:
    """Name every host that credentials go to."""
    subject = "hosts"
    if settings.sandbox:
        yield ok(subject, "credentials go nowhere; the sandbox runs in this process")
        return
    names = ("platform_url",) if settings.uses_platform else ("graphql_url", "auth_url", "app_url")
    urls = [getattr(settings, name) for name in names]
    hosts = [*dict.fromkeys(_host(url) for url in urls)]
    proxies = {_host(proxy) for url in urls if (proxy := proxy_for(url)) is not None}
    through = f", through the proxy {' and '.join(sorted(proxies))}" if proxies else ""
    what = f"{variable('platform_key')} goes" if settings.uses_platform else "credentials go"
    said = f"{what} to {' and '.join(hosts)}{through}"
    foreign = [host for host in hosts if host != SEQUENCE_DOMAIN and not host.endswith(f".{SEQUENCE_DOMAIN}")]
    if foreign:
        variables = ", ".join(variable(name) for name in names)
        fix = f"Unless you trust {' and '.join(foreign)}, correct {variables}."
        yield warning(subject, f"{said}; not all of them are Sequence's", fix)
    else:
        yield ok(subject, said)


def check_notifications(settings: Settings) -> Iterator[Finding]:
    """Check whether Apprise is installed and can use the URLs, if there are any. Sends nothing."""
    if not settings.notify_urls:
        return
    subject = "notifications"
    try:
        channels = open_channels(settings.notify_urls)
    except SettingsError as error:
        yield problem(subject, str(error).removesuffix("."), "Until then, `serve` does not start.", SettingsError)
        return
    names = ", ".join(channel.name for channel in channels)
    events = ", ".join(settings.notify_events) or "none"
    yield ok(subject, f"through {names}; events: {events}; to try: pysequence-api notify test")


def _host(url: str) -> str:
    return urlsplit(url).hostname or "an unknown host"


def _unknown() -> Iterator[Finding]:
    for name, meant in unknown_variables().items():
        said = f"{name} is not a setting and has no effect"
        if meant is None:
            yield warning(NAME, said, "Unset it, if it was meant for this program.")
        else:
            fix = f"Did you mean {meant}? Until it is renamed or unset, `serve` and `transfer` do not start."
            yield problem(NAME, said, fix, SettingsError)


def _missing(settings: Settings) -> Iterator[Finding]:
    if settings.sandbox:
        return
    if settings.api_key is None and not has_callers(settings.data_directory):
        yield warning(NAME, f"{variable('api_key')} is empty or not set; `serve` needs it", NEW_KEY)
    if settings.uses_platform:
        return
    for name, needed_by in (("org_id", "`activity` and the server"), ("kyc_id", "transfers")):
        if getattr(settings, name) is None:
            yield warning(NAME, f"{variable(name)} is not set; {needed_by} need it", f"Set {variable(name)}.")
