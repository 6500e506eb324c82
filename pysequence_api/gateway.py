"""Puts the client, the records and the safeguards together. Opened once, closed once."""

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import httpx
from pydantic import SecretStr

from pysequence_api import __version__
from pysequence_api.account.fresh import FreshReads
from pysequence_api.account.scoped import ScopedReads, View, ignore_age
from pysequence_api.account.shared import SharedAnswers
from pysequence_api.clock import Clock, utc_now
from pysequence_api.errors import InvalidRequestError, SafeguardsUnavailableError
from pysequence_api.files import prepare_directory, read_bytes
from pysequence_api.models import Accounts, TransferOrder
from pysequence_api.records import open_records
from pysequence_api.records.attempts import DEFAULT_CALLER
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import Caller, Callers
from pysequence_api.records.database import Database
from pysequence_api.records.names import Names
from pysequence_api.safeguards.asking import expire
from pysequence_api.safeguards.caller_status import CallerLimits, read_caller_limits
from pysequence_api.safeguards.follow_up import FollowUp
from pysequence_api.safeguards.judge import is_free
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.owner import Owner
from pysequence_api.safeguards.policies import PolicyInForce
from pysequence_api.safeguards.policy import Caller as Grants
from pysequence_api.safeguards.policy import Policy, Scope
from pysequence_api.safeguards.rate import Rate
from pysequence_api.safeguards.scopes import expired, missing_scope, sees_everything
from pysequence_api.safeguards.status import Limits, read_limits
from pysequence_api.safeguards.transfers import TransferService
from pysequence_api.sequence.client import SequenceClient
from pysequence_api.settings import Settings, variable

if TYPE_CHECKING:
    from pysequence_api.account.preview import Preview
    from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
    from pysequence_api.sequence.platform.client import PlatformSequenceClient
    from pysequence_api.sequence.sign_in.service import SignIn

SANDBOX_DATABASE_NAME = "sequence.sqlite"
REAL_SETTINGS = (
    "graphql_url",
    "auth_url",
    "auth0_client_id",
    "app_url",
    "access_token",
    "email",
    "password",
    "totp",
    "platform_key",
    "platform_url",
)
"""Set for the real account, and kept out of the simulated Sequence."""
COPY_SECONDS = 1.0
"""`.daily_limits.json` is written at most this often."""
SYNC_SECONDS = 60.0
"""The audit trail is put on the disk, and repeated rejections are summed up, this often."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller may do, by the policy that was in force when it was looked up.

    Attributes:
        caller: who asks.
        policy: the policy; ``None`` if there is none.
        records: the state of the records at that moment; see `Moment`.
    """

    caller: Caller
    policy: Policy | None
    records: str | None

    def require(self, scope: Scope) -> None:
        """Check that the caller may do something.

        Raises:
            ScopeMissingError: it may not.
        """
        error = missing_scope(self.policy, self.caller.name, scope)
        if error is not None:
            raise error


