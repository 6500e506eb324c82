"""Runs the HTTP server: opens the gateway, listens, and stops in order."""

import logging
import os
import resource
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from pysequence_api.api.app import create_app
from pysequence_api.doctor.account import check_ids, check_token
from pysequence_api.doctor.finding import Finding, Level
from pysequence_api.doctor.page import check_page_of
from pysequence_api.doctor.policy import check_policy_of
from pysequence_api.doctor.settings import check_exposure
from pysequence_api.env_files import read_trusted
from pysequence_api.errors import (
    AccessDeniedError,
    GatewayError,
    LockTimeoutError,
    NotAuthorizedError,
    SafeguardsUnavailableError,
    SequenceError,
    SettingsError,
    SignInError,
)
from pysequence_api.gateway import Gateway, open_gateway, open_sign_in
from pysequence_api.mcp.route import add_mcp
from pysequence_api.notify import Notifier, open_notifier
from pysequence_api.records.attempts import Writer
from pysequence_api.records.callers import has_callers
from pysequence_api.records.check import check
from pysequence_api.safeguards.applying import apply_policy_file
from pysequence_api.safeguards.policy import PolicyError
from pysequence_api.sequence.sign_in.login import CREDENTIAL_FIELDS
from pysequence_api.sequence.sign_in.token_cache import CACHE_FILE_NAME
from pysequence_api.settings import (
    NotifyEvent,
    Settings,
    is_platform,
    is_sandbox,
    unknown_variables,
    variable,
    warn_about_ignored_file,
)
from pysequence_api.web.listening import bind, create_server, tls_context

CHECK_SECONDS = 86_400.0
WATCH_SECONDS = 60.0
"""How soon the owner is told that the audit trail cannot be trusted, or that signing in needs a person."""

if TYPE_CHECKING:
    from pysequence_api.owner import PageServer

log = logging.getLogger(__name__)


