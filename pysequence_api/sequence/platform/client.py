"""`SequenceClient` over Sequence's Platform API (docs/upstream-platform.md)."""

import re
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

import anyio
import httpx

from pysequence_api.clock import utc_now
from pysequence_api.errors import (
    AccessDeniedError,
    BusyError,
    ConnectionLostError,
    InvalidRequestError,
    NotAuthorizedError,
    NotFoundError,
    NotSentError,
    SequenceError,
    SettingsError,
    StoppingError,
    TimedOutError,
    UnexpectedStatusError,
)
from pysequence_api.models import (
    Accounts,
    ActivityFilter,
    ActivityPage,
    ActivitySummary,
    ExternalAccount,
    Pod,
    PodDetail,
    Port,
    TransferDetail,
    TransferOrder,
    TransferReceipt,
)
from pysequence_api.sequence.client import (
    MAX_UPSTREAM_PAGES,
    Capabilities,
    HasBalance,
    Keep,
    PreparedTransfer,
    SequenceClient,
    Upstream,
)
from pysequence_api.sequence.nodes import Node
from pysequence_api.sequence.observations import Observations, OnName, ignore_name
from pysequence_api.sequence.pacing import Pacer, Priority, Turn
from pysequence_api.sequence.platform.activity import (
    PAGE_TRANSFERS,
    Collected,
    Cursor,
    Listed,
    Parameters,
    Totals,
    write_time,
)
from pysequence_api.sequence.platform.answers import NEW_KEY, Answer
from pysequence_api.sequence.platform.connection import (
    Check,
    Connection,
    Creation,
    Read,
    path_of,
    transfer_reason,
)
from pysequence_api.sequence.platform.parsing import (
    Page,
    Summary,
    Unread,
    is_pod,
    is_simulated,
    linked_account_id,
    read_account,
    read_balance,
    read_created,
    read_page,
    read_pod_detail,
    read_summaries,
    read_transfer_detail,
)
from pysequence_api.sequence.sharing import SharedReads
from pysequence_api.sequence.telemetry import RequestStatistics, TokenLife, waiting
from pysequence_api.sequence.transport import HttpEndpoint, new_tls
from pysequence_api.settings import ONLY_ORGANIZATION, Settings, variable
from pysequence_api.text import quoted

REQUESTS_PER_MINUTE = 100
"""What Sequence allows for one key."""
REQUESTS_ON_THE_WAY = 2
"""How many of them are not used, because requests can take different times to get there."""
PACING_NAME = ".pacing-platform"
MIN_AMOUNT_CENTS = 100
MAX_DESCRIPTION_CHARACTERS = 10
MAX_PAGE_TRANSFERS = 100
MAX_SUMMARY_PAGES = 10
PAGE_ACCOUNTS = 100
MAX_ACCOUNT_PAGES = 20
MAX_READS_AT_ONCE = 8
"""How many accounts are read at the same time for their balances."""
MAX_LOST_READS = 3
"""After so many lost connections and time-outs, the other balances are not tried."""
RECENT_TRANSFERS = 5
ACCOUNT_IDS_SECONDS = 600.0
"""How long the ids of all accounts are used, unless an unknown one appears."""
NEW_ACCOUNT_IDS_SECONDS = 10.0
"""Ids that were read so recently are not read again because of an error."""
MAX_FOREIGN_IDS = 1000
NEW_TRANSFER_SECONDS = 60.0
"""For so long after it was created, a transfer may not be found yet."""
NEW_TRANSFER_WAITS_SECONDS = (0.25, 0.5, 1.0, 2.0, 2.0)
"""How long to wait before each time that it is asked for again."""
NO_SIGN_IN = "Sequence's Platform API needs no signing in."

_DESCRIPTION = re.compile(r"[A-Za-z0-9 ]*", re.ASCII)