@dataclass(frozen=True, slots=True)
class Gateway:
    """One account at Sequence behind its safeguards. Opened once, closed once.

    Attributes:
        settings: what it was opened with.
        client: reads of the account.
        transfers: the only way to move money.
        preview_rate: how often each caller may look at transfers before they are requested; see `preview`.
        fresh: answers of Sequence that are young enough to be used again by whoever reads.
        follow_up: finds out what became of transfers.
        records: the database.
        names: what pods, ports and accounts are called.
        callers: finds the caller of a key.
        owner: checks the codes and the password of the owner.
        policy: what the callers may do.
        max_cents: the limits of this process.
        default_organization_id: for routes that name no organization.
        default_kyc_id: for transfers that name none.
    """

    settings: Settings
    client: SequenceClient
    transfers: TransferService
    preview_rate: Rate
    fresh: FreshReads
    follow_up: FollowUp
    records: Database
    names: Names
    callers: Callers
    owner: Owner
    policy: PolicyInForce
    max_cents: MaxCents
    default_organization_id: str | None
    default_kyc_id: str | None

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
    def kyc_id(self) -> str | None:
        """The default KYC id; ``None`` if this upstream has none.

        Raises:
            InvalidRequestError: none is set.
        """
        if self.default_kyc_id is None and self.client.capabilities.kyc:
            raise InvalidRequestError(f"Name a KYC id, or set {variable('kyc_id')}.")
        return self.default_kyc_id if self.client.capabilities.kyc else None

    def stop(self) -> None:
        """Release everything that has not been sent to Sequence; see `TransferService.stop`."""
        self.transfers.stop()
        self.client.stop()

    def access_of(self, caller: Caller) -> Access:
        """Return what a caller may do, by the policy in force now.

        Raises:
            CallerExpiredError: the time of the caller is over.
            SafeguardsUnavailableError: the policy cannot be read.
        """
        now = self.policy.now()
        error = expired(now.policy, caller.name, self.records.now())
        if error is not None:
            raise error
        return Access(caller, now.policy, now.records)

    def may(self, caller: Caller, scope: Scope) -> bool:
        """Say whether a caller has a scope."""
        return missing_scope(self.policy.get(), caller.name, scope) is None

    def view_of(self, caller: Caller) -> View:
        """Say what a caller may see of the account."""
        return _view(self.policy.get(), caller)

    async def preview(
        self,
        order: TransferOrder,
        channel: Channel,
        key: str | None = None,
        *,
        caller: Caller,
        accounts: Accounts | None = None,
    ) -> "Preview":
        """Say what a transfer would do, as far as its caller may see that. Nothing is reserved, sent or recorded.

        That a safeguard would refuse the transfer is told, not raised.

        Args:
            order: what would be moved.
            channel: how it would be requested.
            key: the caller's idempotency key.
            caller: who asks.
            accounts: the list of the account with its balances, if it was just read.

        Raises:
            InvalidRequestError: the account does not have what the order names, or this upstream cannot do it.
            TooManyAttemptsError: the caller asks too often.
            SequenceError: Sequence cannot be asked whether the accounts exist.
            SafeguardsUnavailableError: no transfer is possible, whatever is requested.
        """
        from pysequence_api.account.preview import Previewer, Sight  # noqa: PLC0415 - whoever only reads does without

        self.client.check_order(order)
        self.preview_rate.admit(caller.name)
        sight = Sight.of(self.policy.get(), caller, self.view_of(caller))
        previewer = Previewer(self.client, self.transfers, self.records, self.max_cents, self.default_organization_id)
        return await previewer.preview(order, channel, key, caller=caller, sight=sight, accounts=accounts)

    def reads_of(
        self, access: Access, *, again: bool = True, on_age: Callable[[float], None] = ignore_age
    ) -> ScopedReads:
        """Return what reads the account for a caller, as far as it may see it.

        Args:
            access: what the caller may do.
            again: whether an answer that is young enough may be used again.
            on_age: called with the age in seconds of each answer that is used again.
        """
        view = _view(access.policy, access.caller)
        return ScopedReads(self.client, view, self.fresh, access.records, again, on_age)

    def reads_of_owner(self, *, again: bool, on_age: Callable[[float], None]) -> ScopedReads:
        """Return what reads the account for the owner's terminal: everything, also if the policy cannot be read.

        Args:
            again: whether an answer that is young enough may be used again.
            on_age: called with the age in seconds of each answer that is used again.
        """
        return ScopedReads(self.client, View(), self.fresh, _state_of(self.records), again, on_age)

    def limits_of(self, caller: Caller) -> Limits | CallerLimits:
        """Say what a caller may know of what is used and left today.

        That is everything for `default`, if it sees all activity: a policy must not take its owner's view from it.

        Raises:
            CallerExpiredError: the time of the caller is over.
            SafeguardsUnavailableError: the records cannot be read.
        """
        policy = self.access_of(caller).policy
        sees_all = caller.name == DEFAULT_CALLER and sees_everything(policy, caller.name, Scope.READ_ACTIVITY)
        if sees_all or is_free(policy, caller.name):
            return read_limits(self.records, self.max_cents, caller.name)
        return read_caller_limits(self.records, caller.name)

    def limits(self) -> Limits:
        """Say what is used and left today; see `read_limits`."""
        return read_limits(self.records, self.max_cents)


