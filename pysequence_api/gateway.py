"""Puts a client and the safeguards together. The only thing that both doors import from inside."""

import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from pysequence_api.clock import Clock, utc_now
from pysequence_api.errors import InvalidRequestError, SafeguardsUnavailableError, SettingsError
from pysequence_api.files import locked, prepare_directory, replace_atomically
from pysequence_api.records.names import Names
from pysequence_api.safeguards.recovery import Recovery
from pysequence_api.safeguards.reservations import Records
from pysequence_api.settings import Settings, variable

if TYPE_CHECKING:
    import httpx

    from pysequence_api.safeguards.follow_up import FollowUp
    from pysequence_api.safeguards.transfers import TransferService
    from pysequence_api.sequence.client import SequenceClient
    from pysequence_api.sequence.sign_in.service import SignIn

SANDBOX_DATABASE_NAME = "sequence.sqlite"
REAL_SETTINGS = ("graphql_url", "auth_url", "app_url", "access_token", "email", "password", "totp")
"""What is set for the real account, and stays out of the simulated Sequence."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gateway:
    """One account at Sequence behind its safeguards. Opened once, closed once.

    Attributes:
        settings: what it was opened with.
        client: reads of the account.
        transfers: the only way to move money.
        follow_up: finds out what became of transfers whose outcome is unknown.
        recovery: what is known of an attempt.
        records: what is on the disk.
        default_organization_id: for routes that name no organization.
        default_kyc_id: for transfers that name none.
        data_directory_is_new: whether no transfer was ever recorded in the data directory.
    """

    settings: Settings
    client: "SequenceClient"
    transfers: "TransferService"
    follow_up: "FollowUp"
    recovery: Recovery
    records: Records
    default_organization_id: str | None
    default_kyc_id: str | None
    data_directory_is_new: bool

    @property
    def organization_id(self) -> str:
        """The default organization.

        Raises:
            InvalidRequestError: none is set.
        """
        if self.default_organization_id is None:
            raise InvalidRequestError(f"Name an organization, or set {variable('org_id')}.")
        return self.default_organization_id

    @property
    def kyc_id(self) -> str:
        """The default KYC id.

        Raises:
            InvalidRequestError: none is set.
        """
        if self.default_kyc_id is None:
            raise InvalidRequestError(f"Name a KYC id, or set {variable('kyc_id')}.")
        return self.default_kyc_id


@asynccontextmanager
async def open_gateway(
    settings: Settings, *, transport: "httpx.AsyncBaseTransport | None" = None, clock: Clock = utc_now
) -> AsyncIterator[Gateway]:
    """Open the gateway; on leaving, wait for transfers that are on their way, and close it.

    Args:
        settings: with ``sandbox``, and without a transport, the simulated Sequence runs in this process.
        transport: answers the requests to Sequence instead of the network; whoever gives it closes it.
        clock: gives the time in UTC.

    Raises:
        SettingsError: the data directory cannot be used.
    """
    # Not at the top: what only reads files (`limits show`, `audit tail`) starts without an HTTP client.
    from pysequence_api.safeguards.follow_up import FollowUp  # noqa: PLC0415
    from pysequence_api.safeguards.transfers import TransferService  # noqa: PLC0415
    from pysequence_api.sequence.graphql.client import GraphQLSequenceClient  # noqa: PLC0415

    directory = settings.data_directory
    records = open_records(settings, clock)
    await anyio.to_thread.run_sync(_prepare, records, open_recovery(settings, records))
    is_new = not await anyio.to_thread.run_sync(records.audit.size_bytes)
    async with AsyncExitStack() as stack:
        organization_id, kyc_id = settings.org_id, settings.kyc_id
        if settings.sandbox:
            from pysequence_api import sandbox  # noqa: PLC0415

            organization_id, kyc_id = organization_id or sandbox.ORGANIZATION_ID, kyc_id or sandbox.KYC_ID
            if transport is None:
                settings, transport = await stack.enter_async_context(_open_sandbox(settings, directory))
        client = GraphQLSequenceClient.open(settings, directory, transport)
        stack.push_async_callback(client.aclose)
        recovery = open_recovery(settings, records)
        follow_up = FollowUp(client, recovery, clock=clock)
        transfers = TransferService(
            client,
            records,
            organization_id=organization_id,
            max_attempts_per_minute=settings.max_transfer_attempts_per_minute,
            on_unsettled=follow_up.wake,
        )
        stack.push_async_callback(transfers.aclose)
        yield Gateway(settings, client, transfers, follow_up, recovery, records, organization_id, kyc_id, is_new)


@asynccontextmanager
async def open_sign_in(settings: Settings, debug_directory: Path | None = None) -> AsyncIterator["SignIn"]:
    """Open signing in alone, without the account behind it.

    Args:
        settings: for the real account; the simulated Sequence in this process needs no signing in.
        debug_directory: gets pictures of pages at which a login stopped.

    Raises:
        InvalidRequestError: for the simulated Sequence.
        SettingsError: the data directory, or ``SEQUENCE_TOTP``, cannot be used.
    """
    from pysequence_api.sequence.sign_in.service import SignIn  # noqa: PLC0415 - loads an HTTP client

    if settings.sandbox:
        raise InvalidRequestError(
            f"The simulated Sequence in this process needs no signing in. Leave {variable('sandbox')} unset for the"
            " real one; `sandbox serve` runs one with pages to sign in at."
        )
    prepare_directory(settings.data_directory)
    sign_in = SignIn.open(settings, settings.data_directory, debug_directory)
    try:
        yield sign_in
    finally:
        await sign_in.aclose()


def open_records(settings: Settings, clock: Clock = utc_now) -> Records:
    """Open ledger and audit trail alone, without Sequence.

    Raises:
        SettingsError: the data directory cannot be used.
    """
    prepare_directory(settings.data_directory)
    return Records(
        settings.data_directory,
        max_transfer_cents=settings.max_transfer_cents,
        max_daily_cents=settings.max_daily_transfer_cents,
        clock=clock,
    )


def open_names(settings: Settings) -> Names:
    """Open what is remembered of names; the data directory is there already."""
    return Names(settings.data_directory)


def open_recovery(settings: Settings, records: Records) -> Recovery:
    """Open what decides about unsettled attempts, on records that are open."""
    return Recovery(records, grace_seconds=settings.reconcile_grace_seconds)


def _prepare(records: Records, recovery: Recovery) -> None:
    try:
        records.store.prepare()
        recovery.begin()  # what a crash kept from the trail is written before anything else happens
        head = records.store.head()
        log.info("audit trail: %d entries, head %s", head.count, head.sha256)
    except SafeguardsUnavailableError as error:
        log.error("%s", error)  # reads go on


@asynccontextmanager
async def _open_sandbox(
    settings: Settings, directory: Path
) -> AsyncIterator[tuple[Settings, "httpx.AsyncBaseTransport"]]:
    """Run the simulated Sequence in this process, with a token for it in the sandbox's own cache."""
    from pysequence_api.sandbox import CLIENT_ID, Sandbox, SandboxFileError  # noqa: PLC0415

    try:
        sandbox = await anyio.to_thread.run_sync(Sandbox, directory / SANDBOX_DATABASE_NAME)
    except SandboxFileError as error:
        raise SettingsError(str(error)) from error
    try:
        issued = sandbox.issue_tokens()
        tokens = {
            "access_token": issued.access_token,
            "refresh_token": issued.refresh_token,
            "expires_at": time.time() + issued.expires_in_seconds,
        }
        await anyio.to_thread.run_sync(_cache_tokens, directory, json.dumps(tokens).encode())
        # The transport answers every address; what is set for the real account stays out of it.
        real = {name: Settings.model_fields[name].default for name in REAL_SETTINGS}
        yield settings.model_copy(update=real | {"auth0_client_id": CLIENT_ID}), sandbox.transport()
    finally:
        await sandbox.aclose()


def _cache_tokens(directory: Path, content: bytes) -> None:
    from pysequence_api.sequence.sign_in.token_cache import CACHE_FILE_NAME, LOCK_FILE_NAME  # noqa: PLC0415

    with locked(directory / LOCK_FILE_NAME):
        replace_atomically(directory / CACHE_FILE_NAME, content)