class PlatformSequenceClient(SequenceClient):
    """One account at Sequence, used within one event loop. Create it with `open`.

    Args:
        connection: sends the requests.
        organization_id: what the account's only organization is called.
        on_name: called with the id and the name of each pod, port and account in an answer.
    """

    capabilities = Capabilities(Upstream.PLATFORM, resend=True, balances_apart=True)

    def __init__(self, connection: Connection, *, organization_id: str, on_name: OnName) -> None:
        self._connection = connection
        self._organization_id = organization_id
        self._observations = Observations(on_name)
        self._shared_accounts: SharedReads[Accounts] = SharedReads()
        self._account_ids: _AccountIds | None = None
        self._foreign_ids: set[str] = set()
        self._created: dict[str, float] = {}

    @classmethod
    def open(
        cls,
        settings: Settings,
        data_directory: Path,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        on_name: OnName = ignore_name,
        is_owner: bool = False,
    ) -> Self:
        """Return a client. This sends nothing and touches no file.

        Args:
            settings: the key, the address, the organization's name and the deadline.
            data_directory: the directory of the pacing files.
            transport: used instead of the network, for example the sandbox in this process. The caller closes it.
            on_name: called with the id and the name of each pod, port and account in an answer.
            is_owner: the requests are the owner's, which go ahead of those of other processes.

        Raises:
            SettingsError: the key is not set, or a proxy or certificate variable of the environment cannot be used.
        """
        if settings.platform_key is None:
            raise SettingsError(f"{variable('platform_key')} is not set.")
        tls = new_tls(certificates=settings.platform_url.startswith("https:") and transport is None)

        def endpoint(*, keep_alive: bool) -> HttpEndpoint:
            return HttpEndpoint(
                settings.platform_url,
                timeout_seconds=settings.request_timeout_seconds,
                keep_alive=keep_alive,
                tls=tls,
                transport=transport,
            )

        pacer = Pacer(
            data_directory,
            interval_seconds=60 / REQUESTS_PER_MINUTE,
            is_owner=is_owner,
            bucket_requests=max(1, REQUESTS_PER_MINUTE - REQUESTS_ON_THE_WAY),
            name=PACING_NAME,
        )
        connection = Connection(
            reads=endpoint(keep_alive=True),
            transfers=endpoint(keep_alive=False),
            key=settings.platform_key,
            pacer=pacer,
        )
        return cls(connection, organization_id=settings.org_id or ONLY_ORGANIZATION, on_name=on_name)

    @property
    def clock_offset_seconds(self) -> float | None:
        """How far Sequence's clock is ahead of ours; see `SequenceClient.clock_offset_seconds`."""
        return self._connection.clock.offset_seconds

    @property
    def statistics(self) -> RequestStatistics:
        """Counts and durations since the client was opened."""
        return self._connection.statistics

    async def token_life(self) -> TokenLife | None:
        """Return ``None``: a key has no life that is known."""
        return None

    async def try_token(self, access_token: str) -> None:  # noqa: ARG002
        """Refuse, because this upstream has no access tokens."""
        raise InvalidRequestError(NO_SIGN_IN)

    async def accounts(
        self,
        organization_id: str | None = None,
        *,
        balances: bool = True,
        urgent: bool = False,
        records: str | None = None,
    ) -> Accounts:
        """List pods, ports and external accounts; see `SequenceClient.accounts`.

        With balances, each account is one more request. Callers share the requests that are being made, unless a
        transfer came between.
        """
        if organization_id is not None:
            self._check_organization(organization_id)
        priority = _priority(urgent)
        with waiting():
            return await self._shared_accounts.result(
                (balances, priority, records), lambda _: self._read_accounts(priority, balances=balances)
            )

    async def with_balance(self, account: HasBalance) -> HasBalance:
        """Read the balance of one pod, port or account; see `SequenceClient.with_balance`."""
        kind = {Pod: "pod", Port: "port", ExternalAccount: "account"}[type(account)]
        with waiting():
            answer = await self._read(_account_read(account.id, f"No {kind} {quoted(account.id)}."))
        balance = read_balance(answer.node)
        self._warn_of_gaps(answer)
        return account.model_copy(update=balance)

    async def pod_detail(self, organization_id: str, pod_id: str) -> PodDetail:
        """Read one pod; see `SequenceClient.pod_detail`."""
        self._check_organization(organization_id)
        not_found = f"No pod {quoted(pod_id)} in organization {quoted(organization_id)}."
        with waiting():
            pod = await self._read(_account_read(pod_id, not_found))
            if not is_pod(pod):
                raise NotFoundError(not_found)
            linked_id = linked_account_id(pod)
            linked = None if linked_id is None else await self._read_if_allowed(_account_read(linked_id, not_found))
            query = (("pageSize", str(RECENT_TRANSFERS)),)
            recent = Read("GET /accounts/{id}/transfers", path_of("accounts", pod_id, "transfers"), query, not_found)
            transfers = await self._read_if_allowed(recent)
        detail = read_pod_detail(pod, pod_id, organization_id, linked, transfers)
        for answer in (pod, linked, transfers):
            self._warn_of_gaps(answer)
        self._observations.learn_from(*detail.recent_transfers)
        return detail

    async def activity_summary(self, *, urgent: bool = False) -> ActivitySummary:
        """Add up this month's transfers, in at most `MAX_SUMMARY_PAGES`; see `SequenceClient.activity_summary`."""
        now = utc_now() + timedelta(seconds=self.clock_offset_seconds or 0)
        start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        totals = Totals()
        with waiting():
            for number in range(1, MAX_SUMMARY_PAGES + 1):
                listed = await self._read_transfers((("from", write_time(start)),), number, _priority(urgent))
                for node in listed.page.items:
                    totals.add(node)
                self._warn_of_gaps(listed.answer)
                totals.complete = totals.complete and listed.is_complete
                if not listed.page.has_next_page:
                    return totals.summary()
        totals.complete = False
        return totals.summary()

    async def activity(
        self,
        organization_id: str,
        *,
        first: int = 10,
        after: str = "",
        only: ActivityFilter | None = None,
        keep: Keep | None = None,
        urgent: bool = False,
    ) -> ActivityPage:
        """Read one page of transfers; see `SequenceClient.activity`. At most `MAX_UPSTREAM_PAGES` are read for it."""
        if not 1 <= first <= MAX_PAGE_TRANSFERS:
            raise InvalidRequestError(f"A page has 1 to {MAX_PAGE_TRANSFERS} transfers.")
        cursor = Cursor.read(after)
        self._check_organization(organization_id)
        collected = Collected(first, only or ActivityFilter(), cursor, keep)
        with waiting():
            for _ in range(MAX_UPSTREAM_PAGES):
                parameters, number = collected.query.parameters(), collected.page_number
                listed = await self._read_transfers(parameters, number, _priority(urgent))
                collected.add(listed)
                self._warn_of_gaps(listed.answer)
                if collected.is_done:
                    break
        page = collected.page()
        self._observations.learn_from(*page.transfers)
        return page

    async def transfer_detail(self, organization_id: str, transfer_id: str) -> TransferDetail:
        """Read one transfer; see `SequenceClient.transfer_detail`. A new one that is not found yet is waited for."""
        self._check_organization(organization_id)
        not_found = f"No transfer {quoted(transfer_id)} in organization {quoted(organization_id)}."
        with waiting():
            answer = await self._read_new_transfer(
                Read("GET /transfers/{id}", path_of("transfers", transfer_id), (), not_found), transfer_id
            )
        if is_simulated(answer.node):
            raise NotFoundError(f"Transfer {quoted(transfer_id)} is a simulation, which moves no money.")
        detail = read_transfer_detail(answer, transfer_id)
        self._warn_of_gaps(answer)
        self._observations.learn_from(detail)
        return detail

    async def read_clock(self) -> None:
        """Read one account of the list; see `SequenceClient.read_clock`."""
        with waiting():
            await self._read(Read("GET /accounts", "/accounts", (("pageSize", "1"),)), Priority.URGENT)

    def check_order(self, order: TransferOrder) -> None:
        """Check what the Platform API cannot do; see `SequenceClient.check_order`."""
        if order.instant:
            raise InvalidRequestError("Sequence's Platform API has no instant transfers. Leave out `instant`.")
        if order.kyc_id is not None:
            raise InvalidRequestError("Sequence's Platform API takes no KYC id. Leave out `kyc_id`.")
        if len(order.description) > MAX_DESCRIPTION_CHARACTERS or not _DESCRIPTION.fullmatch(order.description):
            raise InvalidRequestError(
                f"A description can have at most {MAX_DESCRIPTION_CHARACTERS} letters A to Z, digits and spaces with"
                " Sequence's Platform API. Shorten or leave out `description`."
            )
        if order.amount_cents < MIN_AMOUNT_CENTS:
            raise InvalidRequestError("Sequence's Platform API moves at least 100 cents. Raise `amount_cents`.")

    async def prepare_transfer(self, order: TransferOrder, *, attempt_id: str, caller: str) -> PreparedTransfer:
        """Wait for a turn; see `SequenceClient.prepare_transfer`."""
        body: dict[str, object] = {
            "sourceAccountId": order.source_id,
            "destinationAccountId": order.destination_id,
            "amountInCents": order.amount_cents,
            "simulation": False,
        }
        if order.description:
            body["description"] = order.description
        creation = Creation(body, key=attempt_id, reason=transfer_reason(caller, attempt_id))
        with waiting():
            return _PreparedCreation(self, order, creation, await self._connection.turn(Priority.TRANSFER))

    async def stay_signed_in(self) -> None:
        """Wait until cancelled: there is nothing to renew."""
        await anyio.sleep_forever()

    def stop(self) -> None:
        """Release waiting reads; see `SequenceClient.stop`."""
        self._connection.pacer.stop()

    async def aclose(self) -> None:
        """Cancel running reads and close the connections."""
        await self._shared_accounts.aclose()
        await self._connection.aclose()

    async def _create(
        self, order: TransferOrder, creation: Creation, turn: Turn, check: Check | None
    ) -> TransferReceipt:
        with waiting():
            answer = (await self._connection.create(creation, turn, check)).unread()
        receipt = read_created(answer, order, self._organization_id)
        self._warn_of_gaps(answer)
        self._observations.learn_from(*receipt.transfers)
        for transfer in receipt.transfers:
            self._created[transfer.id] = time.monotonic()
        return receipt

    def _check_organization(self, organization_id: str) -> None:
        if organization_id != self._organization_id:
            raise NotFoundError(f"The account is not a member of organization {quoted(organization_id)}.")

    def _warn_of_gaps(self, answer: Answer | None) -> None:
        if answer is not None:
            self._observations.warn_of_gaps(answer.operation, answer.gaps)

    async def _read(self, read: Read, priority: Priority = Priority.READ) -> Answer:
        return await self._connection.read(read, priority)

    async def _read_if_allowed(self, read: Read) -> Answer | None:
        """Make a read that an answer can do without; ``None`` if the key does not allow it, or there is nothing."""
        try:
            return await self._read(read)
        except (AccessDeniedError, NotFoundError):
            return None

    async def _read_new_transfer(self, read: Read, transfer_id: str) -> Answer:
        for wait_seconds in NEW_TRANSFER_WAITS_SECONDS:
            try:
                return await self._read(read)
            except NotFoundError:
                if not self._is_new(transfer_id):
                    raise
            await anyio.sleep(wait_seconds)
        return await self._read(read)

    def _is_new(self, transfer_id: str) -> bool:
        earliest = time.monotonic() - NEW_TRANSFER_SECONDS
        self._created = {one: created for one, created in self._created.items() if created >= earliest}
        return transfer_id in self._created

    async def _read_accounts(self, priority: Priority, *, balances: bool) -> Accounts:
        summaries, answers, complete = await self._read_summaries(priority, state="ACTIVE")
        known = self._account_ids
        if known is not None and not known.ids.issuperset(one.id for one in summaries):
            self._account_ids = None
        full = await self._read_all(summaries, priority) if balances else {}
        parties = [
            read_account(summary, _node_of(full.get(summary.id)), self._organization_id) for summary in summaries
        ]
        answers += [one for one in full.values() if isinstance(one, Answer)]
        for answer in answers:
            self._warn_of_gaps(answer)
        is_whole = complete and not any(answer.gaps for answer in answers)
        self._observations.learn(*parties)
        return Accounts(
            pods=tuple(one for one in parties if isinstance(one, Pod)),
            ports=tuple(one for one in parties if isinstance(one, Port)),
            accounts=tuple(one for one in parties if isinstance(one, ExternalAccount)),
            organization_ids=(self._organization_id,),
            complete=is_whole and not any(isinstance(one, Unread) for one in full.values()),
        )

    async def _read_summaries(self, priority: Priority, *, state: str) -> tuple[list[Summary], list[Answer], bool]:
        """Read the list of accounts: the accounts, the answers, and whether that was all of it."""
        found: dict[str, Summary] = {}
        answers: list[Answer] = []
        for number in range(1, MAX_ACCOUNT_PAGES + 1):
            query = (("state", state), ("page", str(number)), ("pageSize", str(PAGE_ACCOUNTS)))
            answer = await self._read(Read("GET /accounts", "/accounts", query), priority)
            summaries, has_next_page = read_summaries(answer)
            answers.append(answer)
            for summary in summaries:
                found.setdefault(summary.id, summary)
            if not has_next_page:
                return [*found.values()], answers, True
        return [*found.values()], answers, False

    async def _read_all(self, summaries: list[Summary], priority: Priority) -> dict[str, Answer | Unread]:
        """Read accounts side by side. If one cannot be read, that is all that is missing.

        Raises:
            NotAuthorizedError: Sequence does not accept the key.
            BusyError: there are too many requests.
            StoppingError: the program stops.
        """
        found: dict[str, Answer | Unread] = {}
        waiting_ids = iter([summary.id for summary in summaries])
        failures: list[SequenceError] = []
        lost: list[SequenceError] = []

        async def read_next() -> None:
            for account_id in waiting_ids:
                if failures:
                    return
                if len(lost) >= MAX_LOST_READS:
                    found[account_id] = Unread(str(lost[-1]))
                    continue
                try:
                    found[account_id] = await self._read(_account_read(account_id, "The account is gone."), priority)
                except (NotAuthorizedError, BusyError, StoppingError) as error:
                    failures.append(error)
                except (SequenceError, NotFoundError) as error:
                    found[account_id] = Unread(str(error))
                    if isinstance(error, (NotSentError, TimedOutError, ConnectionLostError)):
                        lost.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(MAX_READS_AT_ONCE, len(summaries))):
                tasks.start_soon(read_next)
        if failures:
            raise failures[0]
        return found

    async def _read_transfers(self, parameters: Parameters, number: int, priority: Priority) -> Listed:
        """Read one page of the transfers of all accounts. If they name an unknown one, the accounts are read again."""
        ids = await self._known_ids(priority)
        try:
            listed = await self._read_transfer_page(ids, parameters, number, priority)
        except (UnexpectedStatusError, AccessDeniedError):
            if not ids.is_old:
                raise
            ids = await self._known_ids(priority, newer_than=ids)  # one was removed, or taken out of the key
            return await self._read_transfer_page(ids, parameters, number, priority)
        unknown = listed.party_ids() - ids.ids - self._foreign_ids
        if not unknown:
            return listed
        ids = await self._known_ids(priority, newer_than=ids)
        if len(self._foreign_ids) < MAX_FOREIGN_IDS:
            self._foreign_ids |= unknown - ids.ids  # the key cannot list these
        return await self._read_transfer_page(ids, parameters, number, priority) if unknown & ids.ids else listed

    async def _read_transfer_page(
        self, ids: "_AccountIds", parameters: Parameters, number: int, priority: Priority
    ) -> Listed:
        if not ids.ids:
            return Listed(Answer("GET /transfers", {}), Page((), has_next_page=False), has_all_accounts=ids.complete)
        accounts = tuple(("accountIds[]", one) for one in sorted(ids.ids))
        paging = (("page", str(number)), ("pageSize", str(PAGE_TRANSFERS)))
        read = Read("GET /transfers", "/transfers", (*accounts, *parameters, *paging))
        answer = await self._read(read, priority)
        return Listed(answer, read_page(answer), has_all_accounts=ids.complete)

    async def _known_ids(self, priority: Priority, newer_than: "_AccountIds | None" = None) -> "_AccountIds":
        """Return the ids of all accounts, also of deleted ones. They are read again if they are not new enough."""
        known = self._account_ids
        if known is None or known is newer_than or known.age_seconds > ACCOUNT_IDS_SECONDS:
            summaries, answers, complete = await self._read_summaries(priority, state="ALL")
            for answer in answers:
                self._warn_of_gaps(answer)
            complete = complete and not any(answer.gaps for answer in answers)
            known = _AccountIds(frozenset(one.id for one in summaries), complete, time.monotonic())
            self._account_ids = known
        return known