def _view(policy: Policy | None, caller: Caller) -> View:
    if is_free(policy, caller.name):
        return View()
    return View.of(Grants() if policy is None else policy.caller(caller.name))


@asynccontextmanager
async def open_gateway(
    settings: Settings,
    *,
    is_owner: bool = False,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Clock = utc_now,
) -> AsyncIterator[Gateway]:
    """Open the gateway. On leaving, release what has not been sent, wait for what has, and close it.

    Args:
        settings: with ``sandbox``, and without a transport, the simulated Sequence runs in this process.
        is_owner: this process is the owner's terminal, whose requests go ahead of those of the server.
        transport: answers the requests to Sequence instead of the network; whoever passes it closes it.
        clock: returns the time in UTC.

    Raises:
        SettingsError: the data directory cannot be used.
    """
    directory = settings.data_directory
    records = open_records(directory, clock)
    names, callers = Names(records), Callers(records)
    max_cents = MaxCents.of(settings)
    shared = SharedAnswers(directory, settings.read_max_age_seconds, partial(_source_of_answers, settings))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(anyio.to_thread.run_sync, _close, records, names, callers, shared)
        if settings.sandbox and transport is None:
            settings, transport = await stack.enter_async_context(_open_sandbox(settings, directory))
        client = _client_of(settings).open(settings, directory, transport, on_name=names.learn, is_owner=is_owner)
        stack.push_async_callback(client.aclose)
        follow_up = FollowUp(client, records, grace_seconds=settings.reconcile_grace_seconds, clock=clock)
        owner = Owner(records, settings.owner_totp)
        transfers = TransferService(
            client,
            records,
            names,
            owner,
            max_cents,
            organization_id=settings.default_organization_id,
            max_attempts_per_minute=settings.max_transfer_attempts_per_minute,
            request_timeout_seconds=settings.request_timeout_seconds,
            clock=clock,
            count_missing=follow_up.count_missing,
            on_open=follow_up.wake,
        )
        await stack.enter_async_context(_copies_kept(records, names, callers))
        stack.push_async_callback(transfers.aclose)
        yield Gateway(
            settings,
            client,
            transfers,
            Rate("previews", settings.max_transfer_attempts_per_minute, time.monotonic),
            FreshReads(settings.read_max_age_seconds, shared),
            follow_up,
            records,
            names,
            callers,
            owner,
            PolicyInForce(records),
            max_cents,
            default_organization_id=settings.default_organization_id,
            default_kyc_id=settings.kyc_id if client.capabilities.kyc else None,
        )


@asynccontextmanager
async def open_sign_in(settings: Settings, debug_directory: Path | None = None) -> AsyncIterator["SignIn"]:
    """Open signing in alone, without the account behind it.

    Args:
        settings: for the real account; the simulated Sequence in this process needs no signing in.
        debug_directory: gets screenshots of pages at which a login stopped.

    Raises:
        InvalidRequestError: for the simulated Sequence, and for the Platform API.
        SettingsError: the data directory, or ``SEQUENCE_TOTP``, cannot be used.
    """
    if settings.uses_platform:
        from pysequence_api.sequence.platform.client import NO_SIGN_IN  # noqa: PLC0415

        raise InvalidRequestError(
            f"{NO_SIGN_IN} {variable('platform_key')} is all that it needs. Signing in is for"
            f" {variable('upstream')}=graphql."
        )
    if settings.sandbox:
        raise InvalidRequestError(
            f"The simulated Sequence in this process needs no signing in. Leave {variable('sandbox')} unset for the"
            " real one; `sandbox serve` runs one with pages to sign in at."
        )
    from pysequence_api.sequence.sign_in.service import SignIn  # noqa: PLC0415 - few commands sign in

    prepare_directory(settings.data_directory)
    sign_in = SignIn.open(settings, settings.data_directory, debug_directory)
    try:
        yield sign_in
    finally:
        await sign_in.aclose()