def required_settings(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the settings that a server needs, given those that are set."""
    if is_sandbox(given):
        return ("api_key",)  # it has ids of its own
    directory = Path(os.path.expanduser(given.get("data_dir", "")))  # noqa: PTH111 - does not fail
    key = () if has_callers(directory) else ("api_key",)
    if is_platform(given):
        return key  # the Platform API needs no ids
    has_token = "access_token" in given or os.path.lexists(directory / CACHE_FILE_NAME)
    return (*key, "org_id", "kyc_id", *(() if has_token else CREDENTIAL_FIELDS))


async def serve(settings: Settings, *, on_ready: Callable[[Gateway, str], None]) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP. Then release what was not sent, wait for what was, and return.

    Args:
        settings: with everything in `required_settings`.
        on_ready: called with the gateway and the server's URL once connections are accepted.

    Raises:
        SettingsError: the data directory, the address, the port, the policy file or a URL for notifications cannot be
            used, or an id is not the account's.
        SignInError: there is no access token, and no way to get one.
        NotAuthorizedError: Sequence rejects the access token, or the key.
        SafeguardsUnavailableError: the policy file was changed, and the policy cannot be stored.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the password, the tokens and the key
    _warn_about_settings(settings)
    async with AsyncExitStack() as stack:
        tls = tls_context(settings)
        gateway = await stack.enter_async_context(open_gateway(settings))
        app = create_app(gateway)
        add_mcp(app)
        notifier = open_notifier(gateway.settings, gateway.records)
        await anyio.to_thread.run_sync(_open_records, gateway)
        await anyio.to_thread.run_sync(_open_policy, gateway)
        await _check_account(gateway)
        listener = stack.enter_context(bind(gateway.settings))
        if (path := gateway.settings.server_socket) is not None:
            stack.callback(path.unlink, missing_ok=True)
        page = await _open_page(gateway, tls) if gateway.settings.has_page else None
        url = _url(gateway.settings)
        server = create_server(app, listener, tls, partial(on_ready, gateway, url), partial(_stop, gateway, page))
        with server.capture_signals():
            try:
                async with anyio.create_task_group() as background:
                    background.start_soon(notifier.run)
                    background.start_soon(_watch_records, gateway, notifier)
                    background.start_soon(_watch_sign_in, gateway, notifier)
                    background.start_soon(gateway.follow_up.run_for_ever)
                    background.start_soon(gateway.transfers.resending.keep_adopting)
                    background.start_soon(gateway.client.stay_signed_in)
                    async with anyio.create_task_group() as servers:
                        if page is not None:
                            servers.start_soon(page.serve)
                        await server.serve(sockets=[listener])
                        if page is not None:
                            page.stop()
                    background.cancel_scope.cancel()
            finally:
                # Signals are still captured: a second one must not end the wait for transfers.
                await stack.aclose()
                log.info("stopped; no transfer is in progress")


async def _open_page(gateway: Gateway, tls: ssl.SSLContext | None) -> "PageServer":
    """Listen for the owner. Without a password or a secret, the page says how to set them."""
    # Most servers have no page, and even fewer show one of the sandbox.
    from pysequence_api.owner import PageServer  # noqa: PLC0415

    showcase = None
    if gateway.settings.sandbox:
        from pysequence_api.demo import prepare, showcase_of  # noqa: PLC0415

        await prepare(gateway)
        showcase = await anyio.to_thread.run_sync(showcase_of, gateway)
    page = PageServer.open(gateway, tls, showcase)
    finding = await anyio.to_thread.run_sync(check_page_of, gateway.owner, gateway.settings)
    log.log(logging.INFO if finding.level is Level.OK else logging.WARNING, "%s", _line(finding))
    return page


def _stop(gateway: Gateway, page: "PageServer | None") -> None:
    gateway.stop()
    if page is not None:
        page.stop()


def _url(settings: Settings) -> str:
    if settings.server_socket is not None:
        return f"unix:{settings.server_socket}"
    host, scheme = settings.server_host, "http" if settings.tls_key is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.server_port}"


def _open_records(gateway: Gateway) -> None:
    """Open the database, record the limits, and report what is wrong with the files. Reads go on in any case."""

    def record(writer: Writer) -> str | None:
        writer.record_limits(gateway.max_cents.per_transfer, gateway.max_cents.per_day)
        return writer.distrust

    try:
        distrust = gateway.records.write(record)
    except SafeguardsUnavailableError as error:
        log.error("%s", error)
        return
    if distrust is not None:
        log.error("No transfer is possible: %s", distrust)
    limits = gateway.limits()
    log.info("audit trail: head %s", limits.audit_head or "none yet")
    if limits.frozen:
        log.warning("transfers are frozen (%s); `pysequence-api unfreeze` unfreezes them", limits.frozen_reason)
    for one in limits.frozen_callers:
        log.warning("transfers of %s are frozen (%s); `pysequence-api unfreeze %s`", one.caller, one.reason, one.caller)


def _open_policy(gateway: Gateway) -> None:
    """Apply the policy file if it was changed, and report what the policy grants."""
    path = gateway.settings.policy_file
    if path is not None:
        text = read_trusted(path)
        try:
            version = apply_policy_file(gateway.records, text, gateway.max_cents)
        except PolicyError as error:
            raise SettingsError(f"{variable('policy_file')} is {path}. {error}") from None
        if version is not None:
            log.warning("%s was changed; it is version %d of the policy now", path, version)
    try:
        for finding in check_policy_of(gateway.records, gateway.settings):
            level = logging.INFO if finding.level is Level.OK else logging.WARNING
            log.log(level, "policy: %s", _line(finding))
    except SafeguardsUnavailableError as error:
        log.error("the policy cannot be read: %s", error)


async def _watch_records(gateway: Gateway, notifier: Notifier) -> None:
    """Check the records at the start, and then daily. If the owner is told, see every minute if they are trusted."""
    tells = notifier.tells(NotifyEvent.RECORDS)
    while True:
        checked_at = time.monotonic()
        problem = await anyio.to_thread.run_sync(_check_records, gateway)
        while (left_seconds := checked_at + CHECK_SECONDS - time.monotonic()) > 0:
            if tells:
                distrust = await anyio.to_thread.run_sync(_distrust_of, gateway)
                notifier.report(NotifyEvent.RECORDS, problem or distrust)
            await anyio.sleep(min(left_seconds, WATCH_SECONDS) if tells else left_seconds)


def _check_records(gateway: Gateway) -> str | None:
    """Check the records, log what is wrong with them, and return the first problem."""
    try:
        problems = check(gateway.records).problems
    except SafeguardsUnavailableError as error:
        log.error("the records cannot be checked: %s", error)
        return str(error)
    for problem in problems:
        log.error("the records are damaged or were changed: %s", problem)
    return problems[0] if problems else None


def _distrust_of(gateway: Gateway) -> str | None:
    """Return why no transfer is possible with the files as they are now, if so."""
    try:
        return gateway.records.write(lambda writer: writer.distrust)
    except LockTimeoutError:
        return None  # another process works on them
    except SafeguardsUnavailableError as error:
        return str(error)


async def _watch_sign_in(gateway: Gateway, notifier: Notifier) -> None:
    """Tell the owner when the next sign-in has to wait, or needs a person."""
    settings = gateway.settings
    if settings.uses_platform or settings.sandbox or not notifier.tells(NotifyEvent.SIGN_IN):
        return
    try:
        async with open_sign_in(settings) as sign_in:
            while True:
                found = check_token(await sign_in.status())
                notifier.report(NotifyEvent.SIGN_IN, None if found.level is Level.OK else _line(found))
                await anyio.sleep(WATCH_SECONDS)
    except GatewayError as error:
        log.warning("notifications about signing in stop: %s", error)


async def _check_account(gateway: Gateway) -> None:
    """Check the credentials and the default ids with a read. The answer also tells the safeguards Sequence's time."""
    try:
        accounts = await gateway.client.accounts(balances=False)
    except (SignInError, NotAuthorizedError):
        raise
    except AccessDeniedError as error:
        log.error("No transfer is possible: %s", error.detail)
        return
    except SequenceError as error:
        # Start anyway: the outage may be over before the first request.
        log.warning("Sequence does not answer; starting anyway: %s", error)
        return
    found = [*check_ids(gateway.default_organization_id, gateway.default_kyc_id, accounts)]
    problems = [_line(finding) for finding in found if finding.level is Level.PROBLEM]
    if problems:
        raise SettingsError("\n  ".join(["The settings cannot be used:", *problems]))
    for finding in found:
        if finding.level is Level.WARNING:
            log.warning("%s", _line(finding))


def _warn_about_settings(settings: Settings) -> None:
    for finding in check_exposure(settings):
        log.log(logging.ERROR if finding.level is Level.PROBLEM else logging.WARNING, "%s", _line(finding))
    for name, meant in unknown_variables().items():
        log.warning("%s is not a setting and is ignored.%s", name, f" Did you mean {meant}?" if meant else "")
    warn_about_ignored_file()


def _line(finding: Finding) -> str:
    return f"{finding.said}. {finding.fix}" if finding.fix else finding.said