class _PreparedCreation(PreparedTransfer):
    def __init__(self, client: PlatformSequenceClient, order: TransferOrder, creation: Creation, turn: Turn) -> None:
        self._client = client
        self._order = order
        self._creation = creation
        self._turn = turn

    async def send(self, check: Check | None = None) -> TransferReceipt:
        """Send the transfer; see `PreparedTransfer.send`."""
        return await self._client._create(self._order, self._creation, self._turn, check)

    async def renew(self) -> None:
        """Fail, because a key cannot be renewed; see `PreparedTransfer.renew`."""
        raise NotAuthorizedError("Sequence does not accept the API key (401). Nothing moved.", advice=NEW_KEY)


@dataclass(frozen=True, slots=True)
class _AccountIds:
    """The ids of all accounts, whether these are all, and when they were read, on the monotonic clock."""

    ids: frozenset[str]
    complete: bool
    read_at: float

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.read_at

    @property
    def is_old(self) -> bool:
        return self.age_seconds > NEW_ACCOUNT_IDS_SECONDS


def _priority(urgent: bool) -> Priority:
    return Priority.URGENT if urgent else Priority.READ


def _account_read(account_id: str, not_found: str) -> Read:
    return Read("GET /accounts/{id}", path_of("accounts", account_id), (), not_found)


def _node_of(full: Answer | Unread | None) -> Node | Unread | None:
    return full.node if isinstance(full, Answer) else full