@asynccontextmanager
async def _copies_kept(records: Database, names: Names, callers: Callers) -> AsyncIterator[None]:
    """Keep the files that follow the database up to date while this is open."""
    task = asyncio.create_task(_keep_copies(records, names, callers), name="copies")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _keep_copies(records: Database, names: Names, callers: Callers) -> None:
    synced_at = time.monotonic()
    while True:
        await asyncio.sleep(COPY_SECONDS)
        if records.attempts_changed.is_set():
            await anyio.to_thread.run_sync(records.write_limits)
        await anyio.to_thread.run_sync(names.save)
        await anyio.to_thread.run_sync(callers.save_uses)
        if records.is_open and time.monotonic() - synced_at >= SYNC_SECONDS:
            synced_at = time.monotonic()
            await anyio.to_thread.run_sync(_sum_up_and_sync, records)


def _state_of(records: Database) -> str | None:
    """Return what changes with every step of a transfer, in every process; ``None`` if it cannot be read."""
    try:
        return records.read(lambda reader: reader.audit_head()) or ""
    except SafeguardsUnavailableError:
        return None


def _sum_up_and_sync(records: Database) -> None:
    try:
        if records.read(lambda reader: reader.repeated_rejections()):
            records.write(lambda writer: writer.sum_up_rejections())
        if records.read(lambda reader: reader.overdue_approvals()):
            records.write(expire)
        records.sync_trail()
    except SafeguardsUnavailableError as error:
        log.error("%s", error)


def _source_of_answers(settings: Settings) -> str:
    """Return a hash of whose account the answers are about, and of what else they depend on."""
    parts = [__version__, settings.sandbox, settings.uses_platform, settings.org_id]
    tokens = None
    if not settings.sandbox:
        # Nothing that can be guessed, such as the password: whoever reads the file could try guesses against a hash.
        keys = [key and key.get_secret_value() for key in (settings.access_token, settings.platform_key)]
        parts += [settings.upstream_url, settings.auth_url, settings.email, *keys]
        if not settings.uses_platform:
            from pysequence_api.sequence.sign_in.token_cache import CACHE_FILE_NAME  # noqa: PLC0415 - as its client

            with suppress(OSError):  # without readable tokens, the answers come from another sign-in, or from none
                tokens = read_bytes(settings.data_directory / CACHE_FILE_NAME)
    return hashlib.sha256(json.dumps(parts).encode() + b"\n" + (tokens or b"")).hexdigest()


def _close(records: Database, names: Names, callers: Callers, shared: SharedAnswers) -> None:
    shared.remove_old()
    names.save()
    callers.save_uses()
    if records.is_open:
        _sum_up_and_sync(records)
        records.write_limits()
    with suppress(SafeguardsUnavailableError):
        records.close()


def _client_of(settings: Settings) -> "type[GraphQLSequenceClient | PlatformSequenceClient]":
    """Return the client of the API that is used. The other one is not loaded."""
    if settings.uses_platform:
        from pysequence_api.sequence.platform.client import PlatformSequenceClient  # noqa: PLC0415

        return PlatformSequenceClient
    from pysequence_api.sequence.graphql.client import GraphQLSequenceClient  # noqa: PLC0415

    return GraphQLSequenceClient


@asynccontextmanager
async def _open_sandbox(
    settings: Settings, directory: Path
) -> AsyncIterator[tuple[Settings, httpx.AsyncBaseTransport]]:
    """Run the simulated Sequence in this process, from the first request on."""
    from pysequence_api.sandbox import ids  # noqa: PLC0415 - real money does without
    from pysequence_api.sandbox.in_process import InProcessSandbox  # noqa: PLC0415

    access_token = secrets.token_urlsafe()
    # The transport answers every address; what is set for the real account stays out of it.
    values = {name: Settings.model_fields[name].default for name in REAL_SETTINGS} | {
        "org_id": settings.org_id or (None if settings.uses_platform else ids.ORGANIZATION_ID),
        "kyc_id": settings.kyc_id or ids.KYC_ID,
        "upstream": "platform" if settings.uses_platform else "graphql",
        "access_token": SecretStr(access_token),
        "platform_key": SecretStr(ids.PLATFORM_KEY),
    }
    simulated = InProcessSandbox(directory / SANDBOX_DATABASE_NAME, access_token)
    try:
        yield settings.model_copy(update=values), simulated
    finally:
        await simulated.finish()
